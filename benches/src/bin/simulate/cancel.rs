//! S6: callers that go away at any moment must leave no circuit behind that never closes again.

use std::time::Duration;

use http::StatusCode;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::row::Row;
use crate::script::{Script, Scripted, in_virtual_time};
use crate::subject::{Clock, Stack, Subject, TRIP, Trip};

const SCHEDULES: u64 = 10_000;

/// Short, since the peers run in wall time.
const SHORT: Trip =
    Trip { count: 10, window: Duration::from_millis(100), minimum: 10, wait: Duration::from_millis(50), ..TRIP };

/// Calls at the end, at a healthy backend. None of the last ten getting through is a wedge.
const AT_THE_END: usize = 16;

/// How a schedule ended.
#[derive(Default)]
struct End {
    is_wedged: bool,
    leaked: usize,
}

pub async fn schedules(subject: Subject, seed: u64) -> Vec<Row> {
    let ends = match subject.clock {
        Clock::Wall => all(subject, seed).await,
        Clock::Virtual => in_virtual_time(all(subject, seed)).await,
    };
    let wedges = ends.iter().filter(|end| end.is_wedged).count();
    let leaked: usize = ends.iter().map(|end| end.leaked).sum();
    vec![Row::new("S6.wedges", &subject, wedges as f64), Row::new("S6.leaked_permits", &subject, leaked as f64)]
}

async fn all(subject: Subject, seed: u64) -> Vec<End> {
    let mut running = JoinSet::new();
    for number in 0..SCHEDULES {
        // A few at a time: all at once would be a queue for the processors.
        if number % 3 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        running.spawn(schedule(subject, seed.wrapping_add(number)));
    }
    running.join_all().await
}

async fn schedule(subject: Subject, seed: u64) -> End {
    let scripted = Scripted::default();
    let service = subject.breaker(&SHORT, scripted.stack());
    let settle = match subject.clock {
        // Beyond what peers say they wait; none has anything longer.
        Clock::Wall => SHORT.wait * 2,
        // Beyond the longest wait and the longest lease of a probe.
        Clock::Virtual => Duration::from_secs(130),
    };
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    // Those who wait for ever do so until the schedule ends.
    let _patient = cancelled_calls(&service, &mut random).await;
    sleep(settle).await;

    let reaches = async |script: Script| {
        let before = scripted.reached();
        let _ = service.clone().oneshot(script.request()).await;
        scripted.reached() > before
    };
    for _ in 0..200 {
        if !reaches(Script::failed()).await {
            break;
        }
    }
    sleep(settle).await;
    // Traffic may be sparser than the window is long.
    let pause = Duration::from_millis(random.random_range(5..200));
    let mut reached = Vec::new();
    for _ in 0..AT_THE_END {
        reached.push(reaches(Script::ok()).await);
        sleep(pause).await;
    }
    End {
        is_wedged: reached[AT_THE_END - 10..].iter().all(|reached| !reached),
        leaked: reached[..SHORT.probes].iter().filter(|reached| !**reached).count(),
    }
}

/// Twenty to sixty calls that succeed, fail or hang, many of which are dropped before they are answered. One in twenty
/// hangs with a caller who never goes away: those are returned.
async fn cancelled_calls(service: &Stack, random: &mut Xoshiro256PlusPlus) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    let mut patient = JoinSet::new();
    for _ in 0..random.random_range(20..60) {
        sleep(Duration::from_millis(random.random_range(0..10))).await;
        let status = match random.random_range(0..10) {
            0..4 => Some(StatusCode::SERVICE_UNAVAILABLE),
            4..7 => Some(StatusCode::OK),
            _ => None,
        };
        let after = Duration::from_millis(random.random_range(0..20));
        let patience = Duration::from_millis(random.random_range(0..20));
        if random.random_range(0..20) == 0 {
            let call = service.clone().oneshot(Script { status: None, after }.request());
            patient.spawn(async move { drop(call.await) });
        } else {
            let call = service.clone().oneshot(Script { status, after }.request());
            callers.spawn(async move { drop(timeout(patience, call).await) });
        }
    }
    callers.join_all().await;
    patient
}
