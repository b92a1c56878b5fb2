//! What a health page or a readiness check wants to know of a circuit.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::circuit::Circuit;
use super::observe_only::ObserveOnly;
use super::snapshot::{maybe_millis, millis};
use super::state::{NEVER, Phase, Status};
use super::transition::{Reason, State};
use crate::clock::{self, Instant};

/// How a circuit is, in a few words; of [`Circuit::health`]. [`Circuit::snapshot`] has the numbers behind it.
///
/// That a circuit is open says that something this service calls is down, and not this service. Show it on the page of its
/// health; fail a readiness check by it only if nothing here works without: instances that all leave the load balancer
/// at once help nobody.
///
/// ```
/// use buttress::circuit_breaker::{Circuit, CircuitConfig, State};
/// use tokio::time::Instant;
///
/// let payments = Circuit::new("payments", CircuitConfig::default());
/// let health = payments.health(Instant::now());
/// assert_eq!((health.state, health.available), (State::Closed, true));
///
/// payments.force_open("they move house", None);
/// let page = serde_json::to_value(payments.health(Instant::now()))?;
/// assert_eq!(page["reason"]["text"], "forced: they move house");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CircuitHealth {
    /// Whose circuit it is.
    pub name: Arc<str>,
    /// Which one of those of that name, where there is one for each host, route or tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// What it does with calls.
    pub state: State,
    /// That it decides and rejects nothing but what is forced open, if so.
    pub observe_only: Option<ObserveOnly>,
    /// Whether a call would have a chance now, as [`Circuit::is_available`] has it.
    pub available: bool,
    /// For how long it has been in its state. Serialised, whole milliseconds by the name `time_in_state_ms`.
    #[serde(rename = "time_in_state_ms", serialize_with = "millis")]
    pub time_in_state: Duration,
    /// Why it is in its state; `None` where it has never been in another.
    pub reason: Option<Reason>,
    /// When the next call may pass, if none may now; `None` too where it is open until somebody says otherwise.
    /// Serialised, whole milliseconds by the name `retry_after_ms`.
    #[serde(rename = "retry_after_ms", serialize_with = "maybe_millis")]
    pub retry_after: Option<Duration>,
}

impl Circuit {
    /// How it is, for a health page or a readiness check.
    pub fn health(&self, now: Instant) -> CircuitHealth {
        let core = self.core();
        let millis = core.millis(now);
        let status = core.settled(millis);
        let observe_only = core.observing(millis);
        let observes = observe_only.is_some();
        CircuitHealth {
            name: Arc::clone(&core.name),
            key: core.key.clone(),
            state: status.phase.state(),
            observe_only,
            available: !rejects(status, observes, millis),
            time_in_state: now.saturating_duration_since(core.since()),
            reason: core.log().reason.clone(),
            retry_after: retry_after(status, observes, millis),
        }
    }

    /// Whether a call would have a chance now, for health checks: true also once an open circuit would let a probe
    /// pass, so that whoever stops sending because of this begins again, and where it only observes.
    pub fn is_available(&self) -> bool {
        let core = self.core();
        let now = core.millis(clock::now());
        !rejects(core.settled(now), core.observes(now), now)
    }
}

/// Whether every call is rejected.
fn rejects(status: Status, observes: bool, now: u64) -> bool {
    match status.phase {
        Phase::ForcedOpen => true,
        Phase::Open => now < status.time && !observes,
        _ => false,
    }
}

/// When the next call may pass, if none may now and that is known.
pub(super) fn retry_after(status: Status, observes: bool, now: u64) -> Option<Duration> {
    let is_known = rejects(status, observes, now) && status.time != NEVER;
    is_known.then(|| Duration::from_millis(status.time - now))
}
