//! What each subject goes through, by the crate's scenarios.

use std::time::Duration;

use buttress::simulate::scenario::{self, Cancellations, Scenario, after_health};
use buttress::simulate::{SimulatedBackend, in_virtual_time};

use crate::row::Row;
use crate::subject::{Clock, Stack, Subject, TRIP, Trip, stack, timeout};

const CALLS: u32 = 100_000;
const SCHEDULES: u64 = 10_000;
const HANGS: Duration = Duration::from_millis(250);
const ATTEMPT: Duration = Duration::from_millis(200);
const RAMPED: Trip = Trip { ramp: Duration::from_secs(10), ..TRIP };
/// Short, since the peers run in wall time.
const SHORT: Trip =
    Trip { count: 10, window: Duration::from_millis(100), minimum: 10, wait: Duration::from_millis(50), ..TRIP };

pub async fn errors(subject: Subject, seed: u64) -> Vec<Row> {
    run(subject, "S1", scenario::errors(seed), seed, move |inner| subject.breaker(&TRIP, inner)).await
}

pub async fn after_long_health(subject: Subject, seed: u64) -> Vec<Row> {
    if !subject.counts {
        return Vec::new();
    }
    let work = after_health(CALLS, move |backend| subject.breaker(&TRIP, stack(backend)));
    let calls = on_clock_of(subject, seed, work).await;
    vec![Row::new("S1", "sick_calls_after_100000", &subject, calls as f64)]
}

/// The limit stands between the breaker and the backend.
pub async fn hang_inside(subject: Subject, seed: u64) -> Vec<Row> {
    let around = move |inner| subject.breaker(&TRIP, timeout(HANGS, inner));
    run(subject, "S2.inside", scenario::hang(seed), seed, around).await
}

/// The limit stands outside, so that the breaker sees calls that are dropped.
pub async fn hang_outside(subject: Subject, seed: u64) -> Vec<Row> {
    let around = move |inner| timeout(HANGS, subject.breaker(&TRIP, inner));
    run(subject, "S2.outside", scenario::hang(seed), seed, around).await
}

pub async fn overload(subject: Subject, seed: u64) -> Vec<Row> {
    run(subject, "S3", scenario::overload(seed), seed, move |inner| subject.throttle(&TRIP, inner)).await
}

pub async fn independent(subject: Subject, seed: u64) -> Vec<Row> {
    let around = move |inner| subject.throttle(&TRIP, inner);
    run(subject, "S3.independent", scenario::independent(seed), seed, around).await
}

pub async fn brown_out(subject: Subject, seed: u64) -> Vec<Row> {
    let around = move |inner| subject.retry(timeout(ATTEMPT, inner));
    run(subject, "S4", scenario::brown_out(seed), seed, around).await
}

pub async fn herd(subject: Subject, seed: u64) -> Vec<Row> {
    run(subject, "S5", scenario::herd(seed), seed, move |inner| subject.breaker(&TRIP, inner)).await
}

pub async fn warming(subject: Subject, seed: u64) -> Vec<Row> {
    run(subject, "S5", scenario::warming(seed), seed, move |inner| subject.breaker(&RAMPED, inner)).await
}

pub async fn cancellations(subject: Subject, seed: u64) -> Vec<Row> {
    let settle = match subject.clock {
        // Beyond what peers say they wait; none has anything longer.
        Clock::Wall => SHORT.wait * 2,
        // Beyond the longest wait and the longest lease of a probe.
        Clock::Virtual => Duration::from_secs(130),
    };
    let schedules = Cancellations::new(SCHEDULES, settle).seed(seed);
    let work = async move { schedules.run_async(|backend| subject.breaker(&SHORT, stack(backend))).await };
    let survey = on_clock_of(subject, seed, work).await;
    vec![
        Row::new("S6", "wedges", &subject, survey.wedged as f64),
        Row::new("S6", "leaked_permits", &subject, survey.leaked as f64),
    ]
}

pub async fn tiers(subject: Subject, seed: u64) -> Vec<Row> {
    let around = move |leaf| (0..3).fold(leaf, |below, _tier| subject.retry(below));
    run(subject, "S7", scenario::leaf_down(seed), seed, around).await
}

async fn run(
    subject: Subject,
    place: &str,
    scenario: Scenario,
    seed: u64,
    around: impl FnOnce(Stack) -> Stack + Send + 'static,
) -> Vec<Row> {
    let simulation = scenario.simulation().clone();
    let build = |backend: SimulatedBackend| around(stack(backend));
    let report = on_clock_of(subject, seed, async move { simulation.run_async(build).await }).await;
    scenario.figures(&report).map(|(figure, value)| Row::new(place, figure, &subject, value)).collect()
}

async fn on_clock_of<T: Send + 'static>(
    subject: Subject,
    seed: u64,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match subject.clock {
        Clock::Wall => work.await,
        // A runtime cannot be run within another one.
        Clock::Virtual => {
            let run = tokio::task::spawn_blocking(move || in_virtual_time(seed, work));
            run.await.expect("subjects do not panic")
        }
    }
}
