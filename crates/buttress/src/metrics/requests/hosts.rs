//! Counts by what is known of a request when it begins and by its host, where hosts are told apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::super::labels::{Label, shown};
use super::super::table::Table;
use super::{Beginning, Interned, Key, Requests, overflow_labels, spread};
use crate::shard::{self, Shard, Sharded};

/// A count for each host, method and scheme; so many of them, and one for the rest.
///
/// Nothing is ever taken out: what did not fit when it began does not fit when it ends either.
pub(super) struct Hosts {
    told_apart: Table<u64, Count>,
    beyond: OnceLock<Count>,
}

pub(super) struct Count {
    pub(super) labels: Arc<[Label]>,
    place: usize,
    cells: Sharded<Cells>,
}

/// Of one thread.
#[derive(Default)]
struct Cells {
    began: AtomicU64,
    /// Those whose end was counted beyond all series of exchanges.
    ended_beyond: AtomicU64,
}

/// Where the [rest](Hosts::beyond) is.
const BEYOND: usize = 0;

impl Requests {
    /// As [`start`](Self::start), of a request whose host may be told.
    #[inline]
    pub(in crate::metrics) fn start_of(&self, key: &Key) {
        match key.host {
            Interned::NONE => self.start(key.method, key.scheme),
            _ => self.start_at_host(key.beginning()),
        }
    }

    /// On its own, so that servers, which tell no hosts, do not have it among theirs.
    #[inline(never)]
    fn start_at_host(&self, began: Beginning) {
        let found = self.hosts_began.find_or_make(began, || self.beginning_labels(began));
        found.unwrap_or_else(|| self.count_beyond(began)).begin(Shard::mine());
    }

    /// Of a request whose end was counted beyond all series.
    #[cold]
    #[inline(never)]
    pub(super) fn end_beyond(&self, shard: Shard, began: Beginning) {
        match began.host {
            Interned::NONE => self.ended_beyond.count(shard, began.method, began.scheme),
            _ => self.hosts_began.find(began).end_beyond(shard),
        }
    }

    #[cold]
    fn count_beyond(&self, began: Beginning) -> &Count {
        self.hosts_overflow.note(&shown(&&*self.beginning_labels(began)));
        self.hosts_began.beyond()
    }
}

impl Hosts {
    pub(super) fn new(cap: usize) -> Self {
        Self { told_apart: Table::new(cap), beyond: OnceLock::new() }
    }

    /// The count of these; `None` when there are as many as there may be.
    #[inline]
    pub(super) fn find_or_make(&self, began: Beginning, labels: impl FnOnce() -> Arc<[Label]>) -> Option<&Count> {
        let packed = began.packed();
        let make = |nth| (packed, Count::new(nth + 1, labels()));
        self.told_apart.find_or_make(spread(packed), |known| *known == packed, make)
    }

    pub(super) fn beyond(&self) -> &Count {
        self.beyond.get_or_init(|| Count::new(BEYOND, overflow_labels()))
    }

    /// The count that a request of these began in.
    pub(super) fn find(&self, began: Beginning) -> &Count {
        let packed = began.packed();
        self.told_apart.find(spread(packed), |known| *known == packed).unwrap_or_else(|| self.beyond())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Count> {
        self.told_apart.iter().map(|(_, count)| count).chain(self.beyond.get())
    }
}

impl Count {
    fn new(place: usize, labels: Arc<[Label]>) -> Self {
        Self { labels, place, cells: Sharded::new() }
    }

    /// A number of its own.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    #[inline]
    pub(super) fn begin(&self, shard: Shard) {
        shard.add(&self.cells.of(shard, Cells::default).began, 1);
    }

    pub(super) fn end_beyond(&self, shard: Shard) {
        shard.add(&self.cells.of(shard, Cells::default).ended_beyond, 1);
    }

    pub(super) fn ended_beyond(&self) -> u64 {
        self.cells.iter().map(|cells| cells.ended_beyond.load(Ordering::Acquire)).sum()
    }

    /// How many are under way, if so many have ended.
    pub(super) fn under_way(&self, ended: u64) -> Option<u64> {
        shard::under_way(ended, self.cells.iter().map(|cells| &cells.began))
    }
}
