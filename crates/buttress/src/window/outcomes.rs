//! What is counted of a window: every value, and apart which of them were errors.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use super::counters::{Counters, Found, Totals};
use crate::shard::{Own, Shard, Word};

pub(crate) struct Outcomes<W = AtomicU64> {
    all: Counters<W>,
    /// Once there was one.
    errors: OnceLock<Box<Counters<W>>>,
}

/// Where a value is counted that was found to have a place.
pub(crate) struct FoundOutcome<'a, W = AtomicU64> {
    outcomes: &'a Outcomes<W>,
    own: Own,
    found: Found<'a, W>,
}

impl<W: Word> FoundOutcome<'_, W> {
    #[inline]
    pub(crate) fn count(self, value: u64, is_error: bool) {
        if is_error {
            self.outcomes.record_error(self.own.shard(), value);
        }
        self.found.count(value);
    }
}

impl<W: Word> Outcomes<W> {
    pub(crate) fn new(all: Counters<W>) -> Self {
        Self { all, errors: OnceLock::new() }
    }

    pub(crate) fn record(&self, shard: Shard, value: u64, is_error: bool) {
        // Before the value, so that who sees it counted sees its error too.
        if is_error {
            self.record_error(shard, value);
        }
        self.all.record(shard, value);
    }

    #[cold]
    fn record_error(&self, shard: Shard, value: u64) {
        self.errors.get_or_init(|| Box::new(self.all.another())).record(shard, value);
    }

    /// Where this thread has counted such a value before.
    #[inline]
    pub(crate) fn find(&self, own: Own, value: u64) -> Option<FoundOutcome<'_, W>> {
        Some(FoundOutcome { outcomes: self, own, found: self.all.find(own, value)? })
    }

    pub(super) fn all(&self) -> &Counters<W> {
        &self.all
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.all.totals();
        totals.errors = self.errors.get().map(|errors| errors.totals().buckets).unwrap_or_default();
        totals
    }

    pub(super) fn is_rounded(&self) -> bool {
        self.all.is_rounded() || self.errors.get().is_some_and(|errors| errors.is_rounded())
    }

    pub(super) fn bytes(&self) -> usize {
        let errors = self.errors.get().map_or(0, |errors| size_of::<Counters<W>>() + errors.bytes());
        self.all.bytes() + errors
    }
}
