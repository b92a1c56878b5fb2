//! What has been counted in the last minutes: a difference for each tick, few bytes each.

use std::collections::VecDeque;
use std::time::Duration;

use super::counters::Totals;
use crate::clock::Instant;

/// Differences of cumulative counts, oldest first, and their sum.
pub(super) struct Ring {
    last: Duration,
    deltas: VecDeque<Delta>,
    /// The sum of all deltas.
    within: Totals,
    /// The counts at the latest tick.
    at_tick: Totals,
    ticked: Instant,
    created: Instant,
}

struct Delta {
    from: Instant,
    to: Instant,
    sum: u64,
    errors: u64,
    /// Pairs of variable-length numbers: empty buckets to step over, and the count of the next.
    buckets: Box<[u8]>,
}

impl Ring {
    pub(super) fn new(last: Duration, now: Instant) -> Self {
        let (deltas, within, at_tick) = (VecDeque::new(), Totals::default(), Totals::default());
        Self { last, deltas, within, at_tick, ticked: now, created: now }
    }

    pub(super) fn since_tick(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.ticked)
    }

    /// Keeps what was counted since the latest tick, and forgets what is too old.
    pub(super) fn tick(&mut self, totals: Totals, now: Instant) {
        let buckets = sparse(&totals.buckets, &self.at_tick.buckets);
        let errors = totals.errors - self.at_tick.errors;
        if !buckets.is_empty() || errors > 0 {
            let sum = totals.sum.wrapping_sub(self.at_tick.sum);
            let delta = Delta { from: self.ticked, to: now, sum, errors, buckets };
            delta.add_to(&mut self.within);
            self.deltas.push_back(delta);
        }
        self.at_tick = totals;
        self.ticked = now;
        self.forget(now);
    }

    pub(super) fn forget(&mut self, now: Instant) {
        let is_old = |delta: &Delta| now.saturating_duration_since(delta.to) >= self.last;
        let old = self.deltas.partition_point(is_old);
        self.deltas.drain(..old).for_each(|delta| delta.take_from(&mut self.within));
    }

    /// What lies in the window, when these are the counts now.
    pub(super) fn read(&self, mut totals: Totals) -> Totals {
        for (bucket, before) in totals.buckets.iter_mut().zip(&self.at_tick.buckets) {
            *bucket -= before;
        }
        for (bucket, within) in totals.buckets.iter_mut().zip(&self.within.buckets) {
            *bucket += within;
        }
        totals.sum = totals.sum.wrapping_sub(self.at_tick.sum).wrapping_add(self.within.sum);
        totals.errors = totals.errors - self.at_tick.errors + self.within.errors;
        totals
    }

    /// How long the time is that [`read`](Self::read) tells of.
    pub(super) fn covers(&self, now: Instant) -> Duration {
        let whole = now.saturating_duration_since(self.created).min(self.last.max(self.since_tick(now)));
        let oldest = self.deltas.front().map_or(Duration::ZERO, |delta| now.saturating_duration_since(delta.from));
        whole.max(oldest)
    }

    /// Halves the number of deltas: time is told apart less finely, and nothing is lost. False when one is left.
    pub(super) fn coarsen(&mut self) -> bool {
        let coarser = self.deltas.len() > 1;
        let mut deltas = std::mem::take(&mut self.deltas).into_iter();
        while let Some(first) = deltas.next() {
            self.deltas.push_back(match deltas.next() {
                Some(second) => first.merged(&second),
                None => first,
            });
        }
        coarser
    }

    pub(super) fn bytes(&self) -> usize {
        let deltas: usize = self.deltas.iter().map(|delta| delta.buckets.len()).sum();
        let dense = self.within.buckets.capacity() + self.at_tick.buckets.capacity();
        self.deltas.capacity() * size_of::<Delta>() + deltas + dense * size_of::<u64>()
    }
}

impl Delta {
    fn add_to(&self, totals: &mut Totals) {
        totals.sum = totals.sum.wrapping_add(self.sum);
        totals.errors += self.errors;
        for (index, count) in pairs(&self.buckets) {
            if totals.buckets.len() <= index {
                totals.buckets.resize(index + 1, 0);
            }
            totals.buckets[index] += count;
        }
    }

    fn take_from(&self, totals: &mut Totals) {
        totals.sum = totals.sum.wrapping_sub(self.sum);
        totals.errors -= self.errors;
        pairs(&self.buckets).for_each(|(index, count)| totals.buckets[index] -= count);
    }

    fn merged(&self, later: &Self) -> Self {
        let mut both = Totals::default();
        self.add_to(&mut both);
        later.add_to(&mut both);
        Self { from: self.from, to: later.to, sum: both.sum, errors: both.errors, buckets: sparse(&both.buckets, &[]) }
    }
}

/// The buckets that differ, packed.
fn sparse(now: &[u64], before: &[u64]) -> Box<[u8]> {
    let mut packed = Vec::new();
    let mut skipped = 0;
    for (index, now) in now.iter().enumerate() {
        match now - before.get(index).copied().unwrap_or(0) {
            0 => skipped += 1,
            count => {
                push_varint(&mut packed, skipped);
                push_varint(&mut packed, count);
                skipped = 0;
            }
        }
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
            pairs(&sparse(&buckets, &[])).for_each(|(index, count)| unpacked[index] = count);
            prop_assert_eq!(unpacked, buckets);
        }
    }
}
