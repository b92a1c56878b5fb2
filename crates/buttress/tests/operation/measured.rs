use std::future::ready;
use std::io;

use buttress::Telemetry;

#[tokio::test]
async fn telemetry_measures_operations_by_name_outcome_and_error() {
    let telemetry = Telemetry::from_env("test").unwrap();
    let charge = telemetry.operation("charge");
    let active = telemetry.metrics().up_down_counter("buttress.operation.active").with([("operation.name", "charge")]);
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
