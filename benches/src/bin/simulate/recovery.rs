//! S5: the moment at which an open circuit tries again.

use std::time::Duration;

use buttress::simulate::{Backend, Fault, Simulation, Workload};

use crate::row::Row;
use crate::subject::{Subject, TRIP, Trip};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A thousand callers at once when the wait is over, on a backend that takes 100 ms to fail and is still sick.
pub async fn herd(subject: Subject, seed: u64) -> Vec<Row> {
    let herd = seconds(3);
    let workload = Workload::poisson(1000.0, Duration::from_millis(500)).burst(herd, 1000).seed(seed);
    let backend = Backend::new(Duration::from_millis(100)).fault(Fault::errors(Duration::from_millis(100)));
    let report = subject.run(Simulation::new(workload, backend), move |inner| subject.breaker(&TRIP, inner)).await;
    vec![Row::new("S5.herd", &subject, report.between(herd, Duration::MAX).sent as f64)]
}

/// After two seconds of outage a backend that warms from 200 to 1,000 calls a second within ten, at 1,000 requests a
/// second for thirty.
pub async fn warming(subject: Subject, seed: u64) -> Vec<Row> {
    let (sick, up, warm, end) = (seconds(1), seconds(3), seconds(13), seconds(33));
    let trip = Trip { ramp: seconds(10), ..TRIP };
    let workload = Workload::poisson(1000.0, end).seed(seed);
    let backend = Backend::new(Duration::from_millis(5))
        .fault(Fault::errors(Duration::from_millis(1)).between(sick, up))
        .fault(Fault::warming(200.0, 1000.0).between(up, warm));
    let report = subject.run(Simulation::new(workload, backend), move |inner| subject.breaker(&trip, inner)).await;
    vec![
        Row::new("S5.second_trips", &subject, report.stops(up, end) as f64),
        Row::new("S5.goodput", &subject, report.between(up, end).goodput()),
    ]
}
