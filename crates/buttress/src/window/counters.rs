//! The buckets that are counted into: cumulative, never reset, made when they are first needed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{LARGEST, Precision};
use crate::shard::{Own, Shard, Sharded, Word};

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

/// Where a value is counted that was found to have a place.
pub(crate) struct Found<'a, W = AtomicU64> {
    own: Own,
    counts: &'a Counts<W>,
    bucket: &'a W,
}

impl<W: Word> Found<'_, W> {
    #[inline]
    pub(crate) fn count(self, value: u64, is_error: bool) {
        self.counts.count(self.bucket, value, is_error, |word, value| self.own.add(word, value));
    }
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

    pub(crate) fn record(&self, shard: Shard, value: u64, is_error: bool) {
        match shard.own().and_then(|own| self.find(own, value)) {
            Some(found) => found.count(value, is_error),
            None => self.record_first(shard, value, is_error),
        }
    }

    /// Where this thread has counted such a value before.
    #[inline]
    pub(crate) fn find(&self, own: Own, value: u64) -> Option<Found<'_, W>> {
        let counts = self.shards.own(own)?;
        let (power, part) = self.precision.place(value);
        let bucket = counts.powers.get(power)?.get()?.get(part)?;
        Some(Found { own, counts, bucket })
    }

    #[cold]
    #[inline(never)]
    fn record_first(&self, shard: Shard, value: u64, is_error: bool) {
        let counts = self.shards.of(shard, || Counts::new(self.precision));
        let (power, part) = self.precision.place(value);
        let parts = counts.powers[power].get_or_init(|| (0..self.precision.parts()).map(|_| W::zero()).collect());
        counts.count(&parts[part], value, is_error, |word, value| shard.add(word, value));
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
    #[inline]
    fn count(&self, bucket: &W, value: u64, is_error: bool, add: impl Fn(&W, u64)) {
        // Before the bucket, so that who sees the value counted sees its sum and its error too.
        add(&self.sum, value);
        if is_error {
            add(&self.errors, 1);
        }
        add(bucket, 1);
    }

    fn new(precision: Precision) -> Self {
        let (last, _) = precision.place(LARGEST);
        let powers = last + 1;
        Self { sum: W::zero(), errors: W::zero(), powers: (0..powers).map(|_| OnceLock::new()).collect() }
    }
}
