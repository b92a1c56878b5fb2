use std::convert::Infallible;
use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use buttress::observe;

use crate::{TELEMETRY, counted, last, told};

#[observe(name = "limits", slow = "20ms", slo = "0.05s", event)]
async fn takes(millis: u64) -> Result<(), Infallible> {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn slow_calls_and_missed_objectives_are_marked_and_counted() {
    LazyLock::force(&TELEMETRY);
    let mut marks = Vec::new();
    for millis in [20, 21, 50, 51] {
        takes(millis).await.unwrap();
        let span = last("limits");
        marks.push([told(&span, "operation.slow"), told(&span, "operation.slo_met")].join(" "));
        assert_eq!(span.events[0].name, "limits");
    }
    assert_eq!(marks, [" true", "true true", "true true", "true false"]);
    let (metrics, name) = (TELEMETRY.metrics(), ("operation.name", "limits"));
    assert_eq!(metrics.counter("buttress.operation.slow").with([name]).value(), 3);
    let slo = |met: bool| {
        let labels =
            [("operation.name", "limits".into()), ("operation.slo_met", buttress::metrics::LabelValue::Bool(met))];
        metrics.counter("buttress.operation.slo").with(labels).value()
    };
    assert_eq!((slo(true), slo(false)), (3, 1));
    assert_eq!(counted([name, ("buttress.outcome", "ok")]), 4);
}

#[observe(name = "limits.event", event = "order.placed")]
fn places() -> Result<(), io::Error> {
    Err(io::ErrorKind::TimedOut.into())
}

#[test]
fn an_event_stands_at_the_end_of_the_span() {
    LazyLock::force(&TELEMETRY);
    places().unwrap_err();
    let event = &last("limits.event").events[0];
    let told: Vec<_> = event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        (event.name.as_ref(), told.join(" ")),
        ("order.placed", "buttress.outcome=timeout error.type=timeout".into())
    );
}
