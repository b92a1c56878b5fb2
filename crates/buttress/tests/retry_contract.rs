//! What tower and whoever polls may rely on: readiness, clones, cancellation anywhere, bodies, hedges.
#![cfg(feature = "retry")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::retry::{Hedge, ReplayBody, ResponseFuture, Retry, RetryBudget, RetryLayer};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use retry_support::{BoxError, Frames, Reply, Server, get, request};

#[path = "support/retry.rs"]
mod retry_support;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn status(code: u16) -> Reply {
    Reply::Status(code, HeaderMap::new())
}

fn steady() -> RetryLayer {
    RetryLayer::new().backoff(Backoff::constant(MS(100)))
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_polled_ready_is_the_one_that_is_called() {
    // The server panics when it is called without having said that it is ready, also for repeats.
    let server = Server::replies([status(503), status(503), status(200)]);
    let mut service = steady().layer(server.clone());
    for _ in 0..2 {
        let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await.unwrap();
        let _clone_takes_no_readiness_away = ready.clone();
        ready.call(get()).await.unwrap();
    }
    assert_eq!(server.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_service_is_cloned_only_for_repeats() {
    let server = Server::replies([]);
    let mut service = steady().layer(server.clone());
    let before = server.clones();
    for method in [Method::GET, Method::POST] {
        let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await.unwrap();
        ready.call(request(method, &[], "body")).await.unwrap();
    }
    assert_eq!(server.clones(), before);
    server.reply([status(503)]);
    ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await.unwrap().call(get()).await.unwrap();
    assert_eq!(server.clones(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_its_budget_and_its_numbers() {
    let layer = steady().attempts(2).budget(RetryBudget::of(0.0, 0.001).unwrap());
    let (one, other) = (layer.layer(Server::always(status(503))), layer.clone().layer(Server::always(status(503))));
    for _ in 0..2 {
        one.clone().oneshot(get()).await.unwrap();
        other.clone().oneshot(get()).await.unwrap();
    }
    assert_eq!((layer.stats().budget.withdrawn, layer.stats().budget.denied), (3, 1));
    assert_eq!(layer.stats().all_repeats(), 3);
}

#[test]
fn service_future_and_body_are_send_when_their_parts_are() {
    fn check<T: Send>() {}
    fn check_sync<T: Send + Sync>() {}
    check_sync::<RetryLayer>();
    check_sync::<Retry<Server>>();
    check::<ResponseFuture<Server, <Server as Service<Request<ReplayBody<Full<Bytes>>>>>::Future, Full<Bytes>>>();
    check_sync::<ReplayBody<Full<Bytes>>>();
    // A service need not be `Sync`.
    type Boxed = tower::util::BoxCloneService<Request<ReplayBody<Full<Bytes>>>, http::Response<Frames>, BoxError>;
    check::<Retry<Boxed>>();
    check::<ResponseFuture<Boxed, <Boxed as Service<Request<ReplayBody<Full<Bytes>>>>>::Future, Full<Bytes>>>();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_after_any_number_of_polls_gives_everything_back() {
    for polls in 0..12 {
        for hedge in [None, Some(Hedge::after(MS(30)))] {
            let server = Server::replies([Reply::After(MS(50), 503), Reply::After(MS(50), 503), Reply::Hang]);
            let budget = RetryBudget::new();
            let layer = steady().budget(budget.clone()).deadline(Duration::from_secs(60));
            let layer = match hedge {
                Some(hedge) => layer.hedge(hedge),
                None => layer,
            };
            let mut call = Box::pin(layer.layer(server.clone()).oneshot(get()));
            for _ in 0..polls {
                assert!(poll(&mut call).is_pending());
                tokio::time::advance(MS(25)).await;
            }
            let tokens = budget.counts().balance;
            drop(call);
            let counts = budget.counts();
            assert_eq!((counts.in_flight, counts.repeats_in_flight), (0, 0), "after {polls} polls");
            assert!(counts.balance >= tokens);
            assert_eq!(server.bodies_alive(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_was_never_sent_gives_its_token_back() {
    let budget = RetryBudget::of(0.0, 1e-9).unwrap();
    let layer = steady().budget(budget.clone());
    let mut call = Box::pin(layer.layer(Server::always(status(503))).oneshot(get()));
    assert!(poll(&mut call).is_pending());
    assert!(budget.counts().balance < 2.1);
    drop(call);
    assert!(budget.counts().balance > 2.9);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_goes_on_and_gives_everything_back() {
    for script in [vec![Reply::Panic], vec![status(503), Reply::Panic]] {
        let budget = RetryBudget::new();
        let mut call = Box::pin(steady().budget(budget.clone()).layer(Server::replies(script.clone())).oneshot(get()));
        let end = loop {
            match catch_unwind(AssertUnwindSafe(|| poll(&mut call))) {
                Ok(Poll::Ready(_)) => break false,
                Ok(Poll::Pending) => tokio::time::advance(MS(50)).await,
                Err(_) => break true,
            }
        };
        assert!(end, "the panic has to go on");
        drop(call);
        assert_eq!((budget.counts().in_flight, budget.counts().repeats_in_flight), (0, 0));
    }
}

/// A body of these frames, of unknown size, that is pending before each.
fn streaming(
    frames: impl IntoIterator<Item = Frame<Bytes>>,
) -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static> {
    let mut frames = frames.into_iter().collect::<Vec<_>>().into_iter();
    let mut late = false;
    StreamBody::new(stream::poll_fn(move |cx| {
        late = !late;
        if late {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(frames.next().map(Ok))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again_byte_by_byte_up_to_its_limit() {
    for (limit, calls) in [(64, 2), (10, 2), (9, 1)] {
        let server = Server::replies([status(503), status(200)]);
        let layer = steady().replay_limit(limit);
        layer.layer(server.clone()).oneshot(request(Method::PUT, &[], "ten bytes!")).await.unwrap();
        assert_eq!(server.bodies(), vec!["ten bytes!"; calls], "limit {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_size_that_grows_past_the_limit_goes_on_without_a_repeat() {
    for (frames, calls) in [(3, 2), (100, 1)] {
        let server = Server::replies([status(503), status(200)]);
        let body = streaming((0..frames).map(|_| Frame::data(Bytes::from_static(b"0123456789"))));
        let layer = steady().replay_limit(500);
        layer.layer(server.clone()).oneshot(Request::put("/").body(body).unwrap()).await.unwrap();
        let bodies = server.bodies();
        assert_eq!((bodies.len(), bodies[0].len()), (calls, 10 * frames));
        assert!(bodies.iter().all(|body| *body == bodies[0]));
    }
}

/// Takes the head of a request, a part of its body, and answers 503.
#[derive(Clone, Default)]
struct Impatient(std::sync::Arc<std::sync::Mutex<Vec<ReadBody>>>);

/// Data and trailers.
type ReadBody = (Bytes, Option<HeaderMap>);

impl<B> Service<Request<ReplayBody<B>>> for Impatient
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = http::Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> Self::Future {
        let seen = self.0.clone();
        Box::pin(async move {
            let first = seen.lock().unwrap().is_empty();
            let mut body = Box::pin(request.into_body());
            let (data, trailers) = if first {
                let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap()?;
                (frame.into_data().unwrap(), None)
            } else {
                let collected = body.collect().await?;
                let trailers = collected.trailers().cloned();
                (collected.to_bytes(), trailers)
            };
            seen.lock().unwrap().push((data, trailers));
            let mut response = http::Response::default();
            *response.status_mut() = if first { http::StatusCode::SERVICE_UNAVAILABLE } else { http::StatusCode::OK };
            Ok(response)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_in_part_is_sent_whole_and_with_its_trailers() {
    let server = Impatient::default();
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("checksum"), "7".parse().unwrap())]);
    let frames = ["a", "b", "c"].map(|data| Frame::data(Bytes::from_static(data.as_bytes())));
    let body = streaming(frames.into_iter().chain([Frame::trailers(trailers.clone())]));
    let answer = steady().layer(server.clone()).oneshot(Request::put("/").body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = server.0.lock().unwrap().clone();
    assert_eq!(seen, [(Bytes::from_static(b"a"), None), (Bytes::from_static(b"abc"), Some(trailers))]);
}

/// A hundred successes, so that hedges have been earned.
async fn earn(service: &Retry<Server>) {
    for _ in 0..100 {
        service.clone().oneshot(get()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_safe_request_that_takes_long_is_sent_again_and_the_first_good_answer_wins() {
    for (first, second, status, took) in [
        (Reply::After(MS(1000), 200), Reply::After(MS(10), 200), 200, 60),
        (Reply::After(MS(70), 200), Reply::After(MS(500), 200), 200, 70),
        (Reply::After(MS(60), 503), Reply::After(MS(100), 200), 200, 150),
        (Reply::After(MS(200), 200), Reply::After(MS(10), 503), 200, 200),
    ] {
        let server = Server::default();
        let layer = steady().hedge(Hedge::after(MS(50)));
        let service = layer.layer(server.clone());
        earn(&service).await;
        server.reply([first, second]);
        let start = Instant::now();
        let answer = service.oneshot(get()).await.unwrap();
        assert_eq!((answer.status().as_u16(), start.elapsed()), (status, MS(took)));
        assert_eq!((layer.stats().hedges, server.calls()), (1, 102));
        assert_eq!(layer.stats().budget.repeats_in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn only_safe_requests_are_hedged_and_only_what_was_earned() {
    let server = Server::default();
    let layer = steady().hedge(Hedge::after(MS(50)));
    let service = layer.layer(server.clone());
    server.reply([Reply::After(MS(1000), 200)]);
    service.clone().oneshot(get()).await.unwrap();
    assert_eq!((layer.stats().hedges, server.calls()), (0, 1), "nothing was earned");
    earn(&service).await;
    server.reply([Reply::After(MS(1000), 200)]);
    service.clone().oneshot(request(Method::PUT, &[], "")).await.unwrap();
    assert_eq!((layer.stats().hedges, server.calls()), (0, 102), "PUT is not safe");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_lost_counts_for_the_percentile_as_what_it_took_at_least() {
    let (server, budget, hedge) = (Server::default(), RetryBudget::new(), Hedge::p95());
    let earning = steady().budget(budget.clone()).layer(Server::default());
    let service = steady().budget(budget).hedge(hedge.clone()).layer(server.clone());
    server.reply(vec![Reply::After(MS(10), 200); 32]);
    for _ in 0..32 {
        service.clone().oneshot(get()).await.unwrap();
    }
    assert_eq!(hedge.delay(), Some(MS(10)));
    // Every winner takes 10 ms; were only they counted, nothing would change.
    for _ in 0..32 {
        earn(&earning).await;
        server.reply([Reply::After(MS(500), 200), Reply::After(MS(10), 200)]);
        service.clone().oneshot(get()).await.unwrap();
    }
    assert_eq!(server.calls(), 32 + 2 * 32);
    assert!(hedge.delay() > Some(MS(15)), "{hedge:?}");
}

#[cfg(feature = "trace")]
#[tokio::test(start_paused = true)]
async fn the_span_of_a_repeat_tells_its_count_and_links_to_the_attempt_before() {
    use buttress::trace::{Spans, TraceLayer};

    let spans = Spans::new();
    let server = Server::replies([status(503), status(503), status(200)]);
    let service = steady().layer(TraceLayer::client(spans.clone()).layer(server));
    service.oneshot(get()).await.unwrap().into_body().collect().await.unwrap();
    let mut spans = spans.latest(3);
    spans.sort_by_key(|span| span.attribute("http.request.resend_count").map(ToString::to_string));
    let counts: Vec<_> =
        spans.iter().map(|span| span.attribute("http.request.resend_count").map(ToString::to_string)).collect();
    assert_eq!(counts, [None, Some("1".into()), Some("2".into())]);
    for (before, after) in spans.iter().zip(&spans[1..]) {
        assert_eq!(after.links[0].trace.span_id, before.span_id);
    }
}
