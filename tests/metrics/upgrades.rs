//! Upgraded connections, over a real one: what the layer sees of them, and what a wrapper adds.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use buttress::metrics::source::{StreamKind, StreamMetrics};
use buttress::metrics::{Registry, RequestMetricsLayer};
use buttress_tests::numbers::{count, total};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const TUNNEL: [(&str, &str); 2] = [("stream.kind", "upgrade"), ("http.route", "/tunnel")];

/// Sends back what comes until the caller has had enough.
async fn echo(mut connection: impl AsyncRead + AsyncWrite + Unpin) {
    let mut bytes = [0; 64];
    while let Ok(read @ 1..) = connection.read(&mut bytes).await {
        connection.write_all(&bytes[..read]).await.expect("the caller reads");
    }
}

/// A server with a tunnel, which is wrapped or not, and where it tells that one was closed.
async fn server(registry: &Registry, wrap: bool) -> (SocketAddr, UnboundedReceiver<()>) {
    let (closed, told) = unbounded_channel();
    let metrics = wrap.then(|| StreamMetrics::for_route(registry, StreamKind::Upgrade, "/tunnel"));
    let tunnel = async move |request: Request| switch(request, metrics, closed);
    let app = Router::new().route("/tunnel", any(tunnel)).layer(RequestMetricsLayer::server(registry));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, told)
}

fn switch(request: Request, metrics: Option<StreamMetrics>, closed: UnboundedSender<()>) -> Response {
    tokio::spawn(async move {
        let connection = TokioIo::new(hyper::upgrade::on(request).await.expect("upgraded"));
        match metrics {
            Some(metrics) => echo(metrics.metered_io(connection)).await,
            None => echo(connection).await,
        }
        closed.send(()).expect("the test waits for it");
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response.header("connection", "upgrade").header("upgrade", "echo").body(Default::default()).expect("an answer")
}

async fn open(address: SocketAddr, request_line: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{request_line}\r\nhost: here\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

async fn ping(stream: &mut TcpStream) {
    let mut answer = [0; 4];
    stream.write_all(b"ping").await.expect("it reads");
    stream.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn an_upgrade_that_nobody_wraps_is_opened_and_no_latency() {
    let registry = Registry::new();
    let (address, mut closed) = server(&registry, false).await;
    let mut stream = open(address, "GET /tunnel HTTP/1.1").await;
    ping(&mut stream).await;
    drop(stream);
    closed.recv().await.expect("it is closed");
    assert_eq!(total(&registry, "stream.opened", &TUNNEL), 1);
    // Nobody knows how long it lasted, and nobody claims to.
    assert_eq!((total(&registry, "stream.open", &TUNNEL), count(&registry, "stream.duration", &TUNNEL)), (0, 0));
    assert_eq!(count(&registry, "http.server.request.duration", &[]), 0);
    assert_eq!(total(&registry, "buttress.http.server.requests", &[("buttress.ending", "upgraded")]), 1);
}

#[tokio::test]
async fn a_wrapped_upgrade_is_counted_once_with_its_bytes_and_until_it_is_closed() {
    let registry = Registry::new();
    let (address, mut closed) = server(&registry, true).await;
    let (mut one, mut other) =
        (open(address, "GET /tunnel HTTP/1.1").await, open(address, "GET /tunnel HTTP/1.1").await);
    ping(&mut one).await;
    for _ in 0..2 {
        ping(&mut other).await;
    }
    assert_eq!((total(&registry, "stream.opened", &TUNNEL), total(&registry, "stream.open", &TUNNEL)), (2, 2));
    for (stream, left) in [(one, 1), (other, 0)] {
        drop(stream);
        closed.recv().await.expect("it is closed");
        assert_eq!(total(&registry, "stream.open", &TUNNEL), left);
    }
    for way in ["in", "out"] {
        let labels = [TUNNEL[0], TUNNEL[1], ("stream.direction", way)];
        assert_eq!(total(&registry, "stream.bytes", &labels), 12);
        assert_eq!(total(&registry, "stream.messages", &labels), 0, "bytes are no messages");
    }
    assert_eq!((total(&registry, "stream.opened", &[]), count(&registry, "stream.duration", &TUNNEL)), (2, 2));
    assert_eq!(total(&registry, "stream.errors", &[]), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_wrapped_is_open_as_long_as_it_is_kept_and_its_errors_are_counted() {
    let registry = Registry::new();
    let (connection, other_end) = tokio::io::duplex(8);
    let mut connection = StreamMetrics::new(&registry, StreamKind::Upgrade).metered_io(connection);
    tokio::time::advance(Duration::from_secs(60)).await;
    drop(other_end);
    connection.write_all(b"hello?").await.expect_err("nobody is there");
    drop(connection);
    assert_eq!(buttress_tests::numbers::sum(&registry, "stream.duration", &[]), 60.0);
    assert_eq!((total(&registry, "stream.errors", &[]), total(&registry, "stream.opened", &[])), (1, 1));
}
