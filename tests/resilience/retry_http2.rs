//! What HTTP/2 says of requests that it did not process, by a real client and a server that refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use buttress::retry::{Reason, ReplayBody, RetryLayer, RetryPolicy};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;
use tower::{BoxError, Layer, Service, ServiceExt};

/// What the server does with a connection's first stream. It answers everything else.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Refuse,
    GoAway,
    Reset,
}

type Sender = SendRequest<ReplayBody<Full<Bytes>>>;

/// Connects for each connection that is gone.
#[derive(Clone)]
struct Client {
    first: First,
    connections: Arc<AtomicUsize>,
    open: Arc<Mutex<Option<Sender>>>,
}

impl Client {
    fn new(first: First) -> Self {
        Self { first, connections: Arc::default(), open: Arc::default() }
    }

    async fn connect(&self) -> Result<Sender, BoxError> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let nth = self.connections.fetch_add(1, Relaxed);
        tokio::spawn(serve(theirs, (nth == 0).then_some(self.first)));
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(ours)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn serve(io: tokio::io::DuplexStream, mut first: Option<First>) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    if first == Some(First::GoAway) {
        // Streams that come later are above the last that the GOAWAY names.
        connection.graceful_shutdown();
        while connection.accept().await.is_some() {}
        return;
    }
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        match first.take() {
            Some(First::Refuse) => respond.send_reset(h2::Reason::REFUSED_STREAM),
            Some(First::Reset) => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            _ => drop(respond.send_response(Response::new(()), true)),
        }
    }
}

impl Service<Request<ReplayBody<Full<Bytes>>>> for Client {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Full<Bytes>>>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move {
            let mut open = client.open.lock().await;
            let mut sender = match open.take().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender,
                None => client.connect().await?,
            };
            *open = Some(sender.clone());
            drop(open);
            Ok(sender.send_request(request).await?)
        })
    }
}

fn request(method: Method) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri("http://shop.example/orders");
    request.body(Full::from("order")).expect("a valid request")
}

#[tokio::test]
async fn a_stream_that_was_refused_is_sent_again_and_was_no_attempt() {
    let layer = RetryLayer::new().attempts(2);
    let answer = layer.layer(Client::new(First::Refuse)).oneshot(request(Method::PUT)).await.unwrap();
    let stats = layer.stats();
    assert_eq!((answer.status().as_u16(), stats.repeats(Reason::Unprocessed)), (200, 1));
    assert_eq!((stats.budget.withdrawn, stats.waited.as_nanos()), (0, 0));
}

#[tokio::test]
async fn a_stream_that_broke_otherwise_may_have_been_processed() {
    let layer = RetryLayer::new().policy(RetryPolicy::new().unprocessed_of_every_method(true));
    layer.layer(Client::new(First::Reset)).oneshot(request(Method::POST)).await.unwrap_err();
    assert_eq!(layer.stats().all_repeats(), 0);
}

#[tokio::test]
async fn a_request_that_must_not_be_sent_twice_is_when_it_was_refused_and_that_is_asked_for() {
    let policy = RetryPolicy::new().unprocessed_of_every_method(true);
    for (layer, sent) in [(RetryLayer::new(), false), (RetryLayer::new().policy(policy), true)] {
        let answer = layer.layer(Client::new(First::Refuse)).oneshot(request(Method::POST)).await;
        assert_eq!((answer.is_ok(), layer.stats().repeats(Reason::Unprocessed)), (sent, u64::from(sent)));
    }
}

#[tokio::test]
async fn a_connection_that_goes_away_before_the_stream_is_made_anew() {
    let layer = RetryLayer::new();
    let client = Client::new(First::GoAway);
    let answer = layer.layer(client.clone()).oneshot(request(Method::PUT)).await.unwrap();
    assert_eq!((answer.status().as_u16(), client.connections.load(Relaxed)), (200, 2));
    assert_eq!(layer.stats().repeats(Reason::Unprocessed), 1, "{:?}", layer.stats());
}
