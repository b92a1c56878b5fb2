//! Who is traced.
#![cfg(all(feature = "trace", feature = "propagate"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::context::{Context, TraceContext, TraceFlags, TraceId, TraceState};
use buttress::observe::{Observe, ObserveLayer, Observed, Route, When};
use buttress::propagate::{PropagateLayer, SampledTrust, TrustPolicy};
use buttress::trace::{LateDecision, Ratio, Sampler, SpanKind, Spans, TraceLayer};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt;
use proptest::prelude::*;
use support::{Canned, Exchanged, TRACE_ID, TRACEPARENT, answer, exchange, get, with};
use tower::{Layer, ServiceExt};

const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const MILLIS: Duration = Duration::from_millis(1);

type Both = ObserveLayer<(buttress::propagate::Propagate, buttress::trace::Trace)>;

fn both(propagate: &PropagateLayer, trace: &TraceLayer) -> Both {
    ObserveLayer::server((propagate.observer(), trace.observer()))
}

fn sampled_by(sampler: Sampler) -> Both {
    both(&PropagateLayer::new(), &TraceLayer::server(Spans::new()).sampler(sampler))
}

async fn is_sampled(layer: &Both, request: Request<()>) -> bool {
    exchange(layer.clone(), request, answer(200)).await.context().is_sampled()
}

#[tokio::test]
async fn always_on_and_always_off_ask_nobody() {
    for traceparent in [TRACEPARENT, UNSAMPLED, "none"] {
        let request = || get("/", &[("traceparent", traceparent)]);
        assert!(is_sampled(&sampled_by(Sampler::always_on()), request()).await);
        assert!(!is_sampled(&sampled_by(Sampler::always_off()), request()).await);
    }
}

#[tokio::test]
async fn an_unsampled_request_leaves_no_span_and_is_sent_on_as_unsampled() {
    let spans = Spans::new();
    let layer = both(&PropagateLayer::new(), &TraceLayer::server(spans.clone()).sampler(Sampler::always_off()));
    let exchanged = exchange(layer, get("/", &[("traceparent", TRACEPARENT)]), answer(200)).await;
    assert_eq!(spans.stats().recorded, 0);
    assert_eq!(exchanged.context().trace_id().to_string(), TRACE_ID);
    assert!(!exchanged.context().is_sampled());
}

#[tokio::test]
async fn parent_based_has_five_branches_and_each_asks_its_own_sampler() {
    for branch in 0..5 {
        let mut samplers = [const { Sampler::always_off() }; 5];
        samplers[branch] = Sampler::always_on();
        let [root, remote_sampled, remote_not_sampled, local_sampled, local_not_sampled] = samplers;
        let sampler =
            Sampler::parent_based_with(root, remote_sampled, remote_not_sampled, local_sampled, local_not_sampled);
        let server = sampled_by(sampler.clone());
        let local = async |parent: Sampler| {
            let parent = exchange(sampled_by(parent), get("/", &[]), answer(200)).await.context().clone();
            let client = TraceLayer::client(Spans::new()).sampler(sampler.clone());
            parent.scope(exchange(client, get("http://h/", &[]), answer(200))).await.context().is_sampled()
        };
        let found = [
            is_sampled(&server, get("/", &[])).await,
            is_sampled(&server, get("/", &[("traceparent", TRACEPARENT)])).await,
            is_sampled(&server, get("/", &[("traceparent", UNSAMPLED)])).await,
            local(Sampler::always_on()).await,
            local(Sampler::always_off()).await,
        ];
        let expected: Vec<bool> = (0..5).map(|other| other == branch).collect();
        assert_eq!(found.as_slice(), expected);
    }
}

#[tokio::test]
async fn the_default_honours_the_caller_and_samples_every_root() {
    let layer = both(&PropagateLayer::new(), &TraceLayer::server(Spans::new()));
    assert!(is_sampled(&layer, get("/", &[])).await);
    assert!(is_sampled(&layer, get("/", &[("traceparent", TRACEPARENT)])).await);
    assert!(!is_sampled(&layer, get("/", &[("traceparent", UNSAMPLED)])).await);
}

/// The context behind a client layer with this sampler, called from a trace of these ids.
fn decide(sampler: Sampler, trace: TraceContext, tracestate: &str) -> Context {
    let client = TraceLayer::client(Spans::new()).sampler(sampler);
    let tracestate = TraceState::parse([tracestate.as_bytes()]).unwrap();
    let parent = Context::from_trace(trace).with_tracestate(tracestate);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(parent.scope(exchange(client, get("http://h/", &[]), answer(200)))).context().clone()
}

fn ratio(share: f64) -> Sampler {
    Sampler::ratio(Ratio::new(share).unwrap())
}

fn random_trace(trace_id: u128) -> TraceContext {
    let trace_id = TraceId::from_bytes(trace_id.to_be_bytes()).unwrap();
    TraceContext { trace_id, flags: TraceFlags::RANDOM, ..TraceContext::random() }
}

/// The threshold as the trace state tells it, padded to 14 digits.
fn threshold(context: &Context) -> Option<u64> {
    let sub_keys = context.tracestate().get("ot")?.to_owned();
    let digits = sub_keys.split(';').find_map(|pair| pair.strip_prefix("th:"))?;
    u64::from_str_radix(&format!("{digits:0<14}"), 16).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_trace_is_sampled_exactly_when_its_random_part_reaches_the_threshold(id in 1_u128.., share in 0.0_f64..=1.0) {
        let trace = random_trace(id);
        let context = decide(ratio(share), trace, "congo=1");
        let rejected = ((1.0 - share) * (1_u64 << 56) as f64).round() as u64;
        let expected = rejected < 1 << 56 && trace.trace_id.random_part() >= rejected;
        prop_assert_eq!(context.is_sampled(), expected);
        prop_assert_eq!(threshold(&context), expected.then_some(rejected));
        prop_assert_eq!(context.tracestate().get("congo"), Some("1"));
    }

    #[test]
    fn services_with_a_larger_share_sample_whatever_one_with_a_smaller_does(id in 1_u128.., a in 0.0_f64..=1.0, b in 0.0_f64..=1.0) {
        let trace = random_trace(id);
        let (small, large) = (a.min(b), a.max(b));
        let of = |share| decide(ratio(share), trace, "").is_sampled();
        prop_assert!(!of(small) || of(large));
    }

    #[test]
    fn an_explicit_random_value_counts_instead_of_the_trace_id(id in 1_u128.., random in 0_u64..1 << 56, share in 0.01_f64..=1.0) {
        let tracestate = format!("ot=rv:{random:014x};x:y");
        let context = decide(ratio(share), random_trace(id), &tracestate);
        let rejected = ((1.0 - share) * (1_u64 << 56) as f64).round() as u64;
        prop_assert_eq!(context.is_sampled(), random >= rejected);
        let sent = context.tracestate().get("ot").unwrap().to_owned();
        let rv = format!("rv:{random:014x}");
        prop_assert!(sent.contains(&rv) && sent.contains("x:y"), "{}", sent);
    }
}

#[test]
fn the_threshold_itself_is_sampled_and_the_number_below_it_is_not() {
    let half = 1_u64 << 55;
    for (random, sampled) in [(half, true), (half - 1, false)] {
        assert_eq!(decide(ratio(0.5), random_trace(u128::from(random)), "").is_sampled(), sampled);
        let tracestate = format!("ot=rv:{random:014x}");
        assert_eq!(decide(ratio(0.5), random_trace(1), &tracestate).is_sampled(), sampled);
    }
}

#[test]
fn the_threshold_of_a_half_is_written_short() {
    let sampled = decide(ratio(0.5), random_trace(u128::MAX), "");
    assert_eq!(sampled.tracestate().as_str(), "ot=th:8");
    let all = decide(ratio(1.0), random_trace(1), "");
    assert_eq!(all.tracestate().as_str(), "ot=th:0");
}

#[test]
fn an_unsampled_trace_sends_no_threshold() {
    let context = decide(ratio(0.5), random_trace(1), "ot=th:c;x:y,congo=1");
    assert!(!context.is_sampled());
    assert_eq!(context.tracestate().as_str(), "ot=x:y,congo=1");
    assert_eq!(decide(ratio(0.5), random_trace(1), "ot=th:c").tracestate().as_str(), "");
}

#[test]
fn a_trace_id_that_may_not_be_random_gets_a_random_value_that_all_services_share() {
    buttress::random::seed(11);
    let trace = TraceContext { flags: TraceFlags::NONE, ..random_trace(7) };
    let first = decide(ratio(0.5), trace, "");
    let sent = first.tracestate().as_str().to_owned();
    assert!(sent.contains("rv:"), "{sent}");
    for _ in 0..8 {
        assert_eq!(decide(ratio(0.5), trace, &sent).is_sampled(), first.is_sampled());
    }
}

#[tokio::test]
async fn the_sampled_share_is_the_one_that_was_asked_for() {
    buttress::random::seed(2024);
    let layer = sampled_by(ratio(0.1));
    let mut sampled = 0;
    for _ in 0..10_000 {
        sampled += u32::from(is_sampled(&layer, get("/", &[])).await);
    }
    // Five standard deviations of a binomial with n = 10000, p = 0.1 are 150.
    assert!((850..=1150).contains(&sampled), "{sampled} of 10000");
}

#[tokio::test(start_paused = true)]
async fn so_many_a_second_are_sampled_and_not_more() {
    let layer = sampled_by(Sampler::per_second(3));
    let mut sampled = 0;
    for _ in 0..10 {
        sampled += u32::from(is_sampled(&layer, get("/", &[])).await);
    }
    assert_eq!(sampled, 3);
    tokio::time::advance(334 * MILLIS).await;
    assert!(is_sampled(&layer, get("/", &[])).await);
    assert!(!is_sampled(&layer, get("/", &[])).await);
}

#[tokio::test]
async fn rules_go_by_path_method_and_header_and_the_first_that_holds_counts() {
    let debug = When::header(HeaderName::from_static("x-debug"), HeaderValue::from_static("1"));
    let layer = sampled_by(Sampler::rules(
        [
            (When::path("/healthz"), Sampler::always_off()),
            (When::method(Method::POST).and(When::path("/orders")), Sampler::always_on()),
            (debug, Sampler::always_on()),
        ],
        Sampler::always_off(),
    ));
    assert!(is_sampled(&layer, with(Request::post("/orders"), &[])).await);
    assert!(!is_sampled(&layer, get("/orders", &[])).await);
    assert!(is_sampled(&layer, get("/orders", &[("x-debug", "1")])).await);
    assert!(!is_sampled(&layer, get("/healthz", &[("x-debug", "1")])).await);
}

#[tokio::test]
async fn a_closure_sees_what_is_known_at_the_start() {
    let seen = Arc::new(Mutex::new(None));
    let told = seen.clone();
    let layer = sampled_by(Sampler::closure(move |input| {
        let head = input.request.unwrap();
        let route = head.extensions.get::<Route>().map(|route| route.as_str().to_owned());
        let facts = (input.kind, input.parent_sampled, input.parent_is_remote, head.uri.path().to_owned(), route);
        *told.lock().unwrap() = Some(facts);
        true
    }));
    let mut request = get("/items/7", &[("traceparent", UNSAMPLED)]);
    request.extensions_mut().insert(Route::from_static("/items/{id}"));
    assert!(is_sampled(&layer, request).await);
    let expected = (SpanKind::Server, Some(false), true, "/items/7".to_owned(), Some("/items/{id}".to_owned()));
    assert_eq!(*seen.lock().unwrap(), Some(expected));
}

#[tokio::test]
async fn a_restarted_or_distrusted_trace_never_shows_the_remote_flag_to_the_sampler() {
    let policies = [TrustPolicy::public(), TrustPolicy::internal().sampled(SampledTrust::Ignore)];
    for policy in policies {
        for traceparent in [TRACEPARENT, UNSAMPLED] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let told = seen.clone();
            let sampler = Sampler::closure(move |input| {
                told.lock().unwrap().push(input.parent_sampled);
                false
            });
            let trace = TraceLayer::server(Spans::new()).sampler(sampler);
            let layer = both(&PropagateLayer::new().trust(policy.clone()), &trace);
            assert!(!is_sampled(&layer, get("/", &[("traceparent", traceparent)])).await);
            assert_eq!(*seen.lock().unwrap(), [None]);
        }
    }
}

#[tokio::test]
async fn a_b3_trace_without_a_decision_is_decided_as_a_root() {
    let layer = both(
        &PropagateLayer::new().b3(true),
        &TraceLayer::server(Spans::new()).sampler(Sampler::parent_based(Sampler::always_on())),
    );
    let deferred = format!("{TRACE_ID}-00f067aa0ba902b7");
    assert!(is_sampled(&layer, get("/", &[("b3", &deferred)])).await);
    assert!(!is_sampled(&layer, get("/", &[("b3", &format!("{deferred}-0"))])).await);
    assert!(!is_sampled(&layer, get("/", &[("b3", "0")])).await);
}

#[test]
fn a_ratio_is_between_0_and_1() {
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(Ratio::new(bad).is_err(), "{bad}");
    }
    assert_eq!(Ratio::new(10.0).unwrap_err().to_string(), "a sampling ratio is between 0 and 1, not 10");
}

/// Nobody is sampled but by the late decision.
fn late(spans: &Spans, decision: LateDecision) -> TraceLayer {
    TraceLayer::server(spans.clone()).sampler(Sampler::always_off()).late_decision(decision)
}

/// An exchange whose head comes after this time, and whose body another time later.
async fn slow<O: Observe<()>>(
    layer: impl Layer<Slow, Service = Observed<Slow, O>>,
    head: Duration,
    body: Duration,
) -> http::HeaderMap {
    let service = layer.layer(Slow(Canned::new(answer(200)), head));
    let Ok(response) = service.oneshot(get("/", &[])).await;
    tokio::time::advance(body).await;
    let (head, body) = response.into_parts();
    drop(body.collect().await);
    head.headers
}

struct Slow(Canned, Duration);

impl tower::Service<Request<()>> for Slow {
    type Response = support::Answer;
    type Error = std::convert::Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let (answered, wait) = (self.0.call(request), self.1);
        Box::pin(async move {
            tokio::time::advance(wait).await;
            answered.await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_kept_although_nobody_sampled_it_and_the_answer_says_so() {
    let spans = Spans::new();
    let trace = late(&spans, LateDecision::errors(10).slower_than(100 * MILLIS));
    let layer = both(&PropagateLayer::new().server_timing(true), &trace);
    let headers = slow(layer.clone(), 99 * MILLIS, Duration::ZERO).await;
    assert_eq!((spans.stats().recorded, headers.get("x-trace-sampled")), (0, None));
    assert!(headers["server-timing"].to_str().unwrap().ends_with("-02"));

    let headers = slow(layer, 101 * MILLIS, Duration::ZERO).await;
    assert_eq!((spans.stats().recorded, &headers["x-trace-sampled"]), (1, &HeaderValue::from_static("late")));
    assert!(headers["server-timing"].to_str().unwrap().ends_with("-03"));
    let span = &spans.latest(1)[0];
    assert!(span.flags.is_sampled());
    assert_eq!(support::attribute(span, "buttress.sampled").unwrap(), "late");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_kept_too_but_its_head_could_not_say_so() {
    let spans = Spans::new();
    let headers = slow(late(&spans, LateDecision::errors(10).slower_than(100 * MILLIS)), MILLIS, 200 * MILLIS).await;
    assert_eq!((spans.stats().recorded, headers.get("x-trace-sampled")), (1, None));
}

#[tokio::test(start_paused = true)]
async fn failed_requests_are_kept_up_to_a_number_a_second() {
    let spans = Spans::new();
    let layer = late(&spans, LateDecision::errors(2));
    let fail = async |status| -> Exchanged { exchange(layer.clone(), get("/", &[]), answer(status)).await };
    for _ in 0..5 {
        fail(503).await;
    }
    assert_eq!(spans.stats().recorded, 2);
    tokio::time::advance(1000 * MILLIS).await;
    fail(404).await;
    assert_eq!(spans.stats().recorded, 2, "a 404 is no error of a server");
    assert_eq!(fail(500).await.answered("x-trace-sampled"), Some("late"));
    assert_eq!(spans.stats().recorded, 3);
}

#[tokio::test]
async fn a_client_keeps_late_spans_without_touching_the_answer() {
    let spans = Spans::new();
    let layer = TraceLayer::client(spans.clone()).sampler(Sampler::always_off()).late_decision(LateDecision::errors(9));
    let exchanged = exchange(layer, get("http://h/", &[]), answer(500)).await;
    assert_eq!((spans.stats().recorded, exchanged.answered("x-trace-sampled")), (1, None));
}

#[tokio::test]
async fn a_sampled_request_is_not_told_to_be_late() {
    let spans = Spans::new();
    let layer = TraceLayer::server(spans.clone()).late_decision(LateDecision::errors(9));
    assert_eq!(exchange(layer, get("/", &[]), answer(500)).await.answered("x-trace-sampled"), None);
    assert_eq!(support::attribute(&spans.latest(1)[0], "buttress.sampled"), None);
}

#[cfg(feature = "debug-header")]
mod debug_header {
    use buttress::trace::DebugHeader;

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("x-trace-debug");

    fn signer(key: &str) -> DebugHeader {
        DebugHeader::new(NAME, key.as_bytes().to_vec()).unwrap()
    }

    fn ours() -> DebugHeader {
        signer("0123456789abcdef")
    }

    async fn is_forced(value: &str) -> bool {
        let trace = TraceLayer::server(Spans::new()).sampler(Sampler::always_off()).debug_header(ours());
        is_sampled(&both(&PropagateLayer::new(), &trace), get("/", &[("x-trace-debug", value)])).await
    }

    fn signed(by: &DebugHeader, lifetime: Duration) -> String {
        by.sign(lifetime).to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_good_signature_forces_a_trace() {
        assert!(is_forced(&signed(&ours(), Duration::from_secs(60))).await);
        assert!(is_forced(&signed(&ours(), Duration::from_secs(u64::MAX / 2))).await, "cut to a day");
    }

    /// Signed with our key, long ago and for a day that is too far away.
    #[tokio::test]
    async fn a_good_signature_that_is_expired_or_lives_too_long_forces_nothing() {
        let expired = "1000000000.3f6cb0ed14bed0dc248c2c8fabafe816fcdd055ea718c04f8e6a925e59ddd78c";
        let far = "99999999999.4f128ca4ba301f85cd8d1d9a0715d5d4633913fb74bf6329cab34217089d898c";
        for value in [expired, far] {
            assert!(!is_forced(value).await, "{value}");
        }
    }

    #[tokio::test]
    async fn a_signature_of_another_key_forces_nothing() {
        assert!(!is_forced(&signed(&signer("another key of 16 bytes"), Duration::from_secs(60))).await);
    }

    #[tokio::test]
    async fn a_bad_signature_forces_nothing() {
        let good = signed(&ours(), Duration::from_secs(60));
        let (expiry, hex) = good.split_once('.').unwrap();
        let later = expiry.parse::<u64>().unwrap() + 1;
        let zeros = "0".repeat(64);
        let bad = [
            format!("{later}.{hex}"),
            format!("{expiry}.{zeros}"),
            format!("{expiry}.{}", &hex[..62]),
            format!("{expiry}.{hex}00"),
            format!("{expiry}{hex}"),
            format!("{expiry}.{}", "zz".repeat(32)),
            ".".to_owned(),
            String::new(),
        ];
        for value in bad {
            assert!(!is_forced(&value).await, "{value}");
        }
    }

    #[test]
    fn a_short_key_is_refused_and_no_key_is_shown() {
        let error = DebugHeader::new(NAME, b"short".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "a debug header key has at least 16 bytes, not 5");
        assert!(!format!("{:?}", ours()).contains("0123456789"));
    }
}
