//! Websockets over real connections: both directions, how they close, and a span that is linked to the request. Row L3.
#![cfg(all(feature = "websocket", feature = "telemetry"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message};
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use buttress::axum::Websockets;
use buttress::classify::{Ending, Outcome};
use buttress::metrics::Point;
use buttress::settings::Settings;
use buttress::trace::SpanRecord;
use buttress::{Telemetry, context};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Sent;
use tokio_tungstenite::tungstenite::protocol::CloseFrame as SentClose;

type Shared = (Telemetry, Websockets, UnboundedSender<String>);

/// Sends everything back, each message twice; leaves at `leave`, and closes with the code at `close <code>`. Tells its trace
/// at the end.
async fn room(
    upgrade: WebSocketUpgrade,
    State((telemetry, sockets, done)): State<Shared>,
    Path(_): Path<String>,
) -> Response {
    sockets.on_upgrade(upgrade, async move |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let Message::Text(text) = message else { continue };
            match text.strip_prefix("close ") {
                Some(code) => {
                    let code = code.parse().unwrap();
                    socket.send(Message::Close(Some(CloseFrame { code, reason: "asked to".into() }))).await.unwrap();
                }
                None if text == "leave" => break,
                None => {
                    for _ in 0..2 {
                        telemetry
                            .operation("say")
                            .infallible()
                            .run(socket.send(Message::Text(text.clone())))
                            .await
                            .unwrap();
                    }
                }
            }
        }
        drop(socket);
        done.send(context::current().map(|context| context.trace_id().to_string()).unwrap_or_default()).unwrap();
    })
}

struct Server {
    telemetry: Telemetry,
    address: SocketAddr,
    done: UnboundedReceiver<String>,
}

impl Server {
    async fn start(variables: &'static [(&'static str, &'static str)]) -> Self {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let telemetry = Telemetry::new(Settings::read("rooms", find).unwrap());
        let (sender, done) = unbounded_channel();
        let shared = (telemetry.clone(), telemetry.websockets("/rooms/{id}"), sender);
        let app = Router::new().route("/rooms/{id}", any(room)).layer(telemetry.server()).with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { telemetry, address, done }
    }

    async fn connect(&self) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        tokio_tungstenite::client_async(format!("ws://{}/rooms/7", self.address), stream).await.unwrap().0
    }

    /// The span of the socket, once its handler is done.
    async fn socket(&mut self) -> Arc<SpanRecord> {
        self.done.recv().await.unwrap();
        self.span("/rooms/{id}")
    }

    fn span(&self, name: &str) -> Arc<SpanRecord> {
        self.telemetry.latest_spans(100).into_iter().find(|span| span.name == name).unwrap()
    }

    /// How many sockets were closed, by code.
    fn closed(&self) -> Vec<(String, i64)> {
        let families = self.telemetry.metrics().snapshot().families;
        let family = families.into_iter().find(|family| &*family.name == "stream.closed").unwrap();
        let code = |labels: &[buttress::metrics::Label]| {
            labels.iter().find(|label| label.key == "websocket.close.code").unwrap().value.to_string()
        };
        let count = |point: &Point| if let Point::Int(count) = point { *count } else { panic!("{point:?}") };
        let mut all: Vec<_> = family.series.iter().map(|series| (code(&series.labels), count(&series.point))).collect();
        all.sort();
        all
    }
}

fn told(span: &SpanRecord, key: &str) -> Option<String> {
    span.attribute(key).map(ToString::to_string)
}

#[tokio::test]
async fn a_socket_has_a_span_with_both_directions_that_is_linked_to_its_request() {
    let mut server = Server::start(&[]).await;
    let mut client = server.connect().await;
    client.send(Sent::text("hello")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.next().await.unwrap().unwrap(), Sent::text("hello"));
    }
    client.close(Some(SentClose { code: 1000.into(), reason: "".into() })).await.unwrap();
    let socket = server.socket().await;

    let messages = ["received", "received_bytes", "sent", "sent_bytes"]
        .map(|counter| told(&socket, &format!("connection.messages.{counter}")).unwrap());
    assert_eq!(messages, ["1", "5", "2", "10"]);
    let request = server.span("GET /rooms/{id}");
    assert_eq!(request.ending, Some(Ending::Upgraded));
    assert_ne!(socket.trace_id, request.trace_id);
    assert_eq!(socket.links[0].trace.span_id, request.span_id);
    assert_eq!(
        (told(&socket, "websocket.close.code"), told(&socket, "websocket.closed_by")),
        (Some("1000".into()), Some("peer".into()))
    );
    assert_eq!(socket.outcome, Outcome::Ok);
}

#[tokio::test]
async fn what_a_socket_does_belongs_to_its_trace() {
    let mut server = Server::start(&[]).await;
    let mut client = server.connect().await;
    client.send(Sent::text("hello")).await.unwrap();
    client.next().await.unwrap().unwrap();
    client.close(None).await.unwrap();
    let trace = server.done.recv().await.unwrap();
    let (socket, said) = (server.span("/rooms/{id}"), server.span("say"));
    assert_eq!((socket.trace_id.to_string(), said.parent_span_id), (trace, Some(socket.span_id)));
}

#[tokio::test]
async fn how_sockets_close_is_counted_by_code_and_only_trouble_is_an_error() {
    let mut server = Server::start(&[]).await;
    let peer = async |server: &mut Server, code: u16| {
        let mut client = server.connect().await;
        client.close(Some(SentClose { code: code.into(), reason: "".into() })).await.unwrap();
        server.socket().await
    };
    // A tab that was closed, an application's own code, and one that says what went wrong.
    for (code, outcome) in [(1001, Outcome::Ok), (4001, Outcome::Ok), (1008, Outcome::Error)] {
        let socket = peer(&mut server, code).await;
        assert_eq!((told(&socket, "websocket.close.code"), socket.outcome), (Some(code.to_string()), outcome));
    }
    let mut client = server.connect().await;
    client.send(Sent::text("close 1011")).await.unwrap();
    while client.next().await.is_some_and(|message| message.is_ok()) {}
    let socket = server.socket().await;
    assert_eq!(
        (told(&socket, "websocket.closed_by"), told(&socket, "error.type")),
        (Some("server".into()), Some("1011".into()))
    );

    let counted = [("1001", 1), ("1008", 1), ("1011", 1), ("_OTHER", 1)].map(|(code, count)| (code.to_owned(), count));
    assert_eq!(server.closed(), counted);
}

#[tokio::test]
async fn a_peer_that_vanishes_is_an_error_and_a_handler_that_leaves_is_none() {
    let mut server = Server::start(&[]).await;
    drop(server.connect().await);
    let socket = server.socket().await;
    assert_eq!((socket.outcome, told(&socket, "error.type")), (Outcome::Error, Some("1006".into())));
    assert_eq!(told(&socket, "websocket.closed_by"), None);

    let mut client = server.connect().await;
    client.send(Sent::text("leave")).await.unwrap();
    assert_eq!(server.socket().await.outcome, Outcome::Ok);
    assert_eq!(server.closed(), [("1006".to_owned(), 2)]);
}

#[tokio::test]
async fn a_socket_of_a_service_that_is_not_observed_has_no_span() {
    let mut server = Server::start(&[("BUTTRESS_ENABLED", "false")]).await;
    let mut client = server.connect().await;
    client.close(None).await.unwrap();
    assert_eq!(server.done.recv().await.unwrap(), "");
    assert!(server.telemetry.latest_spans(10).is_empty());
}
