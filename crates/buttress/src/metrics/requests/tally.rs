//! Counts by what is known of a request when it begins.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use super::{KnownMethod, Scheme};
use crate::shard::{Own, Shard, Sharded};

/// A count for each method and scheme.
pub(super) struct Tally(Sharded<Counts>);

struct Counts {
    usual: [BySchemes; KnownMethod::USUAL],
    others: OnceLock<Box<[BySchemes]>>,
}

type BySchemes = [AtomicU64; Scheme::ALL.len()];

impl Tally {
    pub(super) fn new() -> Self {
        Self(Sharded::new())
    }

    #[inline]
    pub(super) fn count(&self, shard: Shard, method: KnownMethod, scheme: Scheme) {
        shard.add(self.0.of(shard, Counts::new).of(method, scheme), 1);
    }

    /// Counts a usual method, if this thread has counted before; `None` when nothing was counted.
    #[inline]
    pub(super) fn count_own(&self, own: Own, method: KnownMethod, scheme: Scheme) -> Option<()> {
        let by_scheme = self.0.own(own)?.usual.get(method.index())?;
        own.add(&by_scheme[scheme as usize], 1);
        Some(())
    }

    /// The words of one method and scheme.
    pub(super) fn words(&self, method: KnownMethod, scheme: Scheme) -> impl Iterator<Item = &AtomicU64> {
        self.0.iter().filter_map(move |counts| counts.get(method)).map(move |all| &all[scheme as usize])
    }
}

impl Counts {
    fn new() -> Self {
        Self { usual: Default::default(), others: OnceLock::new() }
    }

    #[inline]
    fn of(&self, method: KnownMethod, scheme: Scheme) -> &AtomicU64 {
        let by_scheme = self.usual.get(method.index()).unwrap_or_else(|| self.other(method));
        &by_scheme[scheme as usize]
    }

    #[cold]
    fn other(&self, method: KnownMethod) -> &BySchemes {
        let others = || (KnownMethod::USUAL..KnownMethod::MOST).map(|_| BySchemes::default()).collect();
        &self.others.get_or_init(others)[method.index() - KnownMethod::USUAL]
    }

    fn get(&self, method: KnownMethod) -> Option<&BySchemes> {
        let other = || self.others.get()?.get(method.index() - KnownMethod::USUAL);
        self.usual.get(method.index()).or_else(other)
    }
}
