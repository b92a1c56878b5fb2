use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{BudgetCounts, Reason};

/// What a [`RetryLayer`](super::RetryLayer) has done; totals that only grow, and the state of the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryStats {
    repeats: [u64; Reason::ALL.len()],
    /// Time that was decided to be waited between attempts.
    pub waited: Duration,
    /// Requests that failed after as many attempts as they may have.
    pub exhausted: u64,
    /// Requests that were sent a second time because their answer took long.
    pub hedges: u64,
    /// Of these, those in which the second was first.
    pub hedges_won: u64,
    /// The budget, which others may share.
    pub budget: BudgetCounts,
}

impl RetryStats {
    /// Repeats for this reason.
    pub fn repeats(&self, reason: Reason) -> u64 {
        self.repeats[reason as usize]
    }

    /// Repeats for any reason.
    pub fn all_repeats(&self) -> u64 {
        self.repeats.iter().sum()
    }
}

/// Written only when something is repeated.
#[derive(Debug, Default)]
pub(super) struct Stats {
    repeats: [AtomicU64; Reason::ALL.len()],
    waited_nanos: AtomicU64,
    exhausted: AtomicU64,
    hedges: AtomicU64,
    hedges_won: AtomicU64,
}

impl Stats {
    pub(super) fn repeats(&self, reason: Reason, after: Duration) {
        self.repeats[reason as usize].fetch_add(1, Relaxed);
        self.waited_nanos.fetch_add(after.as_nanos() as u64, Relaxed);
    }

    pub(super) fn exhausted(&self) {
        self.exhausted.fetch_add(1, Relaxed);
    }

    pub(super) fn hedged(&self) {
        self.hedges.fetch_add(1, Relaxed);
    }

    pub(super) fn hedge_won(&self) {
        self.hedges_won.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self, budget: BudgetCounts) -> RetryStats {
        RetryStats {
            repeats: std::array::from_fn(|at| self.repeats[at].load(Relaxed)),
            waited: Duration::from_nanos(self.waited_nanos.load(Relaxed)),
            exhausted: self.exhausted.load(Relaxed),
            hedges: self.hedges.load(Relaxed),
            hedges_won: self.hedges_won.load(Relaxed),
            budget,
        }
    }
}
