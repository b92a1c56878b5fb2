//! The buckets that are counted into: cumulative, never reset, made when they are first needed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::layout::{LARGEST, Precision};
use super::room::Room;
use crate::shard::{Own, Shard, Sharded, Word};

/// Counts of values, with their sum.
///
/// Recording takes no lock, reads no clock, and never waits for who reads.
pub(crate) struct Counters<W = AtomicU64> {
    precision: Precision,
    shards: Sharded<Counts<W>>,
    room: Option<Arc<Room>>,
    /// Of all threads, for values whose buckets found no room: one bucket for each power of two.
    rounded: OnceLock<Rounded<W>>,
}

struct Counts<W> {
    sum: W,
    /// The buckets of each power of two.
    powers: Box<[OnceLock<Box<[W]>>]>,
}

struct Rounded<W> {
    sum: W,
    powers: Box<[W]>,
}

/// Where a value is counted that was found to have a place.
pub(crate) struct Found<'a, W = AtomicU64> {
    own: Own,
    counts: &'a Counts<W>,
    bucket: &'a W,
}

impl<W: Word> Found<'_, W> {
    #[inline]
    pub(crate) fn count(self, value: u64) {
        count(&self.counts.sum, self.bucket, value, 1, |word, value| self.own.add(word, value));
    }
}

/// The counts of all shards at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sum: u64,
    /// As long as the highest bucket needs that was ever used.
    pub(crate) buckets: Vec<u64>,
    /// The errors among them.
    pub(crate) errors: Vec<u64>,
}

impl<W: Word> Counters<W> {
    pub(crate) fn new(precision: Precision) -> Self {
        Self { precision, shards: Sharded::new(), room: None, rounded: OnceLock::new() }
    }

    /// With buckets as long as there is room for them; after that values are known to the next power of two.
    pub(crate) fn within(precision: Precision, room: Arc<Room>) -> Self {
        Self { room: Some(room), ..Self::new(precision) }
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Of other values, with the same buckets, as long as there is the same room.
    pub(super) fn another(&self) -> Self {
        Self { room: self.room.clone(), ..Self::new(self.precision) }
    }

    pub(crate) fn record(&self, shard: Shard, value: u64) {
        match shard.own().and_then(|own| self.find(own, value)) {
            Some(found) => found.count(value),
            None => self.record_many(shard, value, 1),
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

    /// The same value so many times; the longer way, on which there may be something to make first.
    #[cold]
    #[inline(never)]
    pub(crate) fn record_many(&self, shard: Shard, value: u64, times: u64) {
        let (power, part) = self.precision.place(value);
        let counts = self.counts(shard);
        match counts.and_then(|counts| Some((counts, self.parts(counts, power)?))) {
            Some((Counts { sum, .. }, parts)) => {
                count(sum, &parts[part], value, times, |word, value| shard.add(word, value));
            }
            None => {
                let Rounded { sum, powers } = self.rounded();
                count(sum, &powers[power], value, times, |word, value| Shard::SHARED.add(word, value));
            }
        }
    }

    fn counts(&self, shard: Shard) -> Option<&Counts<W>> {
        let bytes = Sharded::<Counts<W>>::COPY + self.powers() * size_of::<OnceLock<Box<[W]>>>();
        let has_one = || self.shards.get(shard).is_some();
        (has_one() || self.has_room(bytes)).then(|| {
            self.shards.of(shard, || {
                self.take_room(bytes);
                Counts::new(self.powers())
            })
        })
    }

    fn parts<'a>(&self, counts: &'a Counts<W>, power: usize) -> Option<&'a [W]> {
        let (power, bytes) = (&counts.powers[power], size_of::<W>() * self.precision.parts());
        let parts = || {
            power.get_or_init(|| {
                self.take_room(bytes);
                (0..self.precision.parts()).map(|_| W::zero()).collect()
            })
        };
        (power.get().is_some() || self.has_room(bytes)).then(|| &**parts())
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.room.as_ref().is_none_or(|room| room.has(bytes))
    }

    fn take_room(&self, bytes: usize) {
        if let Some(room) = &self.room {
            room.take(bytes);
        }
    }

    fn rounded(&self) -> &Rounded<W> {
        let powers = || (0..self.powers()).map(|_| W::zero()).collect();
        self.rounded.get_or_init(|| Rounded { sum: W::zero(), powers: powers() })
    }

    /// Whether some of its values are known to the next power of two only.
    pub(crate) fn is_rounded(&self) -> bool {
        self.rounded.get().is_some()
    }

    fn powers(&self) -> usize {
        let (last, _) = self.precision.place(LARGEST);
        last + 1
    }

    pub(crate) fn totals(&self) -> Totals {
        let parts = self.precision.parts();
        let used = |counts: &Counts<W>| counts.powers.iter().rposition(|power| power.get().is_some());
        let powers = match self.is_rounded() {
            true => self.powers(),
            false => self.shards.iter().filter_map(used).max().map_or(0, |highest| highest + 1),
        };
        let mut totals = Totals { buckets: vec![0; powers * parts], ..Totals::default() };
        for counts in self.shards.iter() {
            // A power that is made just now is left for the next reader.
            for (power, totals) in counts.powers.iter().zip(totals.buckets.chunks_exact_mut(parts)) {
                let words = power.get().into_iter().flatten();
                totals.iter_mut().zip(words).for_each(|(total, word)| *total += word.load(Ordering::Acquire));
            }
        }
        let rounded = self.rounded.get();
        // By the upper end of the power: told too high rather than too low, as within a bucket.
        for (power, word) in rounded.iter().flat_map(|rounded| rounded.powers.iter().enumerate()) {
            totals.buckets[power * parts + parts - 1] += word.load(Ordering::Acquire);
        }
        // After the buckets, so that a value that is counted is in the sum.
        let sums = self.shards.iter().map(|counts| &counts.sum).chain(rounded.map(|rounded| &rounded.sum));
        totals.sum = sums.fold(0, |total, sum| total.wrapping_add(sum.load(Ordering::Acquire)));
        totals
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        let rounded = self.rounded.get().map_or(0, |rounded| size_of_val(&*rounded.powers));
        rounded + self.shards.bytes(|counts| counts.bytes(self.precision))
    }
}

impl<W: Word> Counts<W> {
    fn new(powers: usize) -> Self {
        Self { sum: W::zero(), powers: (0..powers).map(|_| OnceLock::new()).collect() }
    }

    /// Beyond itself.
    fn bytes(&self, precision: Precision) -> usize {
        let made = self.powers.iter().filter(|power| power.get().is_some()).count();
        size_of_val(&*self.powers) + made * size_of::<W>() * precision.parts()
    }
}

#[inline]
fn count<W>(sum: &W, bucket: &W, value: u64, times: u64, add: impl Fn(&W, u64)) {
    // Before the bucket, so that who sees the value counted sees it in the sum too.
    add(sum, value.wrapping_mul(times));
    add(bucket, times);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = 1 << 20;

    fn within(room: &Arc<Room>) -> Counters {
        Counters::within(Precision::DEFAULT, Arc::clone(room))
    }

    /// Whether so many bytes of [`ALL`] are taken, and not one more or less.
    fn is_taken(room: &Room, bytes: usize) -> bool {
        room.has(ALL - bytes) && !room.has(ALL - bytes + 1)
    }

    #[test]
    fn room_is_taken_for_every_copy_and_every_power_and_for_none_twice() {
        let room = Arc::new(Room::of(ALL));
        let counters = within(&room);
        let empty = counters.bytes();
        assert!(is_taken(&room, 0));
        for value in [5, 5, 1000, 1_000_000, 1000] {
            [Shard::mine(), Shard::SHARED].into_iter().for_each(|shard| counters.record(shard, value));
            assert!(is_taken(&room, counters.bytes() - empty), "{value}");
        }
        assert!(!counters.is_rounded());
    }

    #[test]
    fn a_value_without_room_is_told_by_the_upper_end_of_its_power() {
        let counters = within(&Arc::new(Room::of(0)));
        for value in [3, 1000, 1024] {
            counters.record(Shard::mine(), value);
            let totals = counters.totals();
            let highest = totals.buckets.iter().rposition(|count| *count > 0).expect("it is counted");
            assert_eq!(counters.precision().highest(highest), (value + 1).next_power_of_two().max(32) - 1);
        }
        assert!(counters.is_rounded());
        assert_eq!((counters.totals().sum, counters.totals().buckets.iter().sum::<u64>()), (2027, 3));
    }

    #[test]
    fn a_copy_that_finds_no_room_for_its_powers_keeps_the_values_all_the_same() {
        let room = Arc::new(Room::of(ALL));
        within(&room).record(Shard::mine(), 5);
        // What one value takes, and a byte less than another needs.
        let all = (0..=ALL).rev().find(|left| room.has(*left)).expect("nothing always fits");
        let room = Arc::new(Room::of(2 * (ALL - all) - 1));
        let (one, other) = (within(&room), within(&room));
        [&one, &other].into_iter().for_each(|counters| counters.record(Shard::mine(), 5));
        assert_eq!((one.is_rounded(), other.is_rounded()), (false, true));
        assert_eq!((one.totals().sum, other.totals().sum), (5, 5));
    }
}
