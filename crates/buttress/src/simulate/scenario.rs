//! Troubles to compare stacks in, and what to read of the reports.
//!
//! Two circuits, and a backend that fails for six seconds:
//!
//! ```
//! # #[cfg(feature = "circuit-breaker")] {
//! use std::time::Duration;
//!
//! use buttress::backoff::Backoff;
//! use buttress::circuit_breaker::{CircuitBreakerLayer, CircuitConfig};
//! use buttress::simulate::scenario;
//! use tower::Layer;
//!
//! let patient = CircuitConfig::default();
//! let hasty = CircuitConfig::default().open_for(Backoff::constant(Duration::from_millis(100)));
//! let [patient, hasty] = [patient, hasty].map(|config| {
//!     let layer = CircuitBreakerLayer::with_config("stock", config);
//!     scenario::errors(42).simulation().run(|backend| layer.layer(backend))
//! });
//!
//! // Who asks ten times a second sends twice as many calls for nothing, and knows earlier that the backend is back.
//! assert!(patient.sick.sent < 60 && hasty.sick.sent > 100);
//! assert!(patient.total.ok < hasty.total.ok);
//! # }
//! ```
//!
//! The scenarios for circuits say what happens to the calls of a [`Report`]; [`after_health`] and [`Cancellations`] give each
//! call a [`Script`](super::Script).

mod scripted;

pub use scripted::{Cancellations, Survey, after_health};

use std::time::Duration;

use super::{Backend, Fault, Report, Simulation, Workload};

/// How one figure is read; `None` is never.
type Read = fn(&Report) -> Option<f64>;

/// A workload, a backend in trouble, and what to read of the report.
#[derive(Debug, Clone)]
pub struct Scenario {
    simulation: Simulation,
    figures: &'static [(&'static str, Read)],
}

impl Scenario {
    /// What is run. [`Simulation::run_async`] runs it on a clock of your choice.
    pub const fn simulation(&self) -> &Simulation {
        &self.simulation
    }

    /// The figures that tell one subject from another, by their names; `None` is never.
    pub fn figures<'a>(&self, report: &'a Report) -> impl Iterator<Item = (&'static str, Option<f64>)> + use<'a> {
        self.figures.iter().map(|(name, read)| (*name, read(report)))
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const LATENCY: Duration = Duration::from_millis(5);
const QUICK: Duration = Duration::from_millis(1);

const SICK: (Duration, Duration) = (seconds(8), seconds(14));
const SICK_CALLS: (&str, Read) = ("sick_calls", |report| Some(report.sick.sent as f64));
const GOODPUT: (&str, Read) = ("goodput", |report| Some(report.sick.goodput()));
const LOAD: (&str, Read) = ("load", |report| Some(report.sick.load()));
const RECOVERY: (&str, Read) = ("recovery_s", |report| recovery(report, SICK.1));

fn recovery(report: &Report, since: Duration) -> Option<f64> {
    report.recovery(since).map(|after| after.as_secs_f64())
}

/// 1,000 requests a second for 20 s; something is wrong from 8 s to 14 s.
fn six_seconds_of(fault: Fault, seed: u64, figures: &'static [(&'static str, Read)]) -> Scenario {
    let workload = Workload::poisson(1000.0, seconds(20)).seed(seed);
    let backend = Backend::new(LATENCY).fault(fault.between(SICK.0, SICK.1));
    Scenario { simulation: Simulation::new(workload, backend), figures }
}

/// 1,000 requests a second for 20 s, on a backend that answers after 5 ms; from 8 s to 14 s every call fails within 1 ms.
///
/// `sick_calls` reach it meanwhile.
pub fn errors(seed: u64) -> Scenario {
    six_seconds_of(Fault::errors(QUICK), seed, &[SICK_CALLS])
}

/// As [`errors`], but the sick backend does not answer at all: the subject needs a timeout.
pub fn hang(seed: u64) -> Scenario {
    six_seconds_of(Fault::hang(), seed, &[SICK_CALLS])
}

/// As [`errors`], but the sick backend serves 500 a second and refuses the others at once.
///
/// `goodput` and `load` are the shares of the requests that come meanwhile which succeed and which are sent; `recovery_s`
/// is how long it takes from then on until 95 % succeed again.
pub fn overload(seed: u64) -> Scenario {
    six_seconds_of(Fault::overload(500.0), seed, &[GOODPUT, LOAD, RECOVERY])
}

/// As [`overload`], but half of the calls on the sick backend fail however few there are: sending less helps nobody.
pub fn independent(seed: u64) -> Scenario {
    six_seconds_of(Fault::share(0.5, LATENCY), seed, &[GOODPUT, LOAD, RECOVERY])
}

/// Retries after a brown-out: 700 requests a second for 20 s, on a backend of 20 servers that take 20 ms, but from 4 s to
/// 5 s 200 ms. It goes on with what nobody waits for any more; the subject should give up an attempt after 200 ms.
///
/// `success_late` is the share that succeeds from 15 s on, `attempts` are all calls, and `recovery_s` is how long it takes
/// from 5 s on until 95 % succeed again.
pub fn brown_out(seed: u64) -> Scenario {
    const END: Duration = seconds(5);
    let fault = Fault::slow(Duration::from_millis(200)).between(seconds(4), END);
    let backend = Backend::new(Duration::from_millis(20)).servers(20).fault(fault);
    let workload = Workload::poisson(700.0, seconds(20)).seed(seed);
    let figures: &[(&str, Read)] = &[
        ("success_late", |report| Some(report.between(seconds(15), seconds(20)).goodput())),
        ("attempts", |report| Some(report.total.sent as f64)),
        ("recovery_s", |report| recovery(report, END)),
    ];
    Scenario { simulation: Simulation::new(workload, backend), figures }
}

/// A circuit that is open for a second, and a thousand callers at once when it is half open: half a second of 1,000
/// requests a second, and at 3 s the herd. The backend takes 100 ms to fail, all the time.
///
/// `herd` is how many of the thousand reach it.
pub fn herd(seed: u64) -> Scenario {
    const HERD: Duration = seconds(3);
    let workload = Workload::poisson(1000.0, Duration::from_millis(500)).burst(HERD, 1000).seed(seed);
    let backend = Backend::new(Duration::from_millis(100)).fault(Fault::errors(Duration::from_millis(100)));
    let figures: &[(&str, Read)] = &[("herd", |report| Some(report.between(HERD, Duration::MAX).sent as f64))];
    Scenario { simulation: Simulation::new(workload, backend), figures }
}

/// A backend that fails from 1 s to 3 s and then warms up: from 200 to 1,000 calls a second within ten seconds, at 1,000
/// requests a second until 33 s.
///
/// `second_trips` is how often calls cease to reach it once it is back ([`Report::stops`]), `goodput` the share of the
/// requests since then that succeed.
pub fn warming(seed: u64) -> Scenario {
    const UP: Duration = seconds(3);
    let backend = Backend::new(LATENCY)
        .fault(Fault::errors(QUICK).between(seconds(1), UP))
        .fault(Fault::warming(200.0, 1000.0).between(UP, seconds(13)));
    let workload = Workload::poisson(1000.0, seconds(33)).seed(seed);
    let figures: &[(&str, Read)] = &[
        ("second_trips", |report| Some(report.stops(UP, seconds(33)) as f64)),
        ("goodput", |report| Some(report.between(UP, seconds(33)).goodput())),
    ];
    Scenario { simulation: Simulation::new(workload, backend), figures }
}

/// A leaf below many tiers: 1,000 requests a second for 14 s, of which the backend is healthy for eight and fails for six.
///
/// `leaf_attempts` is how many calls reach it for each request meanwhile.
pub fn leaf_down(seed: u64) -> Scenario {
    let workload = Workload::poisson(1000.0, SICK.1).seed(seed);
    let backend = Backend::new(LATENCY).fault(Fault::errors(QUICK).between(SICK.0, Duration::MAX));
    let figures: &[(&str, Read)] = &[("leaf_attempts", |report| Some(report.sick.load()))];
    Scenario { simulation: Simulation::new(workload, backend), figures }
}
