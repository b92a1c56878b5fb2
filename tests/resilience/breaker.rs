//! The layer of the circuit breaker: what counts as a failure, what a rejected call gets, whose circuit it is.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::circuit_breaker::{
    Cause, CircuitBreakerLayer, CircuitConfig, Circuits, Error, FallbackLayer, Refused, Rejected, State,
};
use buttress::classify::Outcome;
use buttress::metrics::Registry;
use buttress_tests::numbers::total;
use buttress_tests::{Broken, Recorder, ScriptBody, Step, headers, read};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::{advance, timeout};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// Opens at half of at least four calls.
fn config() -> CircuitConfig {
    CircuitConfig::default().minimum_calls(4).consecutive_failures(None)
}

fn breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::with_config("payments", config())
}

/// What the callee does with one call.
#[derive(Clone, Debug)]
enum Does {
    Status(u16),
    Fails,
    Panics,
    Hangs,
    Body(Vec<Step>),
    Answers(u16, HeaderMap),
}

#[derive(Clone, Debug)]
struct Callee {
    does: Does,
    called: Arc<AtomicUsize>,
}

fn callee(does: Does) -> Callee {
    Callee { does, called: Arc::default() }
}

impl Callee {
    fn called(&self) -> usize {
        self.called.load(Ordering::Relaxed)
    }

    fn service(
        &self,
    ) -> impl Service<Request<()>, Response = Response<ScriptBody>, Error = Broken, Future: Send> + Clone + use<> {
        let Self { does, called } = self.clone();
        service_fn(move |_: Request<()>| {
            called.fetch_add(1, Ordering::Relaxed);
            let does = does.clone();
            async move {
                let mut response = Response::new(ScriptBody::default());
                match does {
                    Does::Status(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
                    Does::Fails => return Err(Broken("no connection")),
                    Does::Panics => resume_unwind(Box::new("the script says so")),
                    Does::Hangs => pending().await,
                    Does::Body(steps) => *response.body_mut() = ScriptBody::new(steps),
                    Does::Answers(status, headers) => {
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        *response.headers_mut() = headers;
                    }
                }
                Ok(response)
            }
        })
    }
}

fn grpc() -> Request<()> {
    Request::post("/shop.Inventory/Look").header("content-type", "application/grpc").body(()).unwrap()
}

/// Calls once, to the end of the body.
async fn call<S, B>(service: &mut S, request: Request<()>) -> Result<StatusCode, S::Error>
where
    S: Service<Request<()>, Response = Response<B>>,
    B: http_body::Body<Error = Broken>,
{
    let response = service.ready().await?.call(request).await?;
    let status = response.status();
    let _ = read(response.into_body()).await;
    Ok(status)
}

/// Polls once.
fn once<F: Future, P: std::ops::DerefMut<Target = F>>(future: &mut Pin<P>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_is_told_the_name_since_when_and_when_to_come_again_and_nobody_is_called() {
    let (layer, callee) = (breaker(), callee(Does::Status(500)));
    let mut service = layer.layer(callee.service());
    for _ in 0..4 {
        call(&mut service, Request::new(())).await.unwrap();
    }
    advance(Duration::from_secs(1)).await;
    let error = call(&mut service, Request::new(())).await.unwrap_err();
    assert!(error.is_open());
    let Error::Open(Rejected { name, since, retry_after, .. }) = error else { panic!("{error:?}") };
    assert_eq!(&*name, "payments");
    assert_eq!(since.elapsed(), Duration::from_secs(1));
    // Five seconds, a fifth more or less, one of them gone.
    assert!((3000..=5000).contains(&retry_after.as_millis()), "{retry_after:?}");
    assert_eq!(callee.called(), 4);
    assert_eq!(layer.circuit().counts().rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_known_at_the_end_of_the_body_and_from_the_trailers() {
    let unavailable = Does::Body(vec![Step::Data("a"), Step::Trailers(headers([("grpc-status", "14")]))]);
    let fine = Does::Body(vec![Step::Data("a"), Step::Trailers(headers([("grpc-status", "0")]))]);
    for (does, request, fails) in [
        (Does::Status(500), Request::new(()), true),
        (Does::Status(429), Request::new(()), true),
        (Does::Fails, Request::new(()), true),
        (Does::Body(vec![Step::Data("a"), Step::Fail("reset")]), Request::new(()), true),
        (unavailable, grpc(), true),
        (Does::Answers(200, headers([("grpc-status", "8")])), grpc(), true),
        (fine, grpc(), false),
        (Does::Body(vec![Step::Data("a")]), Request::new(()), false),
        (Does::Status(302), Request::new(()), false),
    ] {
        let layer = breaker();
        let mut service = layer.layer(callee(does.clone()).service());
        for _ in 0..4 {
            let _ = call(&mut service, clone(&request)).await;
        }
        let counts = layer.circuit().counts();
        assert_eq!((counts.failed, counts.ok), if fails { (4, 0) } else { (0, 4) }, "{does:?}");
        assert_eq!(layer.circuit().state(), if fails { State::Open } else { State::Closed }, "{does:?}");
    }
}

fn clone(request: &Request<()>) -> Request<()> {
    let mut clone = Request::new(());
    clone.method_mut().clone_from(request.method());
    clone.headers_mut().clone_from(request.headers());
    clone
}

#[tokio::test(start_paused = true)]
async fn an_error_that_the_request_deserves_is_neither_success_nor_failure() {
    for (does, request) in [
        (Does::Status(404), Request::new(())),
        (Does::Status(422), Request::new(())),
        (Does::Answers(200, headers([("grpc-status", "5")])), grpc()),
    ] {
        let layer = breaker();
        let mut service = layer.layer(callee(does).service());
        for _ in 0..20 {
            call(&mut service, clone(&request)).await.unwrap();
        }
        let counts = layer.circuit().counts();
        assert_eq!((counts.ignored, counts.failed, counts.ok), (20, 0, 0));
        assert_eq!(layer.circuit().state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn trace_metrics_and_breaker_are_told_the_same_outcome() {
    for (does, outcome) in [
        (Does::Status(200), Outcome::Ok),
        (Does::Status(404), Outcome::Error),
        (Does::Status(503), Outcome::Error),
        (Does::Fails, Outcome::Error),
        (Does::Body(vec![Step::Fail("reset")]), Outcome::Error),
    ] {
        let recorder = Recorder::default();
        let layer = breaker().observer(recorder.clone());
        let mut service = layer.layer(callee(does.clone()).service());
        let _ = call(&mut service, Request::new(())).await;
        assert_eq!(recorder.only().outcome, outcome, "{does:?}");
        let counts = layer.circuit().counts();
        assert_eq!(counts.ok == 1, outcome == Outcome::Ok, "{does:?}");
        assert!(counts.failed == 0 || outcome.is_error(), "{does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_a_hanging_callee_opens_the_circuit() {
    let (layer, callee) = (breaker(), callee(Does::Hangs));
    let mut service = layer.layer(callee.service());
    for _ in 0..4 {
        let called = service.ready().await.unwrap().call(Request::new(()));
        assert!(timeout(Duration::from_secs(1), called).await.is_err());
    }
    assert!(call(&mut service, Request::new(())).await.unwrap_err().is_open());
    assert_eq!(layer.circuit().counts().cancelled, 4);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_and_keeps_no_permit() {
    let layer = breaker();
    let mut service = layer.layer(callee(Does::Panics).service());
    for _ in 0..4 {
        let mut called = pin!(service.ready().await.unwrap().call(Request::new(())));
        assert!(catch_unwind(AssertUnwindSafe(|| once(&mut called))).is_err());
    }
    assert_eq!(layer.circuit().counts().failed, 4);
    assert_eq!(layer.circuit().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_after_any_poll_gives_its_slot_back() {
    let body = vec![Step::Yield, Step::Data("a"), Step::Yield, Step::Data("b")];
    for polls in 0..8 {
        let layer = breaker();
        let mut sick = layer.layer(callee(Does::Fails).service());
        for _ in 0..4 {
            let _ = call(&mut sick, Request::new(())).await;
        }
        advance(Duration::from_secs(7)).await;
        let mut service = layer.layer(callee(Does::Body(body.clone())).service());
        let mut probe = Box::pin(call(&mut service, Request::new(())));
        for _ in 0..polls {
            if once(&mut probe).is_ready() {
                break;
            }
        }
        drop(probe);
        // However the dropped probe counts, the circuit finds out in the end.
        let healthy = layer.layer(callee(Does::Status(200)).service());
        for _ in 0..200 {
            let _ = call(&mut healthy.clone(), Request::new(())).await;
            advance(Duration::from_millis(500)).await;
        }
        assert_eq!(layer.circuit().state(), State::Closed, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn being_ready_takes_no_permit_so_that_idle_connections_hold_none() {
    let layer = breaker();
    let mut sick = layer.layer(callee(Does::Fails).service());
    for _ in 0..4 {
        let _ = call(&mut sick, Request::new(())).await;
    }
    advance(Duration::from_secs(7)).await;
    let mut idle: Vec<_> = (0..100).map(|_| layer.layer(callee(Does::Status(200)).service())).collect();
    for service in &mut idle {
        service.ready().await.unwrap();
    }
    for service in &mut idle[..3] {
        call(service, Request::new(())).await.unwrap();
    }
    assert_eq!(layer.circuit().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_of_the_answer_that_trips_sets_the_wait() {
    let layer = breaker();
    let busy = Does::Answers(503, headers([("retry-after", "20")]));
    let mut service = layer.layer(callee(busy).service());
    for _ in 0..4 {
        call(&mut service, Request::new(())).await.unwrap();
    }
    let error = call(&mut service, Request::new(())).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));

    let layer = breaker();
    let trailers = headers([("grpc-status", "14"), ("grpc-retry-pushback-ms", "15000")]);
    let mut service = layer.layer(callee(Does::Body(vec![Step::Data("a"), Step::Trailers(trailers)])).service());
    for _ in 0..4 {
        call(&mut service, grpc()).await.unwrap();
    }
    let error = call(&mut service, grpc()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(15)));
}

#[tokio::test(start_paused = true)]
async fn everything_that_one_layer_is_put_around_shares_its_circuit() {
    let layer = breaker();
    let (one, other) = (layer.layer(callee(Does::Fails).service()), layer.clone().layer(callee(Does::Fails).service()));
    for mut service in [one.clone(), other.clone(), one, other] {
        let _ = call(&mut service, Request::new(())).await;
    }
    assert_eq!(layer.circuit().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_is_answered_where_no_error_may_be() {
    let layer = breaker();
    layer.circuit().force_open("a drill", None);
    let service = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("fine"))));
    let mut service = layer.reject_with(StatusCode::SERVICE_UNAVAILABLE).layer(service);

    let answer = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
    assert_eq!(&*answer.extensions().get::<Refused>().unwrap().0.name, "payments");
    assert!(http_body::Body::is_end_stream(answer.body()));

    let answer = service.ready().await.unwrap().call(grpc()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["grpc-status"], "14");
    assert!(answer.headers()["grpc-retry-pushback-ms"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
}

#[tokio::test(start_paused = true)]
async fn axum_takes_it_and_its_callers_get_503() {
    let layer = breaker();
    layer.circuit().force_open("a drill", None);
    let app: axum::Router = axum::Router::new()
        .route("/", axum::routing::get(async || "fine"))
        .layer(layer.clone().reject_with(StatusCode::SERVICE_UNAVAILABLE));
    let answer = app.clone().oneshot(Request::new(axum::body::Body::empty())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    layer.circuit().reset("the drill is over");
    let answer = app.oneshot(Request::new(axum::body::Body::empty())).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "fine");
}

#[tokio::test(start_paused = true)]
async fn what_an_inner_circuit_rejects_is_no_failure_of_an_outer_one() {
    let inner = breaker();
    inner.circuit().force_open("a drill", None);
    let fails = inner.layer(callee(Does::Status(200)).service());
    let answers = inner.reject_with(StatusCode::SERVICE_UNAVAILABLE).layer(callee(Does::Status(200)).service());
    let boxed = ServiceBuilder::new().map_err(BoxError::from).service(fails.clone());

    let outer = breaker();
    for _ in 0..10 {
        let _ = call(&mut outer.layer(fails.clone()), Request::new(())).await;
        let _ = call(&mut outer.layer(answers.clone()), Request::new(())).await;
        let _ = call(&mut outer.layer(boxed.clone()), Request::new(())).await;
    }
    let counts = outer.circuit().counts();
    assert_eq!((counts.failed, counts.ok), (0, 0), "{counts:?}");
    assert_eq!(outer.circuit().state(), State::Closed);
}

fn by_host(
    circuits: &Circuits,
) -> CircuitBreakerLayer<
    buttress::circuit_breaker::Keyed<
        impl for<'a> Fn(&buttress::observe::RequestHead<'a>) -> Cow<'a, str> + Clone + use<>,
    >,
> {
    CircuitBreakerLayer::keyed(circuits.clone(), |head| Cow::Borrowed(head.uri.host().unwrap_or_default()))
}

fn to(host: &str) -> Request<()> {
    Request::get(format!("http://{host}/")).body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_closes_no_other() {
    let circuits = Circuits::new("backends", config());
    let layer = by_host(&circuits);
    for _ in 0..4 {
        call(&mut layer.layer(callee(Does::Status(500)).service()), to("sick.example")).await.unwrap();
    }
    let mut service = layer.layer(callee(Does::Status(200)).service());
    call(&mut service, to("fine.example")).await.unwrap();
    let error = call(&mut service, to("sick.example")).await.unwrap_err();
    let Error::Open(rejected) = error else { panic!("{error:?}") };
    assert_eq!((&*rejected.name, rejected.key.as_deref()), ("backends", Some("sick.example")));
    assert_eq!(circuits.get("sick.example").state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_circuits_as_there_may_be_and_the_others_share_one() {
    let circuits = Circuits::new("tenants", config()).max_circuits(10).idle(Duration::from_secs(60));
    let mut service = by_host(&circuits).layer(callee(Does::Status(500)).service());
    for tenant in 0..1000 {
        let _ = call(&mut service, to(&format!("t{tenant}"))).await;
    }
    assert_eq!(circuits.all().len(), 11);
    assert_eq!(circuits.get("t999").key().map(|key| &**key), Some(Circuits::OVERFLOW));
    assert_eq!(circuits.get("t0").counts().failed, 1, "who was there first keeps what was counted");
    assert_eq!(circuits.get(&"x".repeat(10_000)).key().map(|key| &**key), Some(Circuits::OVERFLOW));

    for second in 0..=60 {
        advance(Duration::from_secs(1)).await;
        let _ = call(&mut service, to("t3")).await;
        let _ = second;
    }
    let _ = call(&mut service, to("new")).await;
    assert_eq!(circuits.get("new").key().map(|key| &**key), Some("new"), "idle circuits made room");
    assert!(circuits.evicted() >= 1);
    assert!(circuits.get("t3").counts().rejected > 0, "who is in use stays");
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_when_the_circuit_is_open_and_if_wanted_on_any_failure() {
    let remembered = service_fn(async |request: Request<Cause>| {
        let text = format!("{} {:?}", request.uri().path(), request.body());
        Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(text))))
    });
    let layer = breaker();
    let inner =
        ServiceBuilder::new().map_err(BoxError::from).layer(layer.clone()).service(callee(Does::Status(500)).service());
    let when_open = FallbackLayer::when_open(remembered);
    let when_failed = FallbackLayer::when_failed(remembered);
    let ask = async |fallback: &FallbackLayer<_>| {
        let request = Request::get("/tea").body(()).unwrap();
        let answer = fallback.layer(inner.clone()).oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status.as_u16(), String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap())
    };
    assert_eq!(ask(&when_open).await, (500, String::new()));
    assert_eq!(ask(&when_failed).await, (200, "/tea Answer(500)".to_owned()));
    layer.circuit().force_open("a drill", None);
    assert_eq!(ask(&when_open).await, (200, "/tea Open".to_owned()));
    assert_eq!((when_open.used(), when_failed.used()), (1, 1));

    let registry = Registry::new();
    when_open.report(&registry, "prices");
    assert_eq!(
        total(&registry, "buttress.circuit_breaker.fallbacks", &[("buttress.circuit_breaker.name", "prices")]),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_circuit_is_seen_among_the_metrics() {
    let (registry, layer) = (Registry::new(), breaker());
    layer.circuit().report(&registry);
    let mut service = layer.layer(callee(Does::Status(500)).service());
    for _ in 0..6 {
        let _ = call(&mut service, Request::new(())).await;
    }
    drop(registry.snapshot());
    let calls = |result| {
        let labels = [("buttress.circuit_breaker.name", "payments"), ("buttress.circuit_breaker.result", result)];
        total(&registry, "buttress.circuit_breaker.calls", &labels)
    };
    assert_eq!((calls("failed"), calls("rejected"), calls("ok")), (4, 2, 0));
    let key = [("buttress.circuit_breaker.name", "payments"), ("buttress.circuit_breaker.key", "")];
    let in_state = |state| {
        let labels = [key[0], key[1], ("buttress.circuit_breaker.state", state)];
        registry.gauge("buttress.circuit_breaker.in_state").with(labels).value()
    };
    assert_eq!((in_state("open"), in_state("closed"), in_state("half_open")), (1.0, 0.0, 0.0));
    assert_eq!(registry.gauge("buttress.circuit_breaker.state").with(key).value(), 1.0);
    let trips = |reason| {
        let labels = [key[0], ("buttress.circuit_breaker.reason", reason)];
        total(&registry, "buttress.circuit_breaker.trips", &labels)
    };
    assert_eq!((trips("failure_rate"), trips("forced")), (1, 0));
    layer.circuit().force_open("by hand", None);
    drop(registry.snapshot());
    assert_eq!((trips("failure_rate"), trips("forced")), (1, 1));

    layer.circuit().reset("all is well");
    drop(registry.snapshot());
    assert_eq!((in_state("open"), in_state("closed")), (0.0, 1.0), "the old state is cleared");
}

#[tokio::test(start_paused = true)]
async fn the_errors_of_the_callee_pass_as_they_are() {
    let mut service = breaker().layer(callee(Does::Fails).service());
    let error = call(&mut service, Request::new(())).await.unwrap_err();
    assert!(!error.is_open());
    assert_eq!(error.into_inner(), Some(Broken("no connection")));
}
