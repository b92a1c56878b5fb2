//! What admission hands out: a permit, whose end is the outcome, or the reason why there is none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Role};
use crate::clock::{self, Instant};

/// A circuit as one thread holds it: to clone it writes no cache line that other threads write.
#[repr(align(128))]
pub(super) struct Ticket {
    pub(super) core: Arc<Core>,
    /// Copies, to be cloned as cheaply.
    pub(super) name: Arc<str>,
    pub(super) key: Option<Arc<str>>,
}

impl Ticket {
    #[cold]
    pub(super) fn rejected(&self, wait: u64, because: RejectedBecause) -> Rejected {
        Rejected {
            name: Arc::clone(&self.name),
            key: self.key.clone(),
            because,
            since: self.core.since(),
            retry_after: Duration::from_millis(wait),
        }
    }
}

/// A call that was let in. What comes of it is [reported](Self::report), once; a permit that is dropped reports
/// that its call was cancelled.
#[must_use = "dropped at once, the call counts as cancelled"]
pub struct Permit {
    ticket: Arc<Ticket>,
    /// When it was let in, since the circuit was made: half the size of an instant, and subtracted in one step.
    micros: u64,
    generation: u32,
    role: Role,
    is_reported: bool,
}

impl Permit {
    #[inline]
    pub(super) fn new(ticket: Arc<Ticket>, (role, generation): (Role, u32), micros: u64) -> Self {
        Self { ticket, micros, generation, role, is_reported: false }
    }

    /// What came of the call. Whether it was slow follows from the time since its admission.
    ///
    /// An outcome that comes after the circuit has changed its state is counted as stale and decides nothing.
    #[inline]
    pub fn report(mut self, result: CallResult, now: Instant) {
        self.end(result, now);
    }

    /// Counts up whenever the circuit changes so that the outcomes of earlier calls do not matter any more.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether this call decides if the circuit closes.
    pub fn is_probe(&self) -> bool {
        self.role == Role::Probe
    }

    /// Whether this call passes only because the circuit does nothing but observe.
    pub fn would_have_been_rejected(&self) -> bool {
        self.role == Role::LetThrough
    }

    /// When it was let in, to the microsecond.
    pub fn start(&self) -> Instant {
        self.ticket.core.at(self.micros)
    }

    #[inline]
    pub(super) fn end(&mut self, result: CallResult, now: Instant) {
        if !std::mem::replace(&mut self.is_reported, true) {
            let core = &self.ticket.core;
            core.report((self.role, self.generation), result, self.micros, core.micros(now));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_reported {
            self.end(CallResult::Cancelled, clock::now());
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, generation, .. } = self;
        f.debug_struct("Permit").field("role", role).field("generation", generation).finish_non_exhaustive()
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallResult {
    /// It went well; or slowly, which the circuit finds out itself.
    Ok,
    /// It failed.
    Failed {
        /// When the other side says that it may be asked again.
        retry_after: Option<Duration>,
    },
    /// It says nothing about the other side: a mistake of the caller.
    Ignored,
    /// Its caller gave it up.
    Cancelled,
    /// It was rejected on this side, before it could be made.
    Rejected,
}

impl CallResult {
    /// A failure without a hint when to come again.
    pub const FAILED: Self = Self::Failed { retry_after: None };
}

/// A call that was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// Whose circuit it is.
    pub name: Arc<str>,
    /// Which one of those of that name.
    pub key: Option<Arc<str>>,
    /// Why.
    pub because: RejectedBecause,
    /// Since when the circuit is in its state.
    pub since: Instant,
    /// When it makes sense to come again, at the earliest.
    pub retry_after: Duration,
}

/// Why a circuit rejects a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectedBecause {
    /// It is open.
    Open,
    /// It is half-open, and a probe is under way.
    Probing,
    /// It has just closed, and lets only a part of the calls pass.
    Ramping,
    /// It holds back a part of the calls.
    Throttled,
    /// It was opened by hand.
    Forced,
}

impl RejectedBecause {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Probing => "probing",
            Self::Ramping => "ramping",
            Self::Throttled => "throttled",
            Self::Forced => "forced",
        }
    }
}

impl fmt::Display for RejectedBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Rejected {
    /// Finds it in an error or its sources.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, key, because, retry_after, .. } = self;
        write!(f, "the circuit {name}")?;
        if let Some(key) = key {
            write!(f, " of {key}")?;
        }
        let state = match because {
            RejectedBecause::Open => "is open",
            RejectedBecause::Probing => "is being probed",
            RejectedBecause::Ramping => "lets only a part of the calls pass yet",
            RejectedBecause::Throttled => "holds back a part of the calls",
            RejectedBecause::Forced => "was opened by hand",
        };
        write!(f, " {state}; come again in {retry_after:?}")
    }
}

impl std::error::Error for Rejected {}

/// Why [`Circuit::call`](super::Circuit::call) has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The call was not made.
    Rejected(Rejected),
    /// The call failed.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Failed(_) => f.write_str("the call failed"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rejected(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}
