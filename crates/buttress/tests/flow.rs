//! Flows: what takes several steps, over several requests.
#![cfg(feature = "trace")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::future::ready;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use buttress::context::{self, Baggage, Context};
use buttress::trace::{FlowId, Flows, Operation, Sampler, SpanRecord, Spans};

fn named(spans: &Spans, name: &str) -> Arc<SpanRecord> {
    let all = spans.latest(1024);
    all.into_iter().find(|span| span.name == name).expect("the span was recorded")
}

fn told(span: &SpanRecord, key: &str) -> String {
    span.attribute(key).map(ToString::to_string).unwrap_or_default()
}

/// What another process would be sent from within a step.
fn baggage_within(flow: &buttress::trace::Flow) -> Baggage {
    flow.step("call").infallible().call(|| context::current().unwrap().baggage().clone())
}

#[tokio::test(start_paused = true)]
async fn a_flow_is_a_span_from_its_start_to_its_end() {
    let spans = Spans::new();
    let flows = Flows::new(&spans);
    let opener = Context::root();
    let flow = opener.enter(|| flows.start("room.create"));
    flow.attribute("room.id", "blue");
    flow.step("reserve").run(ready(Ok::<_, io::Error>(()))).await.unwrap();
    tokio::time::advance(Duration::from_secs(90)).await;
    assert!(flow.complete());
    let span = named(&spans, "room.create");
    assert_eq!((span.outcome.as_str(), told(&span, "flow.outcome").as_str()), ("ok", "completed"));
    assert_eq!(span.duration().as_secs(), 90);
    assert_eq!((told(&span, "room.id").as_str(), told(&span, "flow.steps").as_str()), ("blue", "1"));
    assert_eq!(span.attribute("flow.failed_step"), None);
    assert_eq!(span.parent_span_id, None);
    assert_eq!(span.links[0].trace.trace_id, opener.trace_id());
}

#[test]
fn a_step_is_a_span_of_its_request_that_links_its_flow() {
    let spans = Spans::new();
    let flows = Flows::new(&spans);
    let flow = flows.start("login");
    flow.attribute("login.method", "password");
    let id = flow.id();
    Operation::new("request", &spans).infallible().call(|| flow.step("verify").infallible().call(|| ()));
    flow.complete();
    let (step, request, whole) = (named(&spans, "verify"), named(&spans, "request"), named(&spans, "login"));
    assert_eq!((step.trace_id, step.parent_span_id), (request.trace_id, Some(request.span_id)));
    assert_eq!((step.links.len(), step.links[0].trace.span_id), (1, whole.span_id));
    assert_eq!((told(&step, "flow.id"), told(&step, "flow.name")), (id.to_string(), "login".to_owned()));
    assert_eq!(told(&step, "login.method"), "password");
    assert_eq!(told(&whole, "flow.id"), id.to_string());
}

#[test]
fn a_later_request_goes_on_with_the_flow_of_its_baggage() {
    let spans = Spans::new();
    let flows = Flows::new(&spans);
    let flow = flows.start("recording");
    let id = flow.id();
    let baggage = baggage_within(&flow);
    assert_eq!(baggage.get("flow.id").unwrap(), id.to_string());
    assert_eq!(baggage.get("flow.name").unwrap(), "recording");
    assert_eq!(flow.leave_open(), id);

    let next = Context::root().with_baggage(Baggage::parse([baggage.as_str().as_bytes()]));
    next.enter(|| {
        let flow = flows.current().unwrap();
        assert_eq!((flow.id(), flow.name(), flow.is_open()), (id, "recording", true));
        flow.step("stop").infallible().call(|| ());
        drop(flow);
        assert!(flows.current().unwrap().is_open());
    });
    assert!(flows.resume(id).unwrap().complete());
    assert!(flows.resume(id).is_none());
    assert_eq!(told(&named(&spans, "recording"), "flow.steps"), "2");
}

#[test]
fn it_fails_at_the_last_step_that_failed_and_was_not_repeated_with_success() {
    let spans = Spans::new();
    let flows = Flows::new(&spans);
    let step = |flow: &buttress::trace::Flow, name: &'static str, works: bool| {
        let _ = flow.step(name).call(|| works.then_some(()).ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut)));
    };
    let flow = flows.start("upload");
    step(&flow, "open", false);
    step(&flow, "open", true);
    step(&flow, "send", false);
    step(&flow, "clean", true);
    assert!(flow.fail("gave_up"));
    let span = named(&spans, "upload");
    assert_eq!((span.outcome.as_str(), told(&span, "error.type").as_str()), ("error", "gave_up"));
    assert_eq!(told(&span, "flow.failed_step"), "send");

    let flow = flows.start("retried");
    step(&flow, "open", false);
    step(&flow, "open", true);
    step(&flow, "send", true);
    flow.fail("not_found");
    assert_eq!(told(&named(&spans, "retried"), "flow.failed_step"), "send");
}

#[test]
fn dropping_the_handle_that_started_it_abandons_it_where_it_stood() {
    let spans = Spans::new();
    let flows = Flows::new(&spans);
    let flow = flows.start("registration");
    flow.step("form").infallible().call(|| ());
    drop(flow);
    let span = named(&spans, "registration");
    assert_eq!((span.outcome.as_str(), told(&span, "flow.outcome").as_str()), ("cancelled", "abandoned"));
    assert_eq!(told(&span, "flow.failed_step"), "form");

    catch_unwind(AssertUnwindSafe(|| {
        let _flow = flows.start("broken");
        panic!("on purpose");
    }))
    .unwrap_err();
    assert_eq!(told(&named(&spans, "broken"), "error.type"), "panic");
    let stats = flows.stats();
    assert_eq!((stats.open, stats.started, stats.abandoned, stats.failed), (0, 2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_ends_is_abandoned_after_its_time() {
    let spans = Spans::new();
    let flows = Flows::new(&spans).expire_after(Duration::from_secs(60));
    let old = flows.start("old").leave_open();
    tokio::time::advance(Duration::from_secs(40)).await;
    let young = flows.start("young").leave_open();
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(flows.resume(old).is_none());
    assert!(flows.resume(young).is_some());
    assert_eq!(told(&named(&spans, "old"), "flow.outcome"), "abandoned");
    assert_eq!((flows.stats().open, flows.stats().abandoned), (1, 1));
}

#[test]
fn the_oldest_makes_room_when_there_are_too_many() {
    let spans = Spans::new();
    let flows = Flows::new(&spans).capacity(3);
    let ids: Vec<FlowId> = (0..10).map(|_| flows.start("room.create").leave_open()).collect();
    assert_eq!((flows.stats().open, flows.stats().abandoned), (3, 7));
    let open: Vec<bool> = ids.iter().map(|id| flows.resume(*id).is_some()).collect();
    assert_eq!(open, [false, false, false, false, false, false, false, true, true, true]);
}

#[test]
fn it_ends_once() {
    let spans = Spans::new();
    let flows = Flows::new(&spans);
    let id = flows.start("login").leave_open();
    let (one, other) = (flows.resume(id).unwrap(), flows.resume(id).unwrap());
    assert!(one.complete());
    assert!(!other.fail("late"));
    assert_eq!(spans.latest(9).len(), 1);
    assert_eq!((flows.stats().completed, flows.stats().failed), (1, 0));
}

#[test]
fn a_flow_of_another_process_is_told_on_spans_and_kept_nowhere() {
    let (spans, elsewhere) = (Spans::new(), Flows::new(&Spans::new()));
    let flows = Flows::new(&spans);
    let flow = elsewhere.start("order");
    let came = Context::root().with_baggage(baggage_within(&flow));
    came.enter(|| {
        let here = flows.current().unwrap();
        assert!(!here.is_open());
        here.attribute("ignored", true);
        let passed_on = baggage_within(&here);
        assert_eq!(passed_on, *came.baggage());
        assert!(!here.complete());
    });
    let step = named(&spans, "call");
    assert_eq!((told(&step, "flow.id"), told(&step, "flow.name")), (flow.id().to_string(), "order".to_owned()));
    assert_eq!(flows.stats(), Default::default());
    assert!(flow.is_open());
}

#[test]
fn hostile_baggage_starts_nothing() {
    let flows = Flows::new(&Spans::new());
    for nth in 1..1000_u32 {
        let header = format!("flow.id={nth:032x},flow.name={}", "x".repeat(100));
        Context::root().with_baggage(Baggage::parse([header.as_bytes()])).enter(|| {
            let flow = flows.current().unwrap();
            assert_eq!(flow.name(), "_OTHER");
            flow.attribute("key", "value").step("step").infallible().call(|| ());
        });
    }
    for id in ["", "7", "00000000000000000000000000000000", "4BF92F3577B34DA6A3CE929D0E0E4736", "%00"] {
        let header = format!("flow.id={id}");
        Context::root().with_baggage(Baggage::parse([header.as_bytes()])).enter(|| assert!(flows.current().is_none()));
    }
    assert_eq!((flows.stats().open, flows.stats().started), (0, 0));
}

#[test]
fn full_baggage_stays_as_it_is() {
    let flows = Flows::new(&Spans::new());
    let full: Vec<String> = (0..64).map(|nth| format!("key{nth}=x")).collect();
    let full = Baggage::parse([full.join(",").as_bytes()]);
    let flow = flows.start("login");
    let within = Context::root().with_baggage(full.clone()).enter(|| baggage_within(&flow));
    assert_eq!(within, full);
    flow.complete();
}

#[test]
fn secrets_of_attributes_do_not_show() {
    let spans = Spans::new();
    let flow = Flows::new(&spans).start("login");
    flow.attribute("password", "hunter2");
    let baggage = baggage_within(&flow);
    flow.complete();
    for span in spans.latest(9) {
        assert_eq!(told(&span, "password"), "REDACTED");
    }
    assert!(!baggage.as_str().contains("hunter2"));
}

#[test]
fn a_flow_is_sampled_as_what_started_it() {
    let spans = Spans::new();
    let flows = Flows::new(&spans);
    let off = Operation::new("request", &spans).sampler(Sampler::always_off()).infallible();
    off.call(|| {
        let flow = flows.start("login");
        flow.step("verify").infallible().call(|| ());
        flow.complete();
    });
    assert_eq!(spans.stats().recorded, 0);
    assert_eq!(flows.stats().completed, 1);
}

#[cfg(feature = "telemetry")]
#[tokio::test]
async fn telemetry_counts_flows_by_how_they_ended_and_where() {
    use buttress::Telemetry;

    let telemetry = Telemetry::from_env("test").unwrap();
    let metrics = telemetry.metrics();
    let active = metrics.up_down_counter("buttress.flow.active").with([("flow.name", "upload")]);
    telemetry.flow("upload").complete();
    let flow = telemetry.flow("upload");
    assert_eq!(active.value(), 1);
    let _ = flow.step("send").call(|| Err::<(), _>("lost"));
    flow.fail("lost");
    assert_eq!(active.value(), 0);
    let ended = metrics.counter("buttress.flow.completed");
    assert_eq!(ended.with([("flow.name", "upload"), ("buttress.outcome", "completed")]).value(), 1);
    let failed = [("flow.name", "upload"), ("buttress.outcome", "failed"), ("flow.failed_step", "send")];
    assert_eq!(ended.with(failed).value(), 1);
    let took = metrics.timer("buttress.flow.duration");
    assert_eq!(took.with([("flow.name", "upload"), ("buttress.outcome", "failed")]).window().unwrap().count(), 1);
    assert_eq!(telemetry.flows().stats().started, 2);
}
