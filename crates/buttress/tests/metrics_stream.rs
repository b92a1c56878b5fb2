//! Streams are opened and closed exactly once each, and what passes through them is counted exactly.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::time::Duration;

use buttress::metrics::source::{StreamKind, StreamMetrics, StreamStats, stream_totals};
use buttress::metrics::{FamilySnapshot, Label, Point, Registry};

fn other(registry: &Registry) -> StreamStats {
    stream_totals(&registry.snapshot(), StreamKind::Other)
}

fn family(registry: &Registry, name: &str) -> FamilySnapshot {
    registry.snapshot().families.into_iter().find(|family| *family.name == *name).unwrap()
}

/// How many streams were closed, and the sum of their durations in seconds.
fn lifetimes(registry: &Registry) -> (u64, f64) {
    let family = family(registry, "stream.duration");
    let points = family.series.iter().map(|series| match &series.point {
        Point::Histogram(histogram) => (histogram.counts.iter().sum::<u64>(), histogram.sum),
        point => panic!("{point:?}"),
    });
    points.fold((0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1))
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_two_hours_lies_in_a_bucket_of_its_own_length() {
    let registry = Registry::new();
    let open = StreamMetrics::new(&registry, StreamKind::Sse).open();
    tokio::time::advance(Duration::from_secs(2 * 3600)).await;
    drop(open);
    assert_eq!(lifetimes(&registry), (1, 7200.0));
    let Point::Histogram(histogram) = &family(&registry, "stream.duration").series[0].point else { panic!() };
    let bucket = histogram.counts.iter().position(|count| *count == 1).unwrap();
    assert_eq!((histogram.bounds[bucket - 1], histogram.bounds[bucket]), (3600.0, 4.0 * 3600.0));
}

#[tokio::test]
async fn a_stream_whose_task_panics_or_is_aborted_is_closed() {
    let registry = Registry::new();
    let metrics = StreamMetrics::new(&registry, StreamKind::Other);
    let open = metrics.open();
    let panicking = tokio::spawn(async move {
        open.message_out(7);
        panic!("on purpose");
    });
    assert!(panicking.await.unwrap_err().is_panic());
    let open = metrics.open();
    let endless = tokio::spawn(async move {
        open.error();
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    assert_eq!((other(&registry).open, other(&registry).opened), (1, 2));
    endless.abort();
    assert!(endless.await.unwrap_err().is_cancelled());
    assert_eq!((other(&registry).open, other(&registry).errors, lifetimes(&registry).0), (0, 1, 2));
}

#[test]
fn a_stream_is_counted_with_its_kind_and_its_route() {
    let registry = Registry::new();
    let chat = StreamMetrics::for_route(&registry, StreamKind::Websocket, "/rooms/{id}").open();
    chat.message_in(3);
    drop(StreamMetrics::new(&registry, StreamKind::Websocket).open());
    let routed = |name: &str| {
        let text = |label: &Label| format!("{}={}", label.key, label.value);
        let all = family(&registry, name).series.into_iter();
        let mut all: Vec<_> = all.map(|series| series.labels.iter().map(text).collect::<Vec<_>>().join(" ")).collect();
        all.retain(|labels| labels.contains("http.route"));
        all.sort();
        all
    };
    let both = "stream.kind=websocket http.route=/rooms/{id}";
    assert_eq!(routed("stream.open"), [both]);
    assert_eq!(routed("stream.messages"), ["in", "out"].map(|way| format!("{both} stream.direction={way}")));
    let all = stream_totals(&registry.snapshot(), StreamKind::Websocket);
    assert_eq!((all.open, all.opened, all.messages_in, all.bytes_in), (1, 2, 1, 3));
    assert_eq!(other(&registry), StreamStats::default());
}

#[cfg(feature = "stream")]
mod metered {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use buttress::metrics::source::Metered;
    use bytes::Bytes;
    use futures_util::{Sink, SinkExt, Stream, StreamExt};
    use proptest::prelude::*;

    use super::*;

    /// Does what it is told, once.
    #[derive(Debug, Default)]
    struct Script {
        next: Option<Option<Result<Bytes, ()>>>,
        done: Option<Result<(), ()>>,
    }

    impl Stream for Script {
        type Item = Result<Bytes, ()>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.next.take().map_or(Poll::Pending, Poll::Ready)
        }
    }

    impl Sink<Bytes> for Script {
        type Error = ();

        fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            self.done.take().map_or(Poll::Pending, Poll::Ready)
        }

        fn start_send(mut self: Pin<&mut Self>, _: Bytes) -> Result<(), ()> {
            self.done.take().unwrap()
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
            self.poll_ready(cx)
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
            self.poll_ready(cx)
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Open,
        /// `None` inside is an error; the outer one is the stream's end.
        Receive(Option<Option<usize>>),
        Wait,
        Send(usize, Result<(), ()>),
        Ready(Result<(), ()>),
        Flush(Result<(), ()>),
        Close(Result<(), ()>),
        Drop,
        TakeOut,
    }

    fn act() -> impl Strategy<Value = Act> {
        let outcome = || prop_oneof![4 => Just(Ok(())), 1 => Just(Err(()))];
        prop_oneof![
            4 => Just(Act::Open),
            8 => (0..1000_usize).prop_map(|size| Act::Receive(Some(Some(size)))),
            2 => Just(Act::Receive(Some(None))),
            1 => Just(Act::Receive(None)),
            1 => Just(Act::Wait),
            8 => (0..1000_usize, outcome()).prop_map(|(size, outcome)| Act::Send(size, outcome)),
            1 => outcome().prop_map(Act::Ready),
            1 => outcome().prop_map(Act::Flush),
            1 => outcome().prop_map(Act::Close),
            2 => Just(Act::Drop),
            1 => Just(Act::TakeOut),
        ]
    }

    /// Does it to the wrapped stream, and says whether the stream goes on.
    fn perform(socket: &mut Metered<Script>, act: Act) {
        let mut cx = Context::from_waker(Waker::noop());
        let script = socket.get_mut();
        let bytes = |size| Bytes::from(vec![0; size]);
        match act {
            Act::Receive(next) => script.next = Some(next.map(|size| size.map(bytes).ok_or(()))),
            Act::Send(_, done) | Act::Ready(done) | Act::Flush(done) | Act::Close(done) => script.done = Some(done),
            _ => {}
        }
        let mut socket = Pin::new(socket);
        match act {
            Act::Receive(_) => assert!(socket.poll_next(&mut cx).is_ready()),
            Act::Wait => {
                assert!(socket.as_mut().poll_next(&mut cx).is_pending());
                assert!(socket.poll_close(&mut cx).is_pending());
            }
            Act::Send(size, done) => assert_eq!(socket.start_send(bytes(size)), done),
            Act::Ready(done) => assert_eq!(socket.poll_ready(&mut cx), Poll::Ready(done)),
            Act::Flush(done) => assert_eq!(socket.poll_flush(&mut cx), Poll::Ready(done)),
            Act::Close(done) => assert_eq!(socket.poll_close(&mut cx), Poll::Ready(done)),
            Act::Open | Act::Drop | Act::TakeOut => unreachable!("of the caller"),
        }
    }

    /// What that is by hand; `is_open` is of the stream that it happens to.
    fn account(stats: &mut StreamStats, is_open: &mut bool, act: Act) {
        let ends = matches!(act, Act::Receive(None) | Act::Close(_) | Act::Drop | Act::TakeOut);
        if ends && std::mem::take(is_open) {
            stats.open -= 1;
        }
        match act {
            Act::Receive(Some(Some(size))) => {
                stats.messages_in += 1;
                stats.bytes_in += size as u64;
            }
            Act::Send(size, Ok(())) => {
                stats.messages_out += 1;
                stats.bytes_out += size as u64;
            }
            Act::Receive(Some(None))
            | Act::Send(_, Err(()))
            | Act::Ready(Err(()))
            | Act::Flush(Err(()))
            | Act::Close(Err(())) => stats.errors += 1,
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn opened_is_closed_plus_open_and_every_count_is_exact(
            acts in prop::collection::vec((act(), any::<prop::sample::Index>()), 1..120),
        ) {
            let registry = Registry::new();
            let metrics = StreamMetrics::new(&registry, StreamKind::Other);
            let mut sockets: Vec<(Metered<Script>, bool)> = Vec::new();
            let mut expected = StreamStats::default();
            for (act, which) in acts {
                if matches!(act, Act::Open) || sockets.is_empty() {
                    sockets.push((metrics.metered(Script::default()), true));
                    expected.open += 1;
                    expected.opened += 1;
                    continue;
                }
                let at = which.index(sockets.len());
                account(&mut expected, &mut sockets[at].1, act);
                match act {
                    Act::Drop => drop(sockets.swap_remove(at)),
                    Act::TakeOut => drop(sockets.swap_remove(at).0.into_inner()),
                    _ => perform(&mut sockets[at].0, act),
                }
                let seen = other(&registry);
                prop_assert_eq!(seen, expected);
                prop_assert_eq!(seen.opened, seen.open + lifetimes(&registry).0);
            }
            drop(sockets);
            prop_assert_eq!(other(&registry).open, 0);
            prop_assert_eq!(lifetimes(&registry).0, expected.opened);
        }
    }

    #[test]
    fn a_wrapped_stream_knows_its_length_and_its_end_as_the_stream_itself_does() {
        use futures_util::FutureExt;
        use futures_util::stream::FusedStream;

        let metrics = StreamMetrics::new(&Registry::new(), StreamKind::Other);
        let mut stream = metrics.metered(futures_util::stream::iter(["one", "two"]).fuse());
        assert_eq!((stream.size_hint(), stream.is_terminated()), ((2, Some(2)), false));
        assert_eq!(stream.next().now_or_never(), Some(Some("one")));
        assert_eq!((stream.size_hint(), stream.is_terminated()), ((1, Some(1)), false));
        while stream.next().now_or_never().flatten().is_some() {}
        assert!(stream.is_terminated());
    }

    #[tokio::test]
    async fn a_sink_and_a_stream_between_two_tasks_count_alike() {
        let registry = Registry::new();
        let (sender, receiver) = tokio::sync::mpsc::channel::<String>(2);
        let sender = futures_util::sink::unfold(sender, async |sender, text| sender.send(text).await.map(|()| sender));
        let receiver =
            futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let mut sender = Box::pin(StreamMetrics::new(&registry, StreamKind::Other).metered(sender));
        let receiver = StreamMetrics::new(&registry, StreamKind::Upgrade).metered(receiver);
        let sending = tokio::spawn(async move {
            for length in 0..100 {
                sender.send("é".repeat(length)).await.unwrap();
            }
        });
        assert_eq!(receiver.count().await, 100);
        sending.await.unwrap();
        let (sent, received) = (other(&registry), stream_totals(&registry.snapshot(), StreamKind::Upgrade));
        assert_eq!((sent.messages_out, sent.bytes_out, sent.open), (100, 9900, 0));
        assert_eq!((received.messages_in, received.bytes_in, received.open), (100, 9900, 0));
    }
}

#[cfg(feature = "websocket")]
mod websocket {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::extract::ws::WebSocket;
    use axum::extract::{State, WebSocketUpgrade};
    use axum::response::Response;
    use axum::routing::any;
    use buttress::metrics::RequestMetricsLayer;
    use futures_util::{SinkExt, StreamExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    /// Metrics of the sockets, and whom to tell that a handler is done.
    type Shared = (StreamMetrics, UnboundedSender<()>);

    /// Sends everything back, by the methods that axum's own socket has.
    async fn echo(upgrade: WebSocketUpgrade, State((metrics, done)): State<Shared>) -> Response {
        upgrade.on_upgrade(async move |socket| {
            let mut socket = metrics.websocket(socket);
            while let Some(Ok(message)) = socket.recv().await {
                let is_data =
                    matches!(message, axum::extract::ws::Message::Text(_) | axum::extract::ws::Message::Binary(_));
                if is_data && socket.send(message).await.is_err() {
                    break;
                }
            }
            drop(socket);
            done.send(()).unwrap();
        })
    }

    /// Answers each message with two, over halves of the socket.
    async fn twice(upgrade: WebSocketUpgrade, State((metrics, done)): State<Shared>) -> Response {
        let handle = async |socket: WebSocket, metrics: StreamMetrics| {
            let (mut sender, mut receiver) = metrics.websocket(socket).split();
            while let Some(Ok(axum::extract::ws::Message::Text(text))) = receiver.next().await {
                for _ in 0..2 {
                    sender.send(axum::extract::ws::Message::Text(text.clone())).await.unwrap();
                }
            }
        };
        upgrade.on_upgrade(async move |socket| {
            handle(socket, metrics).await;
            done.send(()).unwrap();
        })
    }

    struct Server {
        registry: Registry,
        address: SocketAddr,
        done: UnboundedReceiver<()>,
    }

    impl Server {
        async fn start() -> Self {
            Self::serve(Registry::new(), |app, _| app).await
        }

        /// With a layer that sees the upgrades.
        async fn watched() -> Self {
            Self::serve(Registry::new(), |app, registry| app.layer(RequestMetricsLayer::server(registry))).await
        }

        async fn serve(registry: Registry, layered: fn(Router, &Registry) -> Router) -> Self {
            let (sender, done) = unbounded_channel();
            let shared = (StreamMetrics::new(&registry, StreamKind::Websocket), sender);
            let app = Router::new().route("/echo", any(echo)).route("/twice", any(twice)).with_state(shared);
            let app = layered(app, &registry);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { axum::serve(listener, app).await });
            Self { registry, address, done }
        }

        async fn connect(&self, path: &str) -> WebSocketStream<TcpStream> {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let url = format!("ws://{}{path}", self.address);
            tokio_tungstenite::client_async(url, stream).await.unwrap().0
        }

        fn stats(&self) -> StreamStats {
            stream_totals(&self.registry.snapshot(), StreamKind::Websocket)
        }
    }

    #[tokio::test]
    async fn messages_of_a_socket_are_counted_and_its_control_frames_are_not() {
        let mut server = Server::start().await;
        let mut client = server.connect("/echo").await;
        for message in [Message::text("héllo"), Message::binary(vec![7; 300])] {
            client.send(message.clone()).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), message);
        }
        client.send(Message::Ping("are you there".into())).await.unwrap();
        assert!(client.next().await.unwrap().unwrap().is_pong());
        let stats = server.stats();
        assert_eq!((stats.open, stats.opened), (1, 1));
        client.close(None).await.unwrap();
        server.done.recv().await.unwrap();
        let stats = server.stats();
        assert_eq!((stats.messages_in, stats.bytes_in), (2, 306));
        assert_eq!((stats.messages_out, stats.bytes_out), (2, 306));
        assert_eq!((stats.open, stats.opened, stats.errors), (0, 1, 0));
        assert_eq!(lifetimes(&server.registry).0, 1);
    }

    #[tokio::test]
    async fn a_wrapped_socket_that_the_layer_has_seen_upgraded_is_counted_once() {
        let mut server = Server::watched().await;
        for nth in 1..=3 {
            let mut client = server.connect("/echo").await;
            client.send(Message::text("hello")).await.unwrap();
            client.next().await.unwrap().unwrap();
            assert_eq!((server.stats().open, server.stats().opened, lifetimes(&server.registry).0), (1, nth, nth - 1));
            client.close(None).await.unwrap();
            server.done.recv().await.unwrap();
        }
        let opened = family(&server.registry, "stream.opened").series;
        let routed = opened.iter().filter(|series| series.labels.iter().any(|label| label.key == "http.route"));
        let routed: Vec<_> = routed.map(|series| &series.point).collect();
        assert_eq!(routed, [&Point::Int(3)], "by the layer, which knows that it is a websocket and its route");
        assert_eq!((server.stats().open, server.stats().messages_in), (0, 3));
    }

    #[tokio::test]
    async fn a_client_that_vanishes_is_an_error_and_one_close() {
        let mut server = Server::start().await;
        let mut client = server.connect("/echo").await;
        client.send(Message::text("last words")).await.unwrap();
        client.next().await.unwrap().unwrap();
        drop(client);
        server.done.recv().await.unwrap();
        let stats = server.stats();
        assert_eq!((stats.open, stats.opened, stats.errors, stats.messages_in), (0, 1, 1, 1));
        assert_eq!(lifetimes(&server.registry).0, 1);
    }

    #[tokio::test]
    async fn a_socket_may_be_split() {
        let mut server = Server::start().await;
        let mut clients = [server.connect("/twice").await, server.connect("/twice").await];
        for client in &mut clients {
            client.send(Message::text("abc")).await.unwrap();
            for _ in 0..2 {
                assert_eq!(client.next().await.unwrap().unwrap(), Message::text("abc"));
            }
        }
        assert_eq!(server.stats().open, 2);
        for mut client in clients {
            client.close(None).await.unwrap();
            server.done.recv().await.unwrap();
        }
        let stats = server.stats();
        assert_eq!((stats.messages_in, stats.messages_out, stats.bytes_out), (2, 4, 12));
        assert_eq!((stats.open, stats.opened, stats.errors), (0, 2, 0));
    }
}
