//! The callee: answers with the headers that came, over HTTP and gRPC; where it is busy, only to who asks again.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;

/// Who has asked before.
type Asked = Arc<Mutex<HashSet<String>>>;

/// Serves on a free port until the program ends.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route("/busy/{who}", get(busy))
        .route("/shop.Shelf/Look", post(look))
        .route("/shop.Shelf/LookWhileBusy", post(look_while_busy))
        .fallback(echo)
        .with_state(Asked::default());
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(address)
}

fn is_first(asked: &Asked, who: &str) -> bool {
    asked.lock().expect("nobody panics with the lock").insert(who.to_owned())
}

async fn busy(State(asked): State<Asked>, Path(who): Path<String>, headers: HeaderMap) -> Result<String, StatusCode> {
    if is_first(&asked, &who) { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(echo(headers).await) }
}

pub(crate) async fn echo(headers: HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect()
}

/// gRPC by hand, so that the example needs no generated code: an empty message, and what came as metadata.
async fn look(headers: HeaderMap) -> Response {
    let empty = Full::new(Bytes::from_static(&[0; 5]));
    let ok = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let mut response = Response::new(Body::new(empty.with_trailers(async { Some(Ok(ok)) })));
    let metadata = response.headers_mut();
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    for name in [HeaderName::from_static("traceparent"), HeaderName::from_static("baggage")] {
        if let Some(value) = headers.get(&name) {
            metadata.insert(name, value.clone());
        }
    }
    response
}

async fn look_while_busy(State(asked): State<Asked>, headers: HeaderMap) -> Response {
    if is_first(&asked, "tonic") {
        return ([(CONTENT_TYPE.as_str(), "application/grpc"), ("grpc-status", "14")], ()).into_response();
    }
    look(headers).await
}
