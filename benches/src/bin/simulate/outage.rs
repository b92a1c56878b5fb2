//! S1 to S3: a backend that is healthy for 8 s, sick for 6 s and healthy again until 20 s, at 1,000 requests a second.

use std::time::Duration;

use buttress::simulate::{Backend, Fault, Report, Simulation, Workload};
use tower::{Service, ServiceExt};

use crate::row::Row;
use crate::script::{Script, Scripted};
use crate::subject::{Clock, Stack, Subject, TRIP, timeout};

const LATENCY: Duration = Duration::from_millis(5);
const TIMEOUT: Duration = Duration::from_millis(250);

async fn sick(
    subject: Subject,
    seed: u64,
    fault: Fault,
    around: impl FnOnce(Stack) -> Stack + Send + 'static,
) -> Report {
    let fault = fault.between(Duration::from_secs(8), Duration::from_secs(14));
    let workload = Workload::poisson(1000.0, Duration::from_secs(20)).seed(seed);
    subject.run(Simulation::new(workload, Backend::new(LATENCY).fault(fault)), around).await
}

/// S1: every call fails within a millisecond.
pub async fn errors(subject: Subject, seed: u64) -> Vec<Row> {
    let fault = Fault::errors(Duration::from_millis(1));
    let report = sick(subject, seed, fault, move |inner| subject.breaker(&TRIP, inner)).await;
    vec![Row::new("S1.sick_calls", &subject, report.sick.sent as f64)]
}

/// S1 after a long time of health: 100,000 calls one after the other, then an outage of at most as many.
pub async fn after_long_health(subject: Subject) -> Vec<Row> {
    const CALLS: u32 = 100_000;
    if !subject.counts {
        return Vec::new();
    }
    let work = async move {
        let scripted = Scripted::default();
        let mut service = subject.breaker(&TRIP, scripted.stack());
        for _ in 0..CALLS {
            let _ = service.ready().await.expect("always ready").call(Script::ok().request()).await;
        }
        let healthy = scripted.reached();
        let mut rejected_in_a_row = 0;
        for _ in 0..CALLS {
            let before = scripted.reached();
            let _ = service.ready().await.expect("always ready").call(Script::failed().request()).await;
            rejected_in_a_row = if scripted.reached() == before { rejected_in_a_row + 1 } else { 0 };
            if rejected_in_a_row == 1000 {
                break;
            }
        }
        scripted.reached() - healthy
    };
    let calls = match subject.clock {
        Clock::Wall => work.await,
        Clock::Virtual => crate::script::in_virtual_time(work).await,
    };
    vec![Row::new("S1.sick_calls_after_100000", &subject, calls as f64)]
}

/// S2: no call is answered, and a limit of 250 ms stands between the breaker and the backend.
pub async fn hang_inside(subject: Subject, seed: u64) -> Vec<Row> {
    let around = move |inner| subject.breaker(&TRIP, timeout(TIMEOUT, inner));
    let report = sick(subject, seed, Fault::hang(), around).await;
    vec![Row::new("S2.inside.sick_calls", &subject, report.sick.sent as f64)]
}

/// S2: the limit stands outside, so that the breaker sees calls that are dropped.
pub async fn hang_outside(subject: Subject, seed: u64) -> Vec<Row> {
    let around = move |inner| timeout(TIMEOUT, subject.breaker(&TRIP, inner));
    let report = sick(subject, seed, Fault::hang(), around).await;
    vec![Row::new("S2.outside.sick_calls", &subject, report.sick.sent as f64)]
}

/// S3: the backend serves half of what is offered and refuses the rest.
pub async fn overload(subject: Subject, seed: u64) -> Vec<Row> {
    let report = sick(subject, seed, Fault::overload(500.0), move |inner| subject.throttle(&TRIP, inner)).await;
    vec![Row::new("S3.goodput", &subject, report.sick.goodput()), Row::new("S3.load", &subject, report.sick.load())]
}

/// S3: half of the calls fail, however many there are.
pub async fn independent(subject: Subject, seed: u64) -> Vec<Row> {
    let fault = Fault::share(0.5, LATENCY);
    let report = sick(subject, seed, fault, move |inner| subject.throttle(&TRIP, inner)).await;
    vec![
        Row::new("S3.independent.goodput", &subject, report.sick.goodput()),
        Row::new("S3.independent.load", &subject, report.sick.load()),
    ]
}
