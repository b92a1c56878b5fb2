//! What an exchange allocates beyond the bare service. Run with `--nocapture` to see the figures.
#![cfg(all(feature = "trace", feature = "propagate"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]
#![allow(unsafe_code, reason = "a global allocator that counts cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use buttress::context::{Context, TraceContext};
use buttress::observe::{Exchange, Observe, ObserveLayer};
use buttress::propagate::{InjectLayer, PropagateLayer};
use buttress::trace::operation::AnyOutput;
use buttress::trace::{LateDecision, Operation, OperationLayer, Sampler, Spans, TraceLayer};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{Layer, Service};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may allocate after its locals are gone.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a `Cell` of a thread-local that needs
// no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Answers with a response that was made beforehand.
#[derive(Default)]
struct Bare(Option<Response<Full<Bytes>>>);

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        black_box(&request);
        ready(Ok(self.0.take().expect("called once")))
    }
}

/// What hyper hands to a service, with values that share their bytes as hyper's do.
fn request() -> Request<()> {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in [
        ("host", "shop.example"),
        ("user-agent", "curl/8"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
        ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        ("baggage", "tenant=acme,plan=gold"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut request = Request::new(());
    *request.uri_mut() = http::Uri::from_static("http://shop.example/items/7?page=2");
    *request.headers_mut() = headers;
    request
}

/// Room for this many headers in the answer.
fn response(room: usize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(Bytes::from_static(b"answer")));
    *response.headers_mut() = HeaderMap::with_capacity(room);
    response
}

/// Allocations of one exchange, body included, when everything has been used before.
fn allocations<L, B>(layer: &L, room: usize) -> usize
where
    L: Layer<Bare>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let mut counted = 0;
    for _ in 0..3 {
        let mut service = layer.layer(Bare(Some(response(room))));
        let request = request();
        let before = ALLOCATIONS.get();
        exchange(&mut service, request);
        counted = ALLOCATIONS.get() - before;
    }
    counted
}

fn exchange<S, B>(service: &mut S, request: Request<()>)
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let mut cx = TaskContext::from_waker(Waker::noop());
    let future = pin!(service.call(request));
    let Poll::Ready(Ok(response)) = future.poll(&mut cx) else { panic!("the answer is ready") };
    let (_head, body) = response.into_parts();
    let mut body = pin!(body);
    while let Poll::Ready(Some(_)) = body.as_mut().poll_frame(&mut cx) {}
}

/// Leaves the service as it is.
struct Nothing;

impl<S> Layer<S> for Nothing {
    type Service = S;

    fn layer(&self, inner: S) -> S {
        inner
    }
}

fn bare(room: usize) -> usize {
    allocations(&Nothing, room)
}

/// Propagation and tracing, fused.
fn fused(
    propagate: &PropagateLayer,
    trace: &TraceLayer,
) -> ObserveLayer<(buttress::propagate::Propagate, buttress::trace::Trace)> {
    ObserveLayer::server((propagate.observer(), trace.observer()))
}

fn silent() -> PropagateLayer {
    PropagateLayer::new().echo(false)
}

fn sampled_by(sampler: Sampler) -> TraceLayer {
    TraceLayer::server(Spans::new()).sampler(sampler)
}

#[track_caller]
fn over_bare<L, B>(what: &str, layer: &L, room: usize) -> usize
where
    L: Layer<Bare>,
    L::Service: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let over = allocations(layer, room) - bare(room);
    println!("{what}: {over}");
    over
}

#[test]
fn switched_off_it_allocates_nothing() {
    let off = fused(&PropagateLayer::new(), &sampled_by(Sampler::always_on())).enabled(false);
    assert_eq!(over_bare("off", &off, 0), 0);
    assert_eq!(over_bare("off, stacked", &PropagateLayer::new().enabled(false), 0), 0);
}

#[test]
fn passing_by_an_observer_that_does_nothing_allocates_nothing() {
    #[derive(Clone)]
    struct Idle;
    impl<B> Observe<B> for Idle {
        type Probe = ();
        fn start(&self, _: &mut Request<B>, _: &mut Exchange) {}
    }
    assert_eq!(over_bare("an idle observer", &ObserveLayer::server(Idle), 0), 0);
}

#[test]
fn unsampled_it_allocates_once_for_tracestate_and_baggage() {
    let layer = fused(&silent(), &sampled_by(Sampler::always_off()));
    assert!(over_bare("unsampled", &layer, 0) <= 1);
}

#[test]
fn telling_the_ids_allocates_once_for_both() {
    let quiet = fused(&silent(), &sampled_by(Sampler::always_off()));
    let telling = fused(&PropagateLayer::new(), &sampled_by(Sampler::always_off()));
    let added = |room| allocations(&telling, room) - allocations(&quiet, room);
    println!("ids in an answer with room for them: {}, in one without any header: {}", added(8), added(0));
    assert_eq!(added(8), 1);
    // The first header of a map allocates its two tables.
    assert_eq!(added(0), 1 + 2);
}

#[test]
fn sampled_it_allocates_at_most_eight_times() {
    let layer = fused(&silent(), &sampled_by(Sampler::always_on()));
    assert!(over_bare("sampled", &layer, 0) <= 8);
    let telling = fused(&PropagateLayer::new(), &sampled_by(Sampler::always_on()));
    assert!(over_bare("sampled, with ids in the answer", &telling, 8) <= 8);
    let late = sampled_by(Sampler::always_off()).late_decision(LateDecision::errors(1));
    assert!(over_bare("unsampled, with a late decision", &fused(&silent(), &late), 0) <= 8);
}

#[test]
fn stacked_layers_allocate_as_little_as_fused_ones() {
    let trace = sampled_by(Sampler::always_on());
    let stacked = tower::ServiceBuilder::new().layer(silent()).layer(trace.clone());
    assert_eq!(over_bare("sampled, stacked", &stacked, 0), over_bare("sampled, fused", &fused(&silent(), &trace), 0));
}

#[cfg(feature = "metrics")]
#[test]
fn counting_and_timing_requests_allocates_nothing() {
    use buttress::metrics::{Registry, RequestMetricsLayer};

    let metrics = RequestMetricsLayer::server(&Registry::new());
    assert_eq!(over_bare("metrics", &metrics, 0), 0);
    assert_eq!(over_bare("metrics of a client", &RequestMetricsLayer::client(&Registry::new()), 0), 0);
    let (propagate, trace) = (silent(), sampled_by(Sampler::always_on()));
    let all = ObserveLayer::server((propagate.observer(), trace.observer(), metrics.observer()));
    let without = over_bare("sampled", &fused(&propagate, &trace), 0);
    assert_eq!(over_bare("sampled, with metrics and exemplars", &all, 0), without);
}

#[cfg(feature = "telemetry")]
#[test]
fn a_request_in_flight_takes_at_most_512_bytes_more_than_the_bare_future_and_body() {
    let layer = buttress::Telemetry::from_env("shop").unwrap().server();
    let bare = Bare(Some(response(0))).call(request());
    let watched = layer.layer(Bare(Some(response(0)))).call(request());
    let future = size_of_val(&watched) - size_of_val(&bare);
    let (Ok(bare), Ok(watched)) = (bare.into_inner(), now(watched));
    let body = size_of_val(&watched) - size_of_val(&bare);
    println!("in flight: {future} bytes of future, {body} of body");
    assert!(future <= 512 && body <= 512, "{future} {body}");
}

#[cfg(feature = "telemetry")]
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the answer is ready"),
    }
}

/// Allocations of one run of an operation below this context, when everything has been used before.
fn run_allocates(operation: &Operation<AnyOutput>, context: &Context) -> usize {
    let mut counted = 0;
    for _ in 0..3 {
        let before = ALLOCATIONS.get();
        context.enter(|| {
            let run = pin!(operation.run(ready(black_box(7))));
            assert!(run.poll(&mut TaskContext::from_waker(Waker::noop())).is_ready());
        });
        counted = ALLOCATIONS.get() - before;
    }
    counted
}

#[test]
fn an_operation_that_is_not_sampled_allocates_nothing() {
    let off = Operation::new("charge", &Spans::new()).sampler(Sampler::always_off()).attribute("a", "b").infallible();
    assert_eq!(run_allocates(&off, &Context::root()), 0);
    let on = Operation::new("charge", &Spans::new()).infallible();
    let counted = run_allocates(&on, &Context::root());
    println!("a sampled operation: {counted}");
    assert!(counted <= 4, "{counted}");
}

#[test]
fn a_layer_of_operations_boxes_nothing() {
    let off = Operation::new("charge", &Spans::new()).sampler(Sampler::always_off());
    assert_eq!(over_bare("operation, not sampled", &OperationLayer::new(off), 0), 0);
}

#[cfg(feature = "telemetry")]
#[test]
fn an_operation_that_is_measured_allocates_no_more() {
    let telemetry = buttress::Telemetry::from_env("test").unwrap().with_sampler(Sampler::always_off());
    let charge = || telemetry.operation("charge").infallible();
    assert_eq!(run_allocates(&charge(), &Context::root()), 0);
    let before = ALLOCATIONS.get();
    drop(charge());
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn injecting_allocates_the_one_value_that_changes() {
    let incoming = TraceContext::from_headers(request().headers()).unwrap().unwrap();
    let context = Context::from_trace(incoming)
        .with_tracestate(buttress::context::TraceState::from_headers(request().headers()).unwrap())
        .with_baggage(buttress::context::Baggage::from_headers(request().headers()));
    let over = context.enter(|| over_bare("inject", &InjectLayer::new(), 0));
    assert_eq!(over, 1);
    assert_eq!(over_bare("inject, without a context", &InjectLayer::new(), 0), 0);
    let client =
        (TraceLayer::client(Spans::new()).sampler(Sampler::always_off()).observer(), InjectLayer::new().observer());
    let over = context.enter(|| over_bare("client, unsampled", &ObserveLayer::client(client), 0));
    assert_eq!(over, 1);
    let client =
        (TraceLayer::client(Spans::new()).sampler(Sampler::always_on()).observer(), InjectLayer::new().observer());
    assert!(context.enter(|| over_bare("client, sampled", &ObserveLayer::client(client), 0)) <= 8);
}

/// Of a client with retries, when the answer is there at once.
#[cfg(feature = "retry")]
fn retry_allocates(layer: &buttress::retry::RetryLayer, method: http::Method, body: &'static [u8]) -> usize {
    use buttress::retry::ReplayBody;

    /// Answers like [`Bare`], which cannot be cloned because its answer cannot.
    #[derive(Clone)]
    struct Repeatable(&'static std::thread::LocalKey<Cell<Option<Response<Full<Bytes>>>>>);

    impl Service<Request<ReplayBody<Full<Bytes>>>> for Repeatable {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<ReplayBody<Full<Bytes>>>) -> Self::Future {
            black_box(&request);
            ready(Ok(self.0.take().expect("called once")))
        }
    }

    thread_local! {
        static ANSWER: Cell<Option<Response<Full<Bytes>>>> = const { Cell::new(None) };
    }
    let mut service = layer.layer(Repeatable(&ANSWER));
    let mut counted = 0;
    for _ in 0..3 {
        ANSWER.set(Some(response(0)));
        let mut request = request().map(|()| Full::from(Bytes::from_static(body)));
        *request.method_mut() = method.clone();
        let before = ALLOCATIONS.get();
        let mut cx = TaskContext::from_waker(Waker::noop());
        let future = pin!(service.call(request));
        let Poll::Ready(Ok(answer)) = future.poll(&mut cx) else { panic!("the answer is ready") };
        black_box(answer);
        counted = ALLOCATIONS.get() - before;
    }
    counted
}

#[cfg(feature = "retry")]
#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_retried_allocates_nothing_and_one_that_can_the_copy_of_its_headers() {
    use buttress::retry::RetryLayer;

    let layer = RetryLayer::new();
    assert_eq!(retry_allocates(&layer, http::Method::POST, b"order"), 0);
    // What is kept, and in it the list of headers.
    assert_eq!(retry_allocates(&layer, http::Method::GET, b""), 2);
    let too_long = layer.clone().replay_limit(4);
    assert_eq!(retry_allocates(&too_long, http::Method::PUT, b"order"), 0);
    assert_eq!(retry_allocates(&layer.clone().attempts(1), http::Method::GET, b""), 0);
    // Beside that: what is kept of the body, and the body, which outlives the attempt.
    assert_eq!(retry_allocates(&layer, http::Method::PUT, b"order"), 4);
}

#[cfg(feature = "stack")]
#[test]
fn a_request_under_way_takes_at_most_512_bytes_for_the_whole_stack_of_a_client() {
    fn under_way<S: Service<Request<Full<Bytes>>>>(_: &S) -> usize {
        size_of::<S::Future>()
    }

    #[derive(Clone)]
    struct Transport;

    type Answer = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    impl<B> Service<Request<B>> for Transport {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Answer;

        fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<B>) -> Answer {
            unreachable!("only its size is asked for")
        }
    }

    let whole = under_way(&buttress::stack::ClientStack::new("payments").service(Transport));
    let over = whole - size_of::<Answer>();
    println!("a client's stack: {over} bytes beyond the future of its transport");
    assert!(over <= 512, "{over}");
}

#[cfg(feature = "metrics")]
#[test]
fn who_looks_a_metric_up_by_name_and_labels_each_time_allocates_nothing() {
    use buttress::metrics::{LabelValue, Registry};

    let registry = Registry::new();
    let (tenant, route) = (String::from("acme"), std::sync::Arc::<str>::from("/orders/{id}"));
    let count = || {
        registry.counter("orders.placed").with([("tenant", tenant.as_str())]).add(1);
        let labels = [("route", LabelValue::from(&route)), ("status", 200_u16.into()), ("cached", false.into())];
        registry.timer("orders.duration").with(labels).record(std::time::Duration::from_millis(3));
        registry.gauge("orders.open").description("Orders that are not paid").with(()).set(1.0);
    };
    // The first makes the series, and the numbers of this thread.
    count();
    let before = ALLOCATIONS.get();
    (0..100).for_each(|_| count());
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[cfg(feature = "derive")]
#[test]
fn a_derived_set_of_labels_allocates_nothing() {
    use buttress::metrics::{AsLabelValue, Labels, Registry};

    #[derive(Labels)]
    struct Placed<'a> {
        tenant: &'a str,
        size: Size,
    }

    #[derive(AsLabelValue)]
    enum Size {
        Small,
        Large,
    }

    let (placed, tenant) = (Registry::new().counter("orders.placed"), String::from("acme"));
    let count = || {
        placed.with(Placed { tenant: &tenant, size: Size::Small }).add(1);
        placed.with(Placed { tenant: &tenant, size: Size::Large }).add(1);
    };
    count();
    let before = ALLOCATIONS.get();
    (0..100).for_each(|_| count());
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(placed.with([("size", "large"), ("tenant", "acme")]).value(), 101);
}

// Where time stands still, so that no duration needs a bucket that none had before.
#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn counting_for_caches_and_streams_allocates_nothing() {
    use buttress::metrics::Registry;
    use buttress::metrics::source::{CacheMetrics, EvictionCause, StreamKind, StreamMetrics};

    let registry = Registry::new();
    let cache = CacheMetrics::new(&registry, "prices");
    let streams = StreamMetrics::for_route(&registry, StreamKind::Sse, "/prices");
    let count = || {
        cache.lookup(Some(()));
        cache.miss();
        cache.put();
        cache.evicted(EvictionCause::Capacity);
        cache.set_entries(1);
        drop(cache.start_load());
        let stream = streams.open();
        stream.message_in(1);
        stream.message_out(1);
        stream.error();
    };
    // The first makes the numbers of this thread.
    count();
    let before = ALLOCATIONS.get();
    (0..100).for_each(|_| count());
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
