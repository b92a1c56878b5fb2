//! What a circuit remembers of its past, and whom it tells. Touched only when its state changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::transition::{Reason, State, Transition};
use crate::signal::Signals;

/// So many transitions are remembered.
const REMEMBERED: usize = 16;

#[derive(Default)]
pub(super) struct Log {
    /// Newest first, with their time in milliseconds.
    pub(super) transitions: VecDeque<(u64, Transition)>,
    /// Why it is in its state.
    pub(super) reason: Option<Reason>,
    /// Why it only observes, if that was said.
    pub(super) observes: Option<Arc<str>>,
    /// Why it opened last.
    pub(super) last_trip: Option<Reason>,
    /// How often it opened, by the label of why.
    pub(super) trips: BTreeMap<&'static str, u64>,
    pub(super) signals: Option<Signals>,
}

impl Log {
    /// It is in another state now, or begins anew with the same.
    pub(super) fn enter(&mut self, state: State, reason: &Reason) {
        self.reason = Some(reason.clone());
        if matches!(state, State::Open | State::ForcedOpen) {
            self.last_trip = Some(reason.clone());
            *self.trips.entry(reason.as_str()).or_default() += 1;
        }
    }

    pub(super) fn push(&mut self, now: u64, transition: Transition) {
        self.transitions.truncate(REMEMBERED - 1);
        self.transitions.push_front((now, transition));
    }
}
