//! S4 and S7: what retries add to trouble.

use std::time::Duration;

use buttress::simulate::{Backend, Fault, Simulation, Workload};

use crate::row::Row;
use crate::subject::{Subject, timeout};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// S4: 700 requests a second on a backend that can do 1,000, which is ten times as slow for one second. Each attempt has
/// 200 ms, and the backend goes on with what nobody waits for any more.
pub async fn brown_out(subject: Subject, seed: u64) -> Vec<Row> {
    let (begin, end) = (seconds(4), seconds(5));
    let fault = Fault::slow(Duration::from_millis(200)).between(begin, end);
    let backend = Backend::new(Duration::from_millis(20)).servers(20).fault(fault);
    let workload = Workload::poisson(700.0, seconds(20)).seed(seed);
    let around = move |inner| subject.retry(timeout(Duration::from_millis(200), inner));
    let report = subject.run(Simulation::new(workload, backend), around).await;
    vec![
        Row::new("S4.success_late", &subject, report.between(seconds(15), seconds(20)).goodput()),
        Row::new("S4.attempts", &subject, report.total.sent as f64),
        Row::new("S4.recovery_s", &subject, report.recovery(end).map(|after| after.as_secs_f64())),
    ]
}

/// S7: three tiers, each with three attempts, and a leaf that fails for good after 8 s of health.
pub async fn tiers(subject: Subject, seed: u64) -> Vec<Row> {
    let fault = Fault::errors(Duration::from_millis(1)).between(seconds(8), Duration::MAX);
    let workload = Workload::poisson(1000.0, seconds(14)).seed(seed);
    let simulation = Simulation::new(workload, Backend::new(Duration::from_millis(5)).fault(fault));
    let around = move |leaf| (0..3).fold(leaf, |below, _tier| subject.retry(below));
    let report = subject.run(simulation, around).await;
    vec![Row::new("S7.leaf_attempts", &subject, report.sick.load())]
}
