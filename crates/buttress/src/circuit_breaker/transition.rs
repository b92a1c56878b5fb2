//! The states of a circuit, and the steps between them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::snapshot::millis;

/// What a circuit does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls pass to find out whether the others may.
    HalfOpen,
    /// Rejects every call until somebody says otherwise.
    ForcedOpen,
    /// Lets every call pass, whatever comes of it, until somebody says otherwise.
    ForcedClosed,
    /// Lets every call pass and looks away.
    Disabled,
}

impl State {
    /// Every state, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::ForcedClosed, Self::Disabled];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
        }
    }

    /// 0 where calls pass, 1 where they are rejected, 0.5 half-open: the gauge of dashboards.
    pub const fn as_number(self) -> f64 {
        match self {
            Self::Closed | Self::ForcedClosed | Self::Disabled => 0.0,
            Self::HalfOpen => 0.5,
            Self::Open | Self::ForcedOpen => 1.0,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// As its [label](State::as_str).
impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Why a circuit changed its state, or what it does in it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Too large a share of the calls failed.
    FailureRate {
        /// Failed calls in the window.
        failed: u64,
        /// All calls in the window.
        calls: u64,
    },
    /// Too large a share of the calls was slow.
    SlowCallRate {
        /// Slow calls in the window.
        slow: u64,
        /// All calls in the window.
        calls: u64,
    },
    /// So many calls in a row failed.
    ConsecutiveFailures(u32),
    /// So many calls are under way for longer than calls take.
    StuckCalls(u64),
    /// A probe failed, or was not heard of in time.
    ProbeFailed,
    /// The wait is over: probes are let through.
    WaitOver,
    /// Every probe succeeded.
    ProbesSucceeded,
    /// By hand.
    Forced(Arc<str>),
    /// What was done by hand was to last so long and not longer.
    ForceExpired,
    /// By hand: everything is forgotten.
    Reset(Arc<str>),
    /// A state that was exported has been imported.
    Imported,
    /// By hand: it decides and rejects nothing from now on. Its state stays what it is, as with the next two.
    ObserveOnly(Arc<str>),
    /// By hand: it only observed, and rejects again.
    Enforced(Arc<str>),
    /// It was to observe for so long and not longer, and rejects again.
    ObserveOnlyExpired,
}

impl Reason {
    /// The labels of those that a circuit opens for.
    #[cfg(feature = "metrics")]
    pub(super) const TRIPS: [&'static str; 7] =
        ["failure_rate", "slow_call_rate", "consecutive_failures", "stuck_calls", "probe_failed", "forced", "imported"];

    /// The label, without the numbers.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::FailureRate { .. } => "failure_rate",
            Self::SlowCallRate { .. } => "slow_call_rate",
            Self::ConsecutiveFailures(_) => "consecutive_failures",
            Self::StuckCalls(_) => "stuck_calls",
            Self::ProbeFailed => "probe_failed",
            Self::WaitOver => "wait_over",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::Forced(_) => "forced",
            Self::ForceExpired => "force_expired",
            Self::Reset(_) => "reset",
            Self::Imported => "imported",
            Self::ObserveOnly(_) => "observe_only",
            Self::Enforced(_) => "enforced",
            Self::ObserveOnlyExpired => "observe_only_expired",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailureRate { failed, calls } => write!(f, "{failed} of the last {calls} calls failed"),
            Self::SlowCallRate { slow, calls } => write!(f, "{slow} of the last {calls} calls were slow"),
            Self::ConsecutiveFailures(count) => write!(f, "{count} calls in a row failed"),
            Self::StuckCalls(count) => write!(f, "{count} calls are stuck"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::WaitOver => f.write_str("the wait is over"),
            Self::ProbesSucceeded => f.write_str("every probe succeeded"),
            Self::Forced(why) => write!(f, "forced: {why}"),
            Self::ForceExpired => f.write_str("the time it was forced for is over"),
            Self::Reset(why) => write!(f, "reset: {why}"),
            Self::Imported => f.write_str("imported"),
            Self::ObserveOnly(why) => write!(f, "observes only: {why}"),
            Self::Enforced(why) => write!(f, "rejects again: {why}"),
            Self::ObserveOnlyExpired => f.write_str("the time it was to observe for is over"),
        }
    }
}

/// As its [label](Reason::as_str), `reason`, and as a sentence with the numbers, `text`.
impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Reason", 2)?;
        fields.serialize_field("reason", self.as_str())?;
        fields.serialize_field("text", &format_args!("{self}"))?;
        fields.end()
    }
}

/// A circuit that changed its state; to the same where it was reset while closed, and where it begins or ends to
/// [observe only](super::Circuit::observe_only).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Transition {
    /// Whose circuit it is.
    pub name: Arc<str>,
    /// Which one of those of that name, where there is one for each host, route or tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// What it did before.
    pub from: State,
    /// What it does from now on.
    pub to: State,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
    /// How long it had been what it was.
    #[serde(rename = "after_ms", serialize_with = "millis")]
    pub after: Duration,
}
