//! The same over a real connection, where the server stops polling bodies and drops them as it likes.
#![cfg(all(feature = "trace", feature = "axum"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get as on_get;
use buttress::classify::{Ending, Outcome};
use buttress::trace::{SpanRecord, SpanSink, Spans, TraceLayer};
use bytes::Bytes;
use http_body_util::channel::Channel;
use support::attribute;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

struct Tell(UnboundedSender<Arc<SpanRecord>>);

impl SpanSink for Tell {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        spans.iter().for_each(|span| drop(self.0.send(Arc::clone(span))));
    }
}

/// A traced server, and its spans as they end.
async fn serve(routes: Router) -> (TcpStream, UnboundedReceiver<Arc<SpanRecord>>) {
    let (tell, told) = unbounded_channel();
    let app = routes.layer(TraceLayer::server(Spans::new().with_sink(Tell(tell))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await });
    (TcpStream::connect(address).await.unwrap(), told)
}

async fn send(connection: &mut TcpStream, method: &str, path: &str) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: shop.example:81\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
}

/// Reads until this has come.
async fn read_until(connection: &mut TcpStream, end: &str) {
    let mut read = Vec::new();
    while !read.windows(end.len()).any(|window| window == end.as_bytes()) {
        assert_ne!(connection.read_buf(&mut read).await.unwrap(), 0, "closed before {end:?}");
    }
}

#[tokio::test]
async fn an_answer_that_was_sent_whole_is_complete_and_knows_its_peer() {
    let (mut connection, mut spans) = serve(Router::new().route("/items/{id}", on_get(async || "an item"))).await;
    send(&mut connection, "GET", "/items/7").await;
    read_until(&mut connection, "an item").await;
    let span = spans.recv().await.unwrap();
    assert_eq!((span.name.as_ref(), span.ending), ("GET /items/{id}", Some(Ending::Complete)));
    let local = connection.local_addr().unwrap();
    assert_eq!(attribute(&span, "network.peer.address").unwrap(), local.ip().to_string());
    assert_eq!(attribute(&span, "network.peer.port").unwrap(), local.port().to_string());
    assert_eq!(attribute(&span, "server.port").unwrap(), "81");
}

#[tokio::test]
async fn a_head_request_is_complete_although_its_body_is_never_polled() {
    let (mut connection, mut spans) = serve(Router::new().route("/", on_get(async || "an item"))).await;
    send(&mut connection, "HEAD", "/").await;
    read_until(&mut connection, "\r\n\r\n").await;
    let span = spans.recv().await.unwrap();
    assert_eq!((span.name.as_ref(), span.ending), ("HEAD /", Some(Ending::Complete)));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_is_cancelled() {
    let (arrived, mut arrival) = unbounded_channel();
    let handler = async move || {
        arrived.send(()).unwrap();
        std::future::pending::<&str>().await
    };
    let (mut connection, mut spans) = serve(Router::new().route("/", on_get(handler))).await;
    send(&mut connection, "GET", "/").await;
    arrival.recv().await.unwrap();
    drop(connection);
    let span = spans.recv().await.unwrap();
    assert_eq!((span.ending, span.outcome), (Some(Ending::DroppedBeforeHead), Outcome::Cancelled));
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_cancelled() {
    let handler = async || {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        tokio::spawn(async move {
            sender.send_data(Bytes::from_static(b"tick")).await.unwrap();
            std::future::pending::<()>().await;
        });
        Body::new(body)
    };
    let (mut connection, mut spans) = serve(Router::new().route("/", on_get(handler))).await;
    send(&mut connection, "GET", "/").await;
    read_until(&mut connection, "tick").await;
    drop(connection);
    let span = spans.recv().await.unwrap();
    assert_eq!((span.ending, span.outcome), (Some(Ending::DroppedInBody), Outcome::Cancelled));
    assert_eq!(attribute(&span, "http.response.status_code").unwrap(), "200");
}
