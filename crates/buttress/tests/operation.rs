//! Operations: a span for each run, right about how it ended.
#![cfg(feature = "trace")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::cell::Cell;
use std::future::{pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use buttress::context::{self, Context, TraceContext, TraceFlags};
use buttress::trace::{Operation, Sampler, SpanKind, SpanRecord, Spans, Status};

fn last(spans: &Spans) -> Arc<SpanRecord> {
    spans.latest(1).pop().expect("a span was recorded")
}

fn told(span: &SpanRecord, key: &str) -> String {
    span.attribute(key).map(ToString::to_string).unwrap_or_default()
}

fn unsampled() -> Context {
    let trace = TraceContext { flags: TraceFlags::from_byte(0), ..TraceContext::random() };
    // Decided by a sampler, as below any layer.
    let spans = Spans::new();
    Context::from_trace(trace).enter(|| {
        let off = Operation::new("off", &spans).sampler(Sampler::always_off()).begin();
        off.context().cloned().unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn a_run_leaves_an_internal_span_of_its_whole_time() {
    let spans = Spans::new();
    let charge = Operation::new("charge", &spans).attribute("provider", "acme").run(async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok::<_, io::Error>(7)
    });
    assert_eq!(charge.await.unwrap(), 7);
    let span = last(&spans);
    assert_eq!((span.name.as_ref(), span.kind, span.outcome.as_str()), ("charge", SpanKind::Internal, "ok"));
    assert_eq!((span.status, span.error_type, span.ending), (Status::Unset, None, None));
    assert_eq!(span.duration().as_millis(), 40);
    assert_eq!(told(&span, "provider"), "acme");
}

#[tokio::test]
async fn an_err_is_an_error_named_as_those_of_clients() {
    let spans = Spans::new();
    let charge = Operation::new("charge", &spans);
    charge.run(ready(Err::<(), _>(io::Error::from(io::ErrorKind::TimedOut)))).await.unwrap_err();
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), span.status), ("timeout", Status::Error));
    assert_eq!(told(&span, "error.type"), "timeout");
    charge.run(ready(Err::<(), _>("refused".to_owned()))).await.unwrap_err();
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), told(&span, "error.type").as_str()), ("error", "alloc::string::String"));
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_is_slow_and_an_objective_is_met_or_missed() {
    let spans = Spans::new();
    let charge = Operation::new("charge", &spans).slow(Duration::from_millis(20)).slo(Duration::from_millis(50));
    let marks = || {
        let span = last(&spans);
        (told(&span, "operation.slow"), told(&span, "operation.slo_met"))
    };
    let takes = async |millis: u64| {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok::<_, &str>(())
    };
    charge.run(takes(20)).await.unwrap();
    assert_eq!(marks(), (String::new(), "true".into()));
    charge.run(takes(50)).await.unwrap();
    assert_eq!(marks(), ("true".into(), "true".into()));
    charge.run(takes(51)).await.unwrap();
    assert_eq!(marks(), ("true".into(), "false".into()));
    charge.run(ready(Err::<(), _>("refused"))).await.unwrap_err();
    assert_eq!(marks(), (String::new(), "false".into()));
    drop(charge.begin());
    assert_eq!(marks(), (String::new(), String::new()));
    let left = charge.begin();
    tokio::time::sleep(Duration::from_millis(51)).await;
    drop(left);
    assert_eq!(marks(), ("true".into(), "false".into()));
}

#[test]
fn an_operation_can_leave_an_event_at_its_end() {
    let spans = Spans::new();
    let placed = Operation::new("place", &spans).event("order.placed");
    placed.call(|| Err::<(), _>("refused")).unwrap_err();
    let [event] = &last(&spans).events[..] else { panic!("one event") };
    let attributes: Vec<_> = event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        (event.name.as_ref(), attributes.join(" ")),
        ("order.placed", "buttress.outcome=error error.type=&str".into())
    );
}

#[test]
fn a_closure_can_judge_and_what_cannot_fail_need_not() {
    let spans = Spans::new();
    let lookup = Operation::new("lookup", &spans).judged(|status: &u16| (*status == 404).then_some("not_found"));
    lookup.call(|| 404);
    assert_eq!(told(&last(&spans), "error.type"), "not_found");
    lookup.call(|| 200);
    assert_eq!(last(&spans).outcome.as_str(), "ok");
    Operation::new("resize", &spans).infallible().call(|| ());
    assert_eq!(last(&spans).name, "resize");
}

#[tokio::test]
async fn a_run_that_is_dropped_was_cancelled() {
    let spans = Spans::new();
    let waits = Operation::new("wait", &spans).infallible();
    {
        let mut run = pin!(waits.run(pending::<()>()));
        assert_eq!(run.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())), Poll::Pending);
        assert!(spans.latest(1).is_empty());
    }
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), span.status), ("cancelled", Status::Unset));
}

#[test]
fn a_future_that_nobody_polls_leaves_no_span() {
    let spans = Spans::new();
    drop(Operation::new("never", &spans).infallible().run(pending::<()>()));
    assert!(spans.latest(1).is_empty());
}

#[tokio::test]
async fn a_panic_is_told_and_goes_on() {
    let spans = Spans::new();
    let breaks = Operation::new("break", &spans).infallible();
    let task = breaks.spawn(async { panic!("on purpose") });
    assert!(task.await.unwrap_err().is_panic());
    let task = breaks.blocking(|| panic!("on purpose"));
    assert!(task.await.unwrap_err().is_panic());
    catch_unwind(AssertUnwindSafe(|| breaks.call(|| panic!("on purpose")))).unwrap_err();
    catch_unwind(AssertUnwindSafe(|| {
        let _running = breaks.begin();
        panic!("on purpose");
    }))
    .unwrap_err();
    let all = spans.latest(9);
    assert_eq!(all.len(), 4);
    for span in all {
        assert_eq!((span.outcome.as_str(), span.status), ("panicked", Status::Error));
        assert_eq!(told(&span, "error.type"), "panic");
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_run_work_tells_a_success_from_an_error() {
    let spans = Spans::new();
    let operation = Operation::new("work", &spans);
    for (is_well, expected) in [(true, "ok"), (false, "error")] {
        let work = move || if is_well { Ok(()) } else { Err("refused".to_owned()) };
        let _ = operation.run(async move { work() }).await;
        let _ = operation.spawn(async move { work() }).await.unwrap();
        let _ = operation.call(work);
        let _ = operation.blocking(work).await.unwrap();
        let _ = operation.callback(move |()| work())(());
        let _ = operation.after(Duration::from_secs(1), async move { work() }).await;
        let outcomes: Vec<_> = spans.latest(6).iter().map(|span| span.outcome.as_str()).collect();
        assert_eq!(outcomes, [expected; 6]);
    }
    assert_eq!(spans.latest(20).len(), 12);
}

#[tokio::test]
async fn a_task_that_is_aborted_was_cancelled_and_a_timer_that_never_fires_leaves_no_span() {
    let spans = Spans::new();
    let waits = Operation::new("wait", &spans).infallible();
    let task = waits.spawn(pending::<()>());
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(last(&spans).outcome.as_str(), "cancelled");
    let mut later = Box::pin(waits.after(Duration::from_secs(3600), ready(())));
    assert!(later.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
    drop(later);
    assert_eq!(spans.latest(9).len(), 1);
}

#[test]
fn what_is_begun_was_cancelled_unless_it_is_told_how_it_ended() {
    let spans = Spans::new();
    let import = Operation::new("import", &spans);
    drop(import.begin());
    import.begin().succeed();
    import.begin().fail("malformed");
    let ended: Vec<_> = spans.latest(3).iter().rev().map(|span| span.outcome.as_str()).collect();
    assert_eq!(ended, ["cancelled", "ok", "error"]);
    assert_eq!(told(&last(&spans), "error.type"), "malformed");
}

#[tokio::test]
async fn operations_within_operations_are_their_children_on_whatever_thread() {
    let spans = Spans::new();
    let named = |name| Operation::new(name, &spans).infallible();
    named("outer")
        .run(async {
            named("inner").run(ready(())).await;
            named("task").spawn(ready(())).await.unwrap();
            named("blocking").blocking(|| ()).await.unwrap();
            named("after").after(Duration::ZERO, ready(())).await;
            let call = named("callback").callback(|()| ());
            std::thread::spawn(move || call(())).join().unwrap();
        })
        .await;
    let all = spans.latest(9);
    let (outer, inner) = all.split_first().unwrap();
    assert_eq!(inner.len(), 5);
    for span in inner {
        assert_eq!((span.parent_span_id, span.trace_id), (Some(outer.span_id), outer.trace_id), "{}", span.name);
    }
    assert_eq!(outer.parent_span_id, None);
}

#[tokio::test]
async fn what_is_dropped_is_dropped_in_the_context() {
    struct Asks(Arc<AtomicU32>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.fetch_add(u32::from(context::current().is_some()), Relaxed);
        }
    }
    let (spans, seen) = (Spans::new(), Arc::new(AtomicU32::new(0)));
    let (asks, more) = (Asks(Arc::clone(&seen)), Asks(Arc::clone(&seen)));
    let operation = Operation::new("held", &spans).infallible();
    let held = operation.run(async move {
        let _asks = asks;
    });
    held.await;
    let mut run = Box::pin(operation.run(async move {
        let _more = more;
        pending::<()>().await;
    }));
    let _ = run.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    drop(run);
    assert_eq!(seen.load(Relaxed), 2);
    assert!(context::current().is_none());
}

#[tokio::test]
async fn a_callback_is_a_child_each_time_it_is_called() {
    let spans = Spans::new();
    let mut count = 0;
    let mut call = Operation::new("setup", &spans).infallible().call(|| {
        Operation::new("changed", &spans).infallible().callback_mut(move |by: u32| {
            count += by;
            count
        })
    });
    assert_eq!((call(1), call(2)), (1, 3));
    let all = spans.latest(3);
    let [second, first, setup] = &all[..] else { panic!("three spans") };
    assert_eq!(setup.name, "setup");
    assert_eq!([first.parent_span_id, second.parent_span_id], [Some(setup.span_id); 2]);
    assert_ne!(first.span_id, second.span_id);
}

#[tokio::test(start_paused = true)]
async fn each_tick_is_a_trace_of_its_own_that_links_who_started_the_timer() {
    let (spans, ticks) = (Spans::new(), Arc::new(AtomicU32::new(0)));
    let starter = Context::root();
    let counted = Arc::clone(&ticks);
    let timer = starter.enter(|| {
        Operation::new("sweep", &spans).every(Duration::from_secs(10), move || {
            let nth = counted.fetch_add(1, Relaxed);
            ready(if nth == 1 { Err("disk full") } else { Ok(()) })
        })
    });
    let _ = tokio::time::timeout(Duration::from_secs(25), timer).await;
    assert_eq!(ticks.load(Relaxed), 3);
    let all = spans.latest(9);
    let outcomes: Vec<_> = all.iter().rev().map(|span| span.outcome.as_str()).collect();
    assert_eq!(outcomes, ["ok", "error", "ok"]);
    for span in &all {
        assert_eq!((span.parent_span_id, span.links.len()), (None, 1));
        assert_eq!(span.links[0].trace.trace_id, starter.trace_id());
    }
    assert_ne!(all[0].trace_id, all[1].trace_id);
}

#[tokio::test]
async fn what_is_sampled_is_what_the_parent_says_and_a_root_asks_the_sampler() {
    let spans = Spans::new();
    let never = Operation::new("never", &spans).sampler(Sampler::always_off()).infallible();
    never
        .run(async {
            assert!(!context::current().unwrap().is_sampled());
            Operation::new("below", &spans).sampler(Sampler::always_on()).infallible().call(|| ());
        })
        .await;
    assert_eq!(spans.stats().recorded, 0);
    Operation::new("always", &spans).infallible().call(|| never.call(|| ()));
    assert_eq!(spans.stats().recorded, 2);
    unsampled().enter(|| Operation::new("below", &spans).infallible().call(|| ()));
    assert_eq!(spans.stats().recorded, 2);
}

#[tokio::test(start_paused = true)]
async fn statistics_tell_polls_and_busy_time_when_they_are_asked_for() {
    let spans = Spans::new();
    let operation = Operation::new("crunch", &spans).infallible();
    let work = || async {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    operation.clone().statistics().run(work()).await;
    let span = last(&spans);
    assert_eq!((told(&span, "operation.polls").as_str(), told(&span, "operation.busy_time").as_str()), ("3", "0"));
    operation.run(work()).await;
    assert_eq!(last(&spans).attribute("operation.polls"), None);
}

#[tokio::test]
async fn memory_is_told_that_was_taken_in_its_polls_and_not_between_them() {
    thread_local!(static TAKEN: Cell<u64> = const { Cell::new(1 << 40) });
    let take = |bytes: i64| TAKEN.set(TAKEN.get().wrapping_add_signed(bytes));
    let spans = Spans::new();
    let operation = Operation::new("import", &spans).infallible().memory(|| TAKEN.get());
    let work = operation.run(async {
        take(4096);
        tokio::task::yield_now().await;
        take(-1000);
    });
    let others = async { take(1 << 20) };
    tokio::join!(work, others);
    assert_eq!(told(&last(&spans), "operation.memory_growth"), "3096");
    Operation::new("plain", &spans).infallible().call(|| take(1));
    assert_eq!(last(&spans).attribute("operation.memory_growth"), None);
}

#[test]
fn attributes_are_redacted_and_bounded() {
    let spans = Spans::new();
    let mut operation = Operation::new("import password=hunter2", &spans).infallible().attribute("api_key", "hunter2");
    for nth in 0..100 {
        operation = operation.attribute(format!("key.{nth}"), "x".repeat(1000));
    }
    operation.call(|| ());
    let span = last(&spans);
    assert!(!span.name.contains("hunter2"));
    assert_eq!(told(&span, "api_key"), "REDACTED");
    assert_eq!((span.attributes.len(), span.dropped_attributes), (64, 37));
    assert_eq!(told(&span, "key.1").len(), 256);
}

#[test]
fn nothing_is_recorded_where_it_is_off() {
    let spans = Spans::new();
    let off = Operation::new("off", &spans).enabled(false).infallible();
    off.call(|| assert!(context::current().is_none()));
    let outer = Context::root();
    outer.enter(|| off.call(|| assert_eq!(context::current().unwrap().span_id(), outer.span_id())));
    assert_eq!(spans.stats().recorded, 0);
}

#[cfg(feature = "stream")]
mod streams {
    use futures_util::stream::{self, StreamExt};

    use super::*;

    #[tokio::test]
    async fn a_stream_is_one_span_with_the_number_of_its_items() {
        let spans = Spans::new();
        let rows = Operation::new("rows", &spans).infallible().stream(stream::iter([1, 2, 3]));
        assert_eq!(rows.collect::<Vec<_>>().await, [1, 2, 3]);
        let span = last(&spans);
        assert_eq!((span.outcome.as_str(), told(&span, "operation.items").as_str()), ("ok", "3"));
        assert_eq!(spans.stats().recorded, 1);
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_was_cancelled_unless_it_failed() {
        let spans = Spans::new();
        let items = [Ok(1), Err(io::Error::from(io::ErrorKind::ConnectionReset)), Ok(3)];
        let mut rows = Operation::new("rows", &spans).stream(stream::iter(items));
        rows.next().await.unwrap().unwrap();
        rows.next().await.unwrap().unwrap_err();
        drop(rows);
        let span = last(&spans);
        assert_eq!((span.outcome.as_str(), told(&span, "error.type").as_str()), ("error", "connection_reset"));
        assert_eq!(told(&span, "operation.items"), "2");

        let mut rows = Operation::new("rows", &spans).infallible().stream(stream::iter([1, 2]));
        rows.next().await.unwrap();
        drop(rows);
        assert_eq!(last(&spans).outcome.as_str(), "cancelled");
    }

    #[tokio::test]
    async fn a_stream_that_panics_is_told() {
        let spans = Spans::new();
        let mut rows =
            Box::pin(Operation::new("rows", &spans).infallible().stream(stream::once(async { panic!("on purpose") })));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut cx = TaskContext::from_waker(Waker::noop());
            let _: Poll<Option<()>> = rows.as_mut().poll_next_unpin(&mut cx);
        }));
        assert!(polled.is_err());
        drop(rows);
        assert_eq!(last(&spans).outcome.as_str(), "panicked");
    }
}

mod layer {
    use std::convert::Infallible;

    use buttress::trace::OperationLayer;
    use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_layer_makes_a_span_of_each_call_that_lasts_as_long_as_the_answer_takes() {
        let spans = Spans::new();
        let process = Operation::new("process", &spans).kind(SpanKind::Consumer).in_own_trace();
        let mut service =
            ServiceBuilder::new().layer(OperationLayer::new(process)).service(service_fn(async |millis: u64| {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                if millis == 20 { Err(io::Error::from(io::ErrorKind::ConnectionReset)) } else { Ok(millis) }
            }));
        for millis in [10, 20, 30] {
            let _ = service.ready().await.unwrap().call(millis).await;
        }
        let mut told: Vec<_> = spans
            .latest(9)
            .iter()
            .map(|span| (span.duration().as_millis(), span.kind, told(span, "error.type"), span.parent_span_id))
            .collect();
        told.sort_by_key(|span| span.0);
        let consumer = |millis, error: &str| (millis, SpanKind::Consumer, error.to_owned(), None);
        assert_eq!(told, [consumer(10, ""), consumer(20, "connection_reset"), consumer(30, "")]);
        let traces: std::collections::HashSet<_> = spans.latest(9).iter().map(|span| span.trace_id).collect();
        assert_eq!(traces.len(), 3);
    }

    #[tokio::test]
    async fn whatever_a_service_does_within_its_call_is_below_the_span_of_the_layer() {
        let spans = Spans::new();
        let layer = |name| OperationLayer::new(Operation::new(name, &spans));
        let service = ServiceBuilder::new().layer(layer("outer")).layer(layer("inner")).service_fn(|(): ()| {
            // In the call itself, before there is a future.
            context::with_current(|context| context.unwrap().set_attribute("called", true));
            ready(Ok::<_, Infallible>(()))
        });
        service.oneshot(()).await.unwrap();
        let [outer, inner] = &spans.latest(2)[..] else { panic!("two spans") };
        assert_eq!((outer.name.as_ref(), inner.name.as_ref()), ("outer", "inner"));
        assert_eq!(inner.parent_span_id, Some(outer.span_id));
        assert_eq!(told(inner, "called"), "true");
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_was_cancelled_and_one_that_panics_has_panicked() {
        let spans = Spans::new();
        let layer = OperationLayer::new(Operation::new("process", &spans).infallible());
        let mut waits =
            ServiceBuilder::new().layer(layer.clone()).service_fn(|(): ()| pending::<Result<(), Infallible>>());
        drop(waits.ready().await.unwrap().call(()));
        assert_eq!(last(&spans).outcome.as_str(), "cancelled");
        let mut panics =
            ServiceBuilder::new().layer(layer).service_fn(|(): ()| -> std::future::Ready<Result<(), Infallible>> {
                std::panic::resume_unwind(Box::new("in its call"))
            });
        let panics = panics.ready().await.unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(panics.call(())))).is_err());
        assert_eq!(last(&spans).outcome.as_str(), "panicked");
    }

    #[tokio::test]
    async fn an_answer_may_be_judged() {
        let spans = Spans::new();
        let process = Operation::new("process", &spans)
            .judged(|answer: &Result<u16, Infallible>| answer.is_ok_and(|status| status >= 500).then_some("status"));
        let service =
            ServiceBuilder::new().layer(OperationLayer::new(process)).service_fn(|status: u16| ready(Ok(status)));
        service.oneshot(503).await.unwrap();
        assert_eq!(told(&last(&spans), "error.type"), "status");
    }
}

#[cfg(feature = "telemetry")]
mod measured {
    use buttress::Telemetry;

    use super::*;

    #[tokio::test]
    async fn telemetry_measures_operations_by_name_outcome_and_error() {
        let telemetry = Telemetry::from_env("test").unwrap();
        let charge = telemetry.operation("charge");
        let active =
            telemetry.metrics().up_down_counter("buttress.operation.active").with([("operation.name", "charge")]);
        let running = charge.run(async { Ok::<_, io::Error>(active.value()) }).await.unwrap();
        assert_eq!(running, 1);
        charge.run(ready(Err::<(), _>(io::Error::from(io::ErrorKind::TimedOut)))).await.unwrap_err();
        drop(charge.begin());
        assert_eq!(active.value(), 0);
        let duration = telemetry.metrics().timer("buttress.operation.duration");
        let count = |outcome: &str, error: Option<&str>| {
            let timer = match error {
                Some(error) => {
                    duration.with([("operation.name", "charge"), ("buttress.outcome", outcome), ("error.type", error)])
                }
                None => duration.with([("operation.name", "charge"), ("buttress.outcome", outcome)]),
            };
            timer.window().unwrap().count()
        };
        assert_eq!(count("ok", None), 1);
        assert_eq!(count("timeout", Some("timeout")), 1);
        assert_eq!(count("cancelled", None), 1);
        assert_eq!(telemetry.latest_spans(9).len(), 3);
    }
}
