//! What else a span tells.

use std::cell::Cell;
use std::future::ready;
use std::time::Duration;

use buttress::context::{self, Context};
use buttress::trace::{Operation, Spans};

use crate::{last, told};

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
