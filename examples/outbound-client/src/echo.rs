//! The callee: answers with the headers that came.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::http::HeaderMap;
use tokio::net::TcpListener;

/// Serves on a free port until the program ends.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new().fallback(echo);
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(address)
}

async fn echo(headers: HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect()
}
