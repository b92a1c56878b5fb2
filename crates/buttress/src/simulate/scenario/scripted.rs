//! Scenarios in which each call has a script.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use crate::simulate::run::exchange;
use crate::simulate::{Script, Scripted};

/// So many rejections in a row are an open circuit.
const REJECTED: u32 = 1000;

/// A long time of health, `calls` one after the other, and then an outage of at most as many: how many calls of the outage
/// reach the backend.
///
/// A window that does not slide is full of health.
pub async fn after_health<S, B>(calls: u32, subject: impl FnOnce(Scripted) -> S) -> u64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    B: Body,
{
    let backend = Scripted::default();
    let subject = subject(backend.clone());
    for _ in 0..calls {
        exchange(subject.clone(), Script::OK.request()).await;
    }
    let healthy = backend.reached();
    let mut rejected = 0;
    for _ in 0..calls {
        let before = backend.reached();
        exchange(subject.clone(), Script::FAILED.request()).await;
        rejected = if backend.reached() == before { rejected + 1 } else { 0 };
        if rejected == REJECTED {
            break;
        }
    }
    backend.reached() - healthy
}

/// Callers who go away at any moment must leave no circuit behind that never closes again.
///
/// Each schedule is 20 to 60 calls that succeed, fail or hang. Most are dropped before they are answered; one in twenty
/// hangs with a caller who never goes away. Then the circuit is opened by failures, its wait is over, and 16 healthy calls
/// come, 5 to 200 ms apart. The circuit under test should look at ten outcomes and let three probes pass.
#[derive(Debug, Clone, Copy)]
pub struct Cancellations {
    schedules: u64,
    settle: Duration,
    seed: u64,
}

/// What [`Cancellations`] left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// Schedules of whose last ten healthy calls none reached the backend.
    pub wedged: u64,
    /// Of the first three healthy calls of all schedules, those that did not reach the backend.
    pub leaked: u64,
}

/// Healthy calls at the end of a schedule, of which the last must not all be rejected.
const AT_THE_END: usize = 16;
const LAST: usize = 10;
const PROBES: usize = 3;
/// Failures that open any circuit that opens at all.
const OPENING: usize = 200;

impl Cancellations {
    /// So many schedules; `settle` has to be longer than any wait and any lease of a probe.
    #[must_use]
    pub const fn new(schedules: u64, settle: Duration) -> Self {
        Self { schedules, settle, seed: 0 }
    }

    /// What all chance comes from; 0 by default.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs on the runtime that it is awaited on, each schedule with a subject of its own;
    /// [`in_virtual_time`](crate::simulate::in_virtual_time) has a paused one.
    ///
    /// # Panics
    ///
    /// If a subject panics.
    pub async fn run_async<S, B>(&self, mut subject: impl FnMut(Scripted) -> S) -> Survey
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body + Send + 'static,
    {
        let mut running = JoinSet::new();
        for number in 0..self.schedules {
            // A few at a time: all at once would be a queue for the processors.
            if number % 3 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            let backend = Scripted::default();
            let subject = subject(backend.clone());
            running.spawn(schedule(subject, backend, self.settle, self.seed.wrapping_add(number)));
        }
        let ends = running.join_all().await;
        Survey { wedged: ends.iter().map(|end| end.wedged).sum(), leaked: ends.iter().map(|end| end.leaked).sum() }
    }
}

async fn schedule<S, B>(subject: S, backend: Scripted, settle: Duration, seed: u64) -> Survey
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
{
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    // Those who wait for ever do so until the schedule ends.
    let _patient = cancelled_calls(&subject, &mut random).await;
    sleep(settle).await;

    let reaches = async |script: Script| {
        let before = backend.reached();
        exchange(subject.clone(), script.request()).await;
        backend.reached() > before
    };
    for _ in 0..OPENING {
        if !reaches(Script::FAILED).await {
            break;
        }
    }
    sleep(settle).await;
    // Traffic may be sparser than the window is long.
    let pause = Duration::from_millis(random.random_range(5..200));
    let mut reached = [false; AT_THE_END];
    for reached in &mut reached {
        *reached = reaches(Script::OK).await;
        sleep(pause).await;
    }
    let wedged = reached[AT_THE_END - LAST..].iter().all(|reached| !reached);
    let leaked = reached[..PROBES].iter().filter(|reached| !**reached).count();
    Survey { wedged: u64::from(wedged), leaked: leaked as u64 }
}

/// Calls that succeed, fail or hang, many of which are dropped before they are answered. Those whose callers stay are
/// returned.
async fn cancelled_calls<S, B>(subject: &S, random: &mut Xoshiro256PlusPlus) -> JoinSet<()>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
{
    let mut callers = JoinSet::new();
    let mut patient = JoinSet::new();
    for _ in 0..random.random_range(20..60) {
        sleep(Duration::from_millis(random.random_range(0..10))).await;
        let kind = random.random_range(0..10);
        let after = Duration::from_millis(random.random_range(0..20));
        let script = match kind {
            0..4 => Script::answer(StatusCode::SERVICE_UNAVAILABLE, after),
            4..7 => Script::answer(StatusCode::OK, after),
            _ => Script::HANG,
        };
        let patience = Duration::from_millis(random.random_range(0..20));
        let subject = subject.clone();
        if random.random_range(0..20) == 0 {
            patient.spawn(async move {
                exchange(subject, Script::HANG.request()).await;
            });
        } else {
            callers.spawn(async move {
                let _ = timeout(patience, exchange(subject, script.request())).await;
            });
        }
    }
    callers.join_all().await;
    patient
}
