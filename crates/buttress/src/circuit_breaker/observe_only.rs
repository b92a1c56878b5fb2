//! Metrics only: a circuit that decides, and rejects nothing.
//!
//! It is no state: the circuit goes on from one to the next as it would have. So it has a word of its own, which nobody
//! reads but who is about to be rejected, and who looks at the circuit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::circuit::Circuit;
use super::core::{Core, to_millis};
use super::snapshot::maybe_millis;
use super::state::NEVER;
use super::transition::Reason;

/// That a circuit decides and rejects nothing: why, and for how long; of [`Circuit::observe_only`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ObserveOnly {
    /// Why; `None` where it was [configured](super::CircuitConfig::observe_only) so.
    pub reason: Option<Arc<str>>,
    /// For how much longer, if it ends by itself. Serialised, whole milliseconds by the name `remaining_ms`.
    #[serde(rename = "remaining_ms", serialize_with = "maybe_millis")]
    pub remaining: Option<Duration>,
}

/// Until when a circuit only observes, in milliseconds since it was made. Written while its log is locked.
pub(super) struct Until(AtomicU64);

/// It does not.
const NOT: u64 = 0;

impl Until {
    pub(super) fn new(observes: bool) -> Self {
        Self(AtomicU64::new(if observes { NEVER } else { NOT }))
    }
}

impl Circuit {
    /// Decides and rejects nothing until [released](Self::release), for so long at most: for settings to be tried on real
    /// traffic. What would have been rejected is counted. What is forced open by hand is rejected all the same.
    ///
    /// It goes from state to state meanwhile; that it begins and ends is told as a transition from its state to the same.
    /// As with all that is to last for a time, the end is told when the first call comes that is rejected again, or when
    /// somebody looks.
    pub fn observe_only(&self, reason: impl Into<Arc<str>>, lasts: Option<Duration>) {
        let (core, now, reason) = (self.core(), self.now(), reason.into());
        let until = lasts.map_or(NEVER, |lasts| now.saturating_add(to_millis(lasts)).clamp(NOT + 1, NEVER));
        let state = core.settled(now).phase.state();
        let mut log = core.log();
        core.observes_until.0.store(until, Ordering::Relaxed);
        log.observes = Some(Arc::clone(&reason));
        core.tell_of(log, state, Reason::ObserveOnly(reason), now);
    }
}

impl Core {
    /// Whether what would be rejected passes.
    pub(super) fn observes(&self, now: u64) -> bool {
        let until = self.observes_until.0.load(Ordering::Relaxed);
        if until == NOT || until == NEVER || now < until {
            return until != NOT;
        }
        self.end_of(until, Reason::ObserveOnlyExpired, now);
        false
    }

    /// The same, with why and for how long.
    pub(super) fn observing(&self, now: u64) -> Option<ObserveOnly> {
        if !self.observes(now) {
            return None;
        }
        let log = self.log();
        let until = self.observes_until.0.load(Ordering::Relaxed);
        let remaining = (until != NEVER).then(|| Duration::from_millis(until.saturating_sub(now)));
        (until != NOT).then(|| ObserveOnly { reason: log.observes.clone(), remaining })
    }

    /// Rejects again, if it does not.
    pub(super) fn enforce(&self, reason: Arc<str>, now: u64) {
        if self.observes(now) {
            self.end_of(self.observes_until.0.load(Ordering::Relaxed), Reason::Enforced(reason), now);
        }
    }

    /// Ends what was to last until then, unless somebody else was faster.
    #[cold]
    fn end_of(&self, until: u64, reason: Reason, now: u64) {
        let state = self.settled(now).phase.state();
        let mut log = self.log();
        if until != NOT && self.observes_until.0.load(Ordering::Relaxed) == until {
            self.observes_until.0.store(NOT, Ordering::Relaxed);
            log.observes = None;
            self.tell_of(log, state, reason, now);
        }
    }
}
