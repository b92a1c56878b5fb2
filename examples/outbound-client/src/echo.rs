//! The callee: answers with the headers that came; `/busy` only to who asks again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use tokio::net::TcpListener;

/// Serves on a free port until the program ends.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new().route("/busy", get(busy)).fallback(echo);
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(address)
}

async fn busy(headers: HeaderMap) -> Result<String, StatusCode> {
    static WAS_ASKED: AtomicBool = AtomicBool::new(false);
    if WAS_ASKED.swap(true, Ordering::Relaxed) { Ok(echo(headers).await) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
}

pub(crate) async fn echo(headers: HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect()
}
