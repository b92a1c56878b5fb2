//! Exponential buckets out of log-linear ones: OpenTelemetry's exponential histogram, Prometheus' native one.

use std::sync::OnceLock;

use super::measure::Measure;
use crate::window::{Counters, Precision};

/// Buckets that each reach so much further than the one before: `2^(2^-scale)` times.
///
/// They are made of log-linear buckets of [`Precision`](crate::window::Precision) by their upper ends, so that a value may
/// lie one bucket too high if it is nearer to its bound than that precision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FineBuckets {
    /// OpenTelemetry's scale, Prometheus' schema.
    pub scale: i32,
    /// Values that are zero, or too small to be told from it.
    pub zero_count: u64,
    /// The index of the first of [`counts`](Self::counts), as OpenTelemetry counts it: bucket `i` holds what is above
    /// `base^i`, up to `base^(i+1)`. Prometheus' index is one higher.
    pub offset: i32,
    /// How many values lie in each bucket.
    pub counts: Vec<u64>,
}

/// A bucket reaches 9 % further than the one before: coarser than every precision, so that none is split.
const SCALE: i32 = 3;

impl FineBuckets {
    pub(super) fn new(counters: &Counters, measure: Measure) -> Self {
        let mut this = Self { scale: SCALE, ..Self::default() };
        let indices = indices(counters.precision(), measure);
        for (bucket, count) in counters.totals().buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let Some(index) = indices[bucket] else {
                this.zero_count = *count;
                continue;
            };
            if this.counts.is_empty() {
                this.offset = index;
            }
            let at = (index - this.offset) as usize;
            if this.counts.len() <= at {
                this.counts.resize(at + 1, 0);
            }
            this.counts[at] += count;
        }
        this
    }

    /// Adds what others of the same scale hold.
    pub(super) fn merge(&mut self, other: &Self) {
        self.zero_count += other.zero_count;
        if other.counts.is_empty() {
            return;
        }
        if self.counts.is_empty() {
            self.offset = other.offset;
        }
        let offset = self.offset.min(other.offset);
        let (before, at) = ((self.offset - offset) as usize, (other.offset - offset) as usize);
        self.offset = offset;
        self.counts.splice(0..0, std::iter::repeat_n(0, before));
        self.counts.resize(self.counts.len().max(at + other.counts.len()), 0);
        self.counts[at..].iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.zero_count + self.counts.iter().sum::<u64>()
    }
}

/// The index for each log-linear bucket, `None` for zero. Made once: a scrape would take thousands of logarithms.
fn indices(precision: Precision, measure: Measure) -> &'static [Option<i32>] {
    type Made = OnceLock<Box<[Option<i32>]>>;
    static INDICES: [[Made; 16]; 2] = [const { [const { OnceLock::new() }; 16] }; 2];

    let bits = precision.parts().trailing_zeros() as usize;
    INDICES[measure as usize][bits].get_or_init(|| {
        let index = |bucket| match precision.highest(bucket) {
            0 => None,
            highest => Some(index_of(measure.of_window(highest))),
        };
        (0..precision.buckets()).map(index).collect()
    })
}

fn index_of(value: f64) -> i32 {
    (value.log2() * f64::from(1 << SCALE)).ceil() as i32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;

    #[test]
    fn every_value_lies_in_the_bucket_whose_bounds_hold_the_upper_end_of_its_own() {
        let counters = Counters::new(Precision::DEFAULT);
        let values = [0, 1, 2, 999, 1000, 50_000, 1_000_000, 60_000_000];
        values.iter().for_each(|micros| counters.record(Shard::mine(), *micros));
        let fine = FineBuckets::new(&counters, Measure::Time);
        assert_eq!((fine.count(), fine.zero_count), (8, 1));
        let base = 2_f64.powf(2_f64.powi(-fine.scale));
        for micros in &values[1..] {
            let seconds = *micros as f64 * 1e-6;
            let held = fine.counts.iter().enumerate().any(|(at, count)| {
                let index = fine.offset + at as i32;
                let (above, up_to) = (base.powi(index), base.powi(index + 1));
                *count > 0 && seconds > above / (1.0 + Precision::DEFAULT.error()) && seconds <= up_to * (1.0 + 1e-9)
            });
            assert!(held, "{micros} µs in {fine:?}");
        }
    }

    #[test]
    fn merging_two_is_counting_both() {
        let values: [&[u64]; 4] = [&[], &[0, 7, 7], &[1000, 2000], &[500, 1_000_000]];
        let counted = |values: &[u64]| {
            let counters = Counters::new(Precision::DEFAULT);
            values.iter().for_each(|value| counters.record(Shard::mine(), *value));
            FineBuckets::new(&counters, Measure::Time)
        };
        for (one, other) in values.iter().flat_map(|one| values.map(|other| (*one, other))) {
            let mut merged = counted(one);
            merged.merge(&counted(other));
            assert_eq!(merged, counted(&[one, other].concat()));
        }
    }
}
