//! What a circuit looks like at a moment.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::circuit::Circuit;
use super::health::retry_after;
use super::observe_only::ObserveOnly;
use super::outcomes::{Kind, Outcomes, Total};
use super::transition::{Reason, State, Transition};
use crate::clock::Instant;

/// A circuit at a moment; what a health page shows of it.
///
/// Serialised, durations are whole milliseconds under a name that ends in `_ms`, and `since` is left out: an instant is
/// no date.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CircuitSnapshot {
    /// What it does with calls.
    pub state: State,
    /// That it decides and rejects nothing but what is forced open, if so.
    pub observe_only: Option<ObserveOnly>,
    /// Since when.
    #[serde(skip)]
    pub since: Instant,
    /// For how long.
    #[serde(rename = "time_in_state_ms", serialize_with = "millis")]
    pub time_in_state: Duration,
    /// Why it opened last, if it ever did.
    pub last_trip: Option<Reason>,
    /// How often it opened, by the [label](Reason::as_str) of why; only what has happened.
    pub trips: BTreeMap<&'static str, u64>,
    /// When the next call may pass, if none may now; `None` too where it is open until somebody says otherwise.
    #[serde(rename = "retry_after_ms", serialize_with = "maybe_millis")]
    pub retry_after: Option<Duration>,
    /// What it decides by; empty unless it is closed.
    pub window: WindowSnapshot,
    /// The last sixteen transitions, newest first.
    pub transitions: Vec<PastTransition>,
    /// Everything it has counted.
    pub counts: CircuitCounts,
}

/// The outcomes that a circuit decides by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WindowSnapshot {
    /// All.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were slow, failed or not.
    pub slow: u64,
}

/// A transition, and how long ago it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PastTransition {
    /// How long ago.
    #[serde(rename = "ago_ms", serialize_with = "millis")]
    pub ago: Duration,
    /// The transition.
    #[serde(flatten)]
    pub transition: Transition,
}

/// Totals since the circuit was made; they only grow. Each admission ends up in exactly one of the outcomes
/// [`ok`](Self::ok) to [`stale`](Self::stale).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CircuitCounts {
    /// Calls let in, probes and those that would have been rejected among them.
    pub admitted: u64,
    /// Went well.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    /// Went well, but slowly.
    pub slow: u64,
    /// Said nothing about the other side.
    pub ignored: u64,
    /// Given up by their callers, whatever that counted as.
    pub cancelled: u64,
    /// Rejected by something further in.
    pub rejected_inside: u64,
    /// Came too late to decide anything.
    pub stale: u64,
    /// Calls that this circuit rejected.
    pub rejected: u64,
    /// Calls it only would have.
    pub would_have_rejected: u64,
    /// Calls let in as probes.
    pub probes: u64,
}

impl Circuit {
    /// All of it, for a page or a test; metrics need [`counts`](Self::counts) only.
    pub fn snapshot(&self, now: Instant) -> CircuitSnapshot {
        let core = self.core();
        let millis = core.millis(now);
        let status = core.settled(millis);
        let seen = if status.phase.is_closed() { core.outcomes.read(millis) } else { Default::default() };
        let observe_only = core.observing(millis);
        let retry_after = retry_after(status, observe_only.is_some(), millis);
        let log = core.log();
        let past = |(at, transition): &(u64, Transition)| PastTransition {
            ago: Duration::from_millis(millis.saturating_sub(*at)),
            transition: transition.clone(),
        };
        CircuitSnapshot {
            state: status.phase.state(),
            observe_only,
            since: core.since(),
            time_in_state: now.saturating_duration_since(core.since()),
            last_trip: log.last_trip.clone(),
            trips: log.trips.clone(),
            retry_after,
            window: WindowSnapshot { calls: seen.calls, failed: seen.failed, slow: seen.slow },
            transitions: log.transitions.iter().map(past).collect(),
            counts: self.counts(),
        }
    }

    /// Everything it has counted.
    pub fn counts(&self) -> CircuitCounts {
        counts(&self.core().outcomes)
    }
}

fn counts(outcomes: &Outcomes) -> CircuitCounts {
    let of = |kind| outcomes.total(Total::Counted(kind)) + outcomes.total(Total::Other(kind));
    // Outcomes first: a reader never sees more of them than admissions.
    CircuitCounts {
        ok: of(Kind::Ok),
        failed: of(Kind::Failed) + of(Kind::FailedSlow),
        slow: of(Kind::Slow),
        ignored: of(Kind::Ignored),
        cancelled: of(Kind::Cancelled),
        rejected_inside: of(Kind::Rejected),
        stale: outcomes.total(Total::Stale),
        rejected: outcomes.total(Total::Refused),
        would_have_rejected: outcomes.total(Total::WouldRefuse),
        probes: outcomes.total(Total::Probes),
        admitted: [Total::Started, Total::Passed, Total::Probes].map(|total| outcomes.total(total)).iter().sum(),
    }
}

pub(super) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis().try_into().unwrap_or(u64::MAX))
}

pub(super) fn maybe_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}
