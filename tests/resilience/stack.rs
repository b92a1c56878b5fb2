//! The whole client: what its layers see of each attempt, and what each of them does about the others.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Telemetry;
use buttress::backoff::Backoff;
use buttress::circuit_breaker::{CircuitConfig, Circuits, Rejected, State, preset};
use buttress::context::Context;
use buttress::retry::{Reason, TimedOut};
use buttress::settings::Settings;
use buttress::signal::Signal;
use buttress::stack::ClientStack;
use buttress::trace::{SpanKind, SpanRecord};
use buttress_tests::numbers::{count, total};
use buttress_tests::{Broken, ScriptBody, Step};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use tower::{BoxError, Service, ServiceExt, service_fn};

/// What the callee does next.
#[derive(Clone, Debug)]
enum Does {
    Answers(u16),
    Fails,
    Hangs,
    BreaksOff,
}

/// Does what is on the list, and then always the last.
#[derive(Clone, Default)]
struct Callee {
    list: Arc<Mutex<VecDeque<Does>>>,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    called: Arc<AtomicUsize>,
}

impl Callee {
    fn new(list: impl IntoIterator<Item = Does>) -> Self {
        Self { list: Arc::new(Mutex::new(list.into_iter().collect())), ..Self::default() }
    }

    fn called(&self) -> usize {
        self.called.load(Ordering::Relaxed)
    }

    fn service<B: Send + 'static>(
        &self,
    ) -> impl Service<Request<B>, Response = Response<ScriptBody>, Error = io::Error, Future: Send> + Clone + use<B>
    {
        let this = self.clone();
        service_fn(move |request: Request<B>| {
            this.called.fetch_add(1, Ordering::Relaxed);
            this.heads.lock().unwrap().push(request.headers().clone());
            let mut list = this.list.lock().unwrap();
            let does = if list.len() > 1 { list.pop_front().unwrap() } else { list[0].clone() };
            drop(list);
            async move {
                match does {
                    Does::Answers(status) => {
                        let mut response = Response::new(ScriptBody::new([Step::Data("some")]));
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        Ok(response)
                    }
                    Does::Fails => Err(io::ErrorKind::ConnectionReset.into()),
                    Does::Hangs => pending().await,
                    Does::BreaksOff => {
                        Ok(Response::new(ScriptBody::new([Step::Data("so"), Step::Fail("connection reset")])))
                    }
                }
            }
        })
    }
}

fn telemetry() -> Telemetry {
    Telemetry::new(Settings::read("storefront", |_| None).unwrap())
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://stock.example/tea").body(Empty::new()).unwrap()
}

/// Opens at half of at least four calls.
fn touchy() -> CircuitConfig {
    CircuitConfig::default().minimum_calls(4).consecutive_failures(None)
}

async fn ask<S, B>(client: &S, request: Request<Empty<Bytes>>) -> Result<StatusCode, BoxError>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = BoxError> + Clone,
    B: http_body::Body<Error = Broken>,
{
    let response = client.clone().oneshot(request).await?;
    let status = response.status();
    drop(response.into_body().collect().await);
    Ok(status)
}

fn attempts(telemetry: &Telemetry) -> Vec<Arc<SpanRecord>> {
    let mut spans = telemetry.latest_spans(100);
    spans.reverse();
    spans.into_iter().filter(|span| span.kind == SpanKind::Client).collect()
}

fn attribute(span: &SpanRecord, name: &str) -> Option<String> {
    span.attribute(name).map(ToString::to_string)
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_a_span_that_knows_which_it_is_and_links_to_the_one_before() {
    let (telemetry, callee) = (telemetry(), Callee::new([Does::Answers(503), Does::Fails, Does::Answers(200)]));
    let client = telemetry.client("stock").service(callee.service());
    // As within a handler.
    assert_eq!(Context::root().scope(ask(&client, get())).await.unwrap(), 200);

    let spans = attempts(&telemetry);
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let counts: Vec<_> = spans.iter().map(|span| attribute(span, "http.request.resend_count")).collect();
    assert_eq!(counts, [None, Some("1".to_owned()), Some("2".to_owned())]);
    for pair in spans.windows(2) {
        assert_eq!(pair[1].links.len(), 1, "{:#?}", pair[1]);
        assert_eq!(pair[1].links[0].trace.span_id, pair[0].span_id);
        assert_eq!(pair[0].trace_id, pair[1].trace_id);
    }
    let parents: Vec<_> =
        callee.heads.lock().unwrap().iter().map(|head| head["traceparent"].to_str().unwrap().to_owned()).collect();
    for (span, parent) in spans.iter().zip(parents) {
        assert!(parent.contains(&span.span_id.to_string()), "each attempt is the parent of what the callee does");
    }
    let attempts: Vec<_> = callee.heads.lock().unwrap().iter().map(|head| head.get("retry-attempt").cloned()).collect();
    assert_eq!(attempts, [None, Some("2".parse().unwrap()), Some("3".parse().unwrap())]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_measured_and_reported_to_the_circuit_with_the_same_verdict() {
    let (telemetry, callee) = (telemetry(), Callee::new([Does::Answers(503), Does::Answers(503), Does::Answers(200)]));
    let stack = telemetry.client("stock");
    assert_eq!(ask(&stack.service(callee.service()), get()).await.unwrap(), 200);

    let counts = stack.circuit().counts();
    assert_eq!((counts.failed, counts.ok), (2, 1));
    let metrics = telemetry.metrics();
    let of = |status: &'static str| [("http.response.status_code", status)];
    assert_eq!(count(metrics, "http.client.request.duration", &of("503")), 2);
    assert_eq!(count(metrics, "http.client.request.duration", &of("200")), 1);
    let errors = attempts(&telemetry).iter().filter(|span| span.outcome.is_error()).count();
    assert_eq!(errors, 2);
    assert_eq!(stack.retries().stats().repeats(Reason::Status), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_not_retried_and_costs_no_budget() {
    let (telemetry, callee) = (telemetry(), Callee::new([Does::Answers(500)]));
    let stack = telemetry.client("stock").circuit_config(touchy());
    let client = stack.service(callee.service());
    for _ in 0..4 {
        // 500 is nothing that another try would change.
        assert_eq!(ask(&client, get()).await.unwrap(), 500);
    }
    let error = ask(&client, get()).await.unwrap_err();
    let rejected = Rejected::of(&*error).expect("a rejection");
    assert_eq!(&*rejected.name, "stock");
    assert!(rejected.retry_after > Duration::ZERO);
    assert_eq!(callee.called(), 4);
    let stats = stack.retries().stats();
    assert_eq!((stats.all_repeats(), stats.budget.withdrawn, stats.budget.denied), (0, 0, 0));
    assert_eq!(stack.circuit().counts().rejected, 1);
    assert_eq!(attempts(&telemetry).len(), 4, "nobody was called: no span");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_the_circuit_has_come_to_reject_is_paid_back() {
    let callee = Callee::new([Does::Answers(503)]);
    let stack = ClientStack::new("stock").circuit_config(touchy().minimum_calls(1));
    let before = stack.retries().stats().budget.balance;
    // The first attempt opens the circuit, which rejects the second.
    let error = ask(&stack.service(callee.service()), get()).await.unwrap_err();
    assert!(Rejected::of(&*error).is_some());
    let stats = stack.retries().stats();
    assert_eq!((callee.called(), stats.repeats(Reason::Status)), (1, 1));
    assert_eq!(stats.budget.balance, before);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_a_timeout_to_span_metrics_circuit_and_retry() {
    let (telemetry, callee) = (telemetry(), Callee::new([Does::Hangs, Does::Answers(200)]));
    let stack = telemetry.client("stock").attempt_timeout(Duration::from_millis(250));
    assert_eq!(ask(&stack.service(callee.service()), get()).await.unwrap(), 200);

    let spans = attempts(&telemetry);
    assert_eq!(spans[0].error_type.map(|name| name.to_string()).as_deref(), Some("timeout"));
    assert_eq!(count(telemetry.metrics(), "http.client.request.duration", &[("error.type", "timeout")]), 1);
    assert_eq!(stack.circuit().counts().failed, 1);
    assert_eq!(stack.retries().stats().repeats(Reason::Timeout), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_all_attempts_and_waits_together() {
    let callee = Callee::new([Does::Hangs]);
    let stack = ClientStack::new("stock")
        .attempt_timeout(Duration::from_secs(1))
        .deadline(Duration::from_millis(1500))
        .retry(|retry| retry.attempts(10).backoff(Backoff::constant(Duration::from_millis(10))));
    let began = tokio::time::Instant::now();
    let error = ask(&stack.service(callee.service()), get()).await.unwrap_err();
    assert_eq!(TimedOut::of(&*error), Some(&TimedOut::Deadline));
    assert_eq!((callee.called(), began.elapsed().as_millis()), (2, 1500));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_a_failure_to_the_circuit_and_too_late_for_another_try() {
    let (telemetry, callee) = (telemetry(), Callee::new([Does::BreaksOff]));
    let stack = telemetry.client("stock").circuit_config(touchy());
    let client = stack.service(callee.service());
    for _ in 0..4 {
        assert_eq!(ask(&client, get()).await.unwrap(), 200);
    }
    assert_eq!((callee.called(), stack.circuit().state()), (4, State::Open));
    assert!(attempts(&telemetry).iter().all(|span| span.outcome.is_error()));
}

#[tokio::test(start_paused = true)]
async fn circuit_and_retries_are_among_the_metrics_once_and_tell_signals() {
    let telemetry = telemetry();
    let mut heard = telemetry.signals().subscribe();
    let callee = Callee::new([Does::Answers(503)]);
    let stack = telemetry.client("stock").circuit_config(touchy());
    let client = stack.service(callee.service());
    let _again = stack.service(callee.service::<Empty<Bytes>>());
    for _ in 0..3 {
        let _ = ask(&client, get()).await;
    }
    let metrics = telemetry.metrics();
    let failed = [("buttress.circuit_breaker.name", "stock"), ("buttress.circuit_breaker.result", "failed")];
    assert_eq!(total(metrics, "buttress.circuit_breaker.calls", &failed), 4);
    let repeats = [("buttress.retry.client", "stock"), ("buttress.retry.reason", "status")];
    assert!(total(metrics, "buttress.retry.repeats", &repeats) >= 1);

    let mut opened = false;
    let mut exhausted = false;
    while !(opened && exhausted) {
        match heard.next().await.expect("the telemetry lives") {
            Signal::Circuit(transition) => {
                assert_eq!((&*transition.name, transition.from, transition.to), ("stock", State::Closed, State::Open));
                opened = true;
            }
            Signal::RetriesExhausted { client, attempts } => {
                assert_eq!((&*client, attempts), ("stock", 3));
                exhausted = true;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_for_each_host_keeps_the_trouble_of_one_from_the_others() {
    let callee = Callee::new([Does::Answers(500)]);
    let circuits = Circuits::new("backends", touchy());
    let stack = ClientStack::new("backends")
        .keyed(circuits.clone(), |head| std::borrow::Cow::Borrowed(head.uri.host().unwrap_or_default()));
    let client = stack.service(callee.service());
    let to = |host: &str| Request::get(format!("http://{host}/")).body(Empty::new()).unwrap();
    for _ in 0..5 {
        let _ = ask(&client, to("one.example")).await;
    }
    assert_eq!(ask(&client, to("other.example")).await.unwrap(), 500);
    assert_eq!(circuits.get("one.example").state(), State::Open);
    assert_eq!(circuits.get("other.example").state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_preset_brings_its_circuit_and_its_timeout() {
    let callee = Callee::new([Does::Hangs]);
    let stack = ClientStack::new("payments").preset(preset::PAYMENT_API).without_retry();
    let began = tokio::time::Instant::now();
    let error = ask(&stack.service(callee.service()), get()).await.unwrap_err();
    assert_eq!(TimedOut::of(&*error), Some(&TimedOut::Attempt(Duration::from_secs(15))));
    assert_eq!(began.elapsed(), Duration::from_secs(15));
    assert_eq!(stack.circuit().config(), &preset::PAYMENT_API.config());
}

#[tokio::test(start_paused = true)]
async fn without_telemetry_nothing_is_seen_and_everything_is_done() {
    let settings =
        Settings::read("storefront", |name| (name == "OTEL_SDK_DISABLED").then(|| "true".to_owned())).unwrap();
    let telemetry = Telemetry::new(settings);
    let callee = Callee::new([Does::Answers(503), Does::Answers(200)]);
    let stack = telemetry.client("stock");
    assert_eq!(ask(&stack.service(callee.service()), get()).await.unwrap(), 200);
    assert_eq!((callee.called(), stack.circuit().counts().ok), (2, 1));
    assert_eq!(telemetry.spans().stats().recorded, 0);
    assert!(callee.heads.lock().unwrap().iter().all(|head| !head.contains_key("traceparent")));
}
