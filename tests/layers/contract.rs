//! What tower's users may rely on, of every layer there is: readiness, clones, cancellation after any poll, panics.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::Telemetry;
use buttress::axum::RouteLayer;
use buttress::circuit_breaker::{Cause, CircuitBreakerLayer, CircuitConfig, Circuits, FallbackLayer};
use buttress::metrics::{Registry, RequestBodySizeLayer, RequestMetricsLayer};
use buttress::observe::ObserveLayer;
use buttress::propagate::{InjectLayer, PropagateLayer};
use buttress::retry::{AttemptTimeoutLayer, Hedge, RetryLayer, RetryPolicy, TierLayer};
use buttress::settings::Settings;
use buttress::stack::ClientStack;
use buttress::trace::{Operation, OperationLayer, Spans, TraceLayer};
use buttress_tests::{Broken, Recorder, ScriptBody};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use tower::{Layer, Service, service_fn};

/// Is ready at the second look, may only be called then, and answers after some polls, or panics.
#[derive(Debug, Default)]
struct Strict {
    looks: usize,
    is_ready: bool,
    pending: usize,
    panics: bool,
    /// Futures that there are.
    alive: Arc<AtomicUsize>,
    called: Arc<AtomicUsize>,
}

/// No clone is ready because its original is.
impl Clone for Strict {
    fn clone(&self) -> Self {
        let Self { pending, panics, ref alive, ref called, .. } = *self;
        Self { looks: 0, is_ready: false, pending, panics, alive: Arc::clone(alive), called: Arc::clone(called) }
    }
}

impl<B> Service<Request<B>> for Strict {
    type Response = Response<ScriptBody>;
    type Error = Broken;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.looks += 1;
        if self.looks == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<B>) -> Answer {
        assert!(std::mem::take(&mut self.is_ready), "called an instance that was not ready");
        self.looks = 0;
        self.called.fetch_add(1, Ordering::Relaxed);
        self.alive.fetch_add(1, Ordering::Relaxed);
        Answer { pending: self.pending, panics: self.panics, alive: Arc::clone(&self.alive) }
    }
}

#[derive(Debug)]
struct Answer {
    pending: usize,
    panics: bool,
    alive: Arc<AtomicUsize>,
}

impl Future for Answer {
    type Output = Result<Response<ScriptBody>, Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.pending > 0 {
            self.pending -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.panics {
            // Without a word on stderr.
            resume_unwind(Box::new("the test says so"));
        }
        Poll::Ready(Ok(Response::default()))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("http://stock.example/tea").body(Empty::new()).unwrap()
}

fn once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn ready<S: Service<Request<Empty<Bytes>>, Error: Debug>>(service: &mut S) {
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
}

/// Everything below, of one layer.
async fn holds<L, S>(name: &str, layer: L)
where
    L: Layer<Strict, Service = S>,
    S: Service<Request<Empty<Bytes>>, Error: Debug, Future: Send> + Clone + Send + 'static,
{
    println!("{name}");
    calls_the_instance_that_was_ready(&layer).await;
    is_ready_only_when_the_inner_service_is(&layer);
    drops_the_inner_future_with_its_own(&layer).await;
    lets_panics_through_and_goes_on(&layer).await;
}

async fn calls_the_instance_that_was_ready<L, S>(layer: &L)
where
    L: Layer<Strict, Service = S>,
    S: Service<Request<Empty<Bytes>>, Error: Debug> + Clone,
{
    let strict = Strict::default();
    let mut service = layer.layer(strict.clone());
    for _ in 0..3 {
        ready(&mut service).await;
        let mut clone = service.clone();
        assert!(service.call(request()).await.is_ok());
        ready(&mut clone).await;
        assert!(clone.call(request()).await.is_ok());
    }
    assert_eq!(strict.called.load(Ordering::Relaxed), 6);
}

fn is_ready_only_when_the_inner_service_is<L, S>(layer: &L)
where
    L: Layer<Strict, Service = S>,
    S: Service<Request<Empty<Bytes>>> + Clone,
{
    let mut service = layer.layer(Strict::default());
    let look = |service: &mut S| service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready();
    assert_eq!([look(&mut service), look(&mut service)], [false, true]);
    let mut clone = service.clone();
    assert!(!look(&mut clone), "a clone has to be asked itself");
    assert!(look(&mut service), "what was ready is ready still");
}

async fn drops_the_inner_future_with_its_own<L, S>(layer: &L)
where
    L: Layer<Strict, Service = S>,
    S: Service<Request<Empty<Bytes>>, Error: Debug>,
{
    for polls in 0..5 {
        let strict = Strict { pending: 9, ..Strict::default() };
        let mut service = layer.layer(strict.clone());
        ready(&mut service).await;
        {
            let mut future = pin!(service.call(request()));
            for _ in 0..polls {
                assert!(once(future.as_mut()).is_pending());
            }
        }
        assert_eq!(strict.alive.load(Ordering::Relaxed), 0, "after {polls} polls");
    }
}

async fn lets_panics_through_and_goes_on<L, S>(layer: &L)
where
    L: Layer<Strict, Service = S>,
    S: Service<Request<Empty<Bytes>>, Error: Debug>,
{
    let strict = Strict { panics: true, pending: 1, ..Strict::default() };
    let mut service = layer.layer(strict.clone());
    for _ in 0..3 {
        ready(&mut service).await;
        let mut future = Box::pin(service.call(request()));
        assert!(once(future.as_mut()).is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| once(future.as_mut()))).is_err());
        drop(future);
        assert_eq!(strict.alive.load(Ordering::Relaxed), 0);
    }
    let mut healthy = layer.layer(Strict::default());
    ready(&mut healthy).await;
    assert!(healthy.call(request()).await.is_ok());
}

fn telemetry() -> Telemetry {
    Telemetry::new(Settings::read("storefront", |_| None).unwrap())
}

#[tokio::test(start_paused = true)]
async fn layers_that_watch() {
    let (registry, telemetry) = (Registry::new(), telemetry());
    holds("ObserveLayer", ObserveLayer::server(Recorder::default())).await;
    holds("ObserveLayer, off", ObserveLayer::client(Recorder::default()).enabled(false)).await;
    holds("PropagateLayer", PropagateLayer::new()).await;
    holds("InjectLayer", InjectLayer::new()).await;
    holds("TraceLayer, server", TraceLayer::server(Spans::new())).await;
    holds("TraceLayer, client", TraceLayer::client(Spans::new())).await;
    holds("OperationLayer", OperationLayer::new(Operation::new("ask", &Spans::new()))).await;
    holds("OperationLayer, off", OperationLayer::new(Operation::new("ask", &Spans::new()).enabled(false))).await;
    holds("RequestMetricsLayer, server", RequestMetricsLayer::server(&registry)).await;
    holds("RequestMetricsLayer, client", RequestMetricsLayer::client(&registry)).await;
    holds("RouteLayer", RouteLayer).await;
    holds("RequestBodySizeLayer", RequestBodySizeLayer::server(&registry)).await;
    holds("Telemetry::server", telemetry.server()).await;
    holds("Telemetry::watched_client", telemetry.watched_client("stock")).await;
}

#[tokio::test(start_paused = true)]
async fn layers_that_decide() {
    let calm = || CircuitConfig::default().minimum_calls(100).consecutive_failures(None);
    let remembered = service_fn(async |_: Request<Cause>| Ok::<_, Broken>(Response::new(Full::<Bytes>::default())));
    let circuits = Circuits::new("stock", calm());
    holds("CircuitBreakerLayer", CircuitBreakerLayer::with_config("stock", calm())).await;
    let answers = CircuitBreakerLayer::with_config("stock", calm()).reject_with(StatusCode::SERVICE_UNAVAILABLE);
    holds("CircuitBreakerLayer, answering", answers).await;
    let keyed = CircuitBreakerLayer::keyed(circuits, |head| head.uri.path().into());
    holds("CircuitBreakerLayer, keyed", keyed).await;
    holds("FallbackLayer", FallbackLayer::when_failed(remembered)).await;
    holds("RetryLayer", RetryLayer::new()).await;
    let hedging = RetryLayer::new().attempt_timeout(Duration::from_secs(9)).hedge(Hedge::p95());
    holds("RetryLayer, hedging", hedging).await;
    holds("RetryLayer, once", RetryLayer::new().attempts(1).deadline(Duration::from_secs(9))).await;
    holds("AnyRequest", tower::retry::RetryLayer::new(RetryPolicy::new().any_request())).await;
    holds("AttemptTimeoutLayer", AttemptTimeoutLayer::new(Duration::from_secs(9))).await;
    holds("TierLayer", TierLayer::new()).await;
    holds("ClientStack", ClientStack::new("stock").circuit_config(calm())).await;
    holds("Telemetry::client", telemetry().client("stock").circuit_config(calm())).await;
}
