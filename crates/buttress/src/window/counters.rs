//! The buckets that are counted into: cumulative, never reset, made when they are first needed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::Precision;
use crate::shard::{Shard, Sharded, Word};

/// Counts of values, with their sum and how many of them were errors.
///
/// Recording takes no lock, reads no clock, and never waits for who reads.
pub(crate) struct Counters<W = AtomicU64> {
    precision: Precision,
    shards: Sharded<Counts<W>>,
}

struct Counts<W> {
    sum: W,
    errors: W,
    /// The buckets of each power of two.
    powers: Box<[OnceLock<Box<[W]>>]>,
}

/// The counts of all shards at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sum: u64,
    pub(crate) errors: u64,
    /// As long as the highest bucket needs that was ever used.
    pub(crate) buckets: Vec<u64>,
}

impl<W: Word> Counters<W> {
    pub(crate) fn new(precision: Precision) -> Self {
        Self { precision, shards: Sharded::new() }
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    #[inline]
    pub(crate) fn record(&self, shard: Shard, value: u64, is_error: bool) {
        let counts = self.shards.of(shard, || Counts::new(self.precision));
        let (power, part) = self.precision.place(self.precision.index(value));
        let power = &counts.powers[power];
        let parts = match power.get() {
            Some(parts) => parts,
            None => self.fill(power),
        };
        // Before the bucket, so that who sees the value counted sees its sum and its error too.
        shard.add(&counts.sum, value);
        if is_error {
            shard.add(&counts.errors, 1);
        }
        shard.add(&parts[part], 1);
    }

    #[cold]
    #[inline(never)]
    fn fill<'a>(&self, power: &'a OnceLock<Box<[W]>>) -> &'a [W] {
        power.get_or_init(|| (0..self.precision.parts()).map(|_| W::zero()).collect())
    }

    pub(crate) fn totals(&self) -> Totals {
        let parts = self.precision.parts();
        let used = |counts: &Counts<W>| counts.powers.iter().rposition(|power| power.get().is_some());
        let powers = self.shards.iter().filter_map(used).max().map_or(0, |highest| highest + 1);
        let mut totals = Totals { buckets: vec![0; powers * parts], ..Totals::default() };
        for counts in self.shards.iter() {
            // A power that is made just now is left for the next reader.
            for (power, totals) in counts.powers.iter().zip(totals.buckets.chunks_exact_mut(parts)) {
                let words = power.get().into_iter().flatten();
                totals.iter_mut().zip(words).for_each(|(total, word)| *total += word.load(Ordering::Acquire));
            }
        }
        for counts in self.shards.iter() {
            totals.sum = totals.sum.wrapping_add(counts.sum.load(Ordering::Acquire));
            totals.errors += counts.errors.load(Ordering::Acquire);
        }
        totals
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        let power = size_of::<W>() * self.precision.parts();
        self.shards.bytes(|counts| {
            let made = counts.powers.iter().filter(|power| power.get().is_some()).count();
            size_of_val(&*counts.powers) + made * power
        })
    }
}

impl<W: Word> Counts<W> {
    fn new(precision: Precision) -> Self {
        let (last, _) = precision.place(precision.buckets() - 1);
        let powers = last + 1;
        Self { sum: W::zero(), errors: W::zero(), powers: (0..powers).map(|_| OnceLock::new()).collect() }
    }
}
