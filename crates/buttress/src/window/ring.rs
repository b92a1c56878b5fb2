//! What has been counted in the last minutes: a difference for each tick, few bytes each.

use std::collections::VecDeque;
use std::time::Duration;

use super::counters::Totals;
use crate::clock::Instant;

/// Differences of cumulative counts, oldest first. Packed, all of it: most windows are of quiet series.
pub(crate) struct Ring {
    last: Duration,
    deltas: VecDeque<Delta>,
    /// The counts before the oldest delta: the window is what has come since.
    base: Packed,
    /// The counts at the latest tick.
    at_tick: Packed,
    ticked: Instant,
    created: Instant,
}

struct Delta {
    from: Instant,
    to: Instant,
    counts: Packed,
}

#[derive(Default)]
struct Packed {
    sum: u64,
    /// Pairs of variable-length numbers: empty buckets to step over, and the count of the next.
    buckets: Box<[u8]>,
    /// As the buckets; mostly empty.
    errors: Box<[u8]>,
}

impl Ring {
    pub(crate) fn new(last: Duration, now: Instant) -> Self {
        let (deltas, base, at_tick) = (VecDeque::new(), Packed::default(), Packed::default());
        Self { last, deltas, base, at_tick, ticked: now, created: now }
    }

    pub(crate) fn since_tick(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.ticked)
    }

    /// Keeps what was counted since the latest tick, and forgets what is too old.
    pub(crate) fn tick(&mut self, totals: &Totals, now: Instant) {
        let mut moved = totals.clone();
        self.at_tick.take_from(&mut moved);
        let counts = Packed::of(&moved);
        if counts.bytes() > 0 {
            self.deltas.push_back(Delta { from: self.ticked, to: now, counts });
            self.at_tick = Packed::of(totals);
        }
        self.ticked = now;
        self.forget(now);
    }

    pub(crate) fn forget(&mut self, now: Instant) {
        let is_old = |delta: &Delta| now.saturating_duration_since(delta.to) >= self.last;
        let old = self.deltas.partition_point(is_old);
        if old > 0 {
            let mut base = self.base.unpacked();
            self.deltas.drain(..old).for_each(|delta| delta.counts.add_to(&mut base));
            self.base = Packed::of(&base);
        }
    }

    /// What lies in the window, when these are the counts now.
    pub(crate) fn read(&self, mut totals: Totals) -> Totals {
        self.base.take_from(&mut totals);
        totals
    }

    /// How long the time is that [`read`](Self::read) tells of.
    pub(crate) fn covers(&self, now: Instant) -> Duration {
        let whole = now.saturating_duration_since(self.created).min(self.last.max(self.since_tick(now)));
        let oldest = self.deltas.front().map_or(Duration::ZERO, |delta| now.saturating_duration_since(delta.from));
        whole.max(oldest)
    }

    /// Halves the number of deltas: time is told apart less finely, and nothing is lost. False when one is left.
    pub(crate) fn coarsen(&mut self) -> bool {
        let coarser = self.deltas.len() > 1;
        let mut deltas = std::mem::take(&mut self.deltas).into_iter();
        while let Some(mut delta) = deltas.next() {
            if let Some(later) = deltas.next() {
                let mut both = delta.counts.unpacked();
                later.counts.add_to(&mut both);
                delta = Delta { from: delta.from, to: later.to, counts: Packed::of(&both) };
            }
            self.deltas.push_back(delta);
        }
        coarser
    }

    pub(crate) fn bytes(&self) -> usize {
        let deltas: usize = self.deltas.iter().map(|delta| delta.counts.bytes()).sum();
        self.deltas.capacity() * size_of::<Delta>() + deltas + self.base.bytes() + self.at_tick.bytes()
    }
}

impl Packed {
    fn of(totals: &Totals) -> Self {
        Self { sum: totals.sum, buckets: packed(&totals.buckets), errors: packed(&totals.errors) }
    }

    /// Beyond itself.
    fn bytes(&self) -> usize {
        self.buckets.len() + self.errors.len()
    }

    fn unpacked(&self) -> Totals {
        let mut totals = Totals::default();
        self.add_to(&mut totals);
        totals
    }

    fn add_to(&self, totals: &mut Totals) {
        totals.sum = totals.sum.wrapping_add(self.sum);
        for (packed, buckets) in [(&self.buckets, &mut totals.buckets), (&self.errors, &mut totals.errors)] {
            for (index, count) in pairs(packed) {
                if buckets.len() <= index {
                    buckets.resize(index + 1, 0);
                }
                buckets[index] += count;
            }
        }
    }

    /// From counts that these are a part of.
    fn take_from(&self, totals: &mut Totals) {
        totals.sum = totals.sum.wrapping_sub(self.sum);
        pairs(&self.buckets).for_each(|(index, count)| totals.buckets[index] -= count);
        pairs(&self.errors).for_each(|(index, count)| totals.errors[index] -= count);
    }
}

fn packed(buckets: &[u64]) -> Box<[u8]> {
    let mut packed = Vec::new();
    let mut skipped = 0;
    for count in buckets {
        if *count == 0 {
            skipped += 1;
            continue;
        }
        push_varint(&mut packed, skipped);
        push_varint(&mut packed, *count);
        skipped = 0;
    }
    packed.into()
}

fn pairs(packed: &[u8]) -> impl Iterator<Item = (usize, u64)> {
    let (mut rest, mut next) = (packed, 0);
    std::iter::from_fn(move || {
        let index = next + take_varint(&mut rest)? as usize;
        next = index + 1;
        Some((index, take_varint(&mut rest)?))
    })
}

/// Seven bits a byte, lowest first, as Protocol Buffers and HdrHistogram write them.
fn push_varint(packed: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        packed.push(value as u8 | 0x80);
        value >>= 7;
    }
    packed.push(value as u8);
}

fn take_varint(packed: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = packed.split_first()?;
        *packed = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packing_loses_nothing(buckets in proptest::collection::vec(prop_oneof![3 => Just(0), 1 => any::<u64>()], 0..200)) {
            let mut unpacked = vec![0; buckets.len()];
            pairs(&packed(&buckets)).for_each(|(index, count)| unpacked[index] = count);
            prop_assert_eq!(unpacked, buckets);
        }
    }
}
