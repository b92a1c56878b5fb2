use std::time::Duration;

use hdrhistogram::Histogram;

use super::counters::Totals;
use super::layout::{LARGEST, Precision};

/// What was recorded: read from a [`SlidingWindow`](super::SlidingWindow).
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    precision: Precision,
    /// How many values lie in each bucket or below it.
    up_to: UpTo,
    /// The errors among them.
    errors: UpTo,
    sum: u64,
    covers: Duration,
}

/// Counts of each bucket and of all below it.
#[derive(Clone, Debug, PartialEq)]
struct UpTo(Vec<u64>);

impl UpTo {
    fn of(mut buckets: Vec<u64>) -> Self {
        let mut count = 0;
        for bucket in &mut buckets {
            count += *bucket;
            *bucket = count;
        }
        Self(buckets)
    }

    fn all(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    fn at(&self, bucket: usize) -> u64 {
        self.0.get(bucket).copied().unwrap_or_else(|| self.all())
    }

    fn merge(&mut self, other: &Self) {
        let longer = self.0.len().max(other.0.len());
        let all = self.all();
        self.0.resize(longer, all);
        self.0.iter_mut().enumerate().for_each(|(bucket, own)| *own += other.at(bucket));
    }
}

impl Distribution {
    pub(crate) fn new(precision: Precision, Totals { sum, buckets, errors }: Totals, covers: Duration) -> Self {
        Self { precision, up_to: UpTo::of(buckets), errors: UpTo::of(errors), sum, covers }
    }

    /// Adds what another window of the same precision tells. Nothing happens when the precisions differ.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.precision != other.precision {
            return;
        }
        self.up_to.merge(&other.up_to);
        self.errors.merge(&other.errors);
        self.sum = self.sum.wrapping_add(other.sum);
        self.covers = self.covers.max(other.covers);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.up_to.all()
    }

    /// How many of them were errors.
    pub fn errors(&self) -> u64 {
        // Of some the value was not yet counted when this was read.
        self.errors.all().min(self.count())
    }

    /// The errors among them, 0 to 1; 0 when there is nothing.
    pub fn error_ratio(&self) -> f64 {
        if self.count() == 0 { 0.0 } else { self.errors() as f64 / self.count() as f64 }
    }

    /// How many a second.
    pub fn rate(&self) -> f64 {
        if self.covers.is_zero() { 0.0 } else { self.count() as f64 / self.covers.as_secs_f64() }
    }

    /// How much time it tells of: the window, or less when it is younger; a tick more when the oldest tick is half out.
    pub fn covers(&self) -> Duration {
        self.covers
    }

    /// The sum of all values, exact.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean of all values, exact.
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum as f64 / self.count() as f64)
    }

    /// The value that this part of all values does not exceed, 0 to 1: the upper end of its bucket, as with HdrHistogram.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        Some(self.precision.highest(self.up_to.0.partition_point(|up_to| *up_to < rank)))
    }

    /// The largest value: the upper end of its bucket.
    pub fn max(&self) -> Option<u64> {
        self.quantile(1.0)
    }

    /// Apdex: the satisfied (up to `target`) and half of the tolerating (up to four times that), as a part of all. Errors
    /// count as frustrated. (Application Performance Index, specification 1.1.)
    pub fn apdex(&self, target: u64) -> Option<f64> {
        let without_error = |value| {
            let bucket = self.precision.index(value);
            self.up_to.at(bucket).saturating_sub(self.errors.at(bucket)) as f64
        };
        // Who is satisfied is among those up to four times the target as well.
        let score = (without_error(target) + without_error(target.saturating_mul(4))) / 2.0;
        (self.count() > 0).then(|| score / self.count() as f64)
    }

    /// Upper end and count of each bucket that is not empty, lowest first.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.up_to.0.iter().scan(0, |before, up_to| Some(up_to - std::mem::replace(before, *up_to)));
        let filled = counts.enumerate().filter(|(_, count)| *count > 0);
        filled.map(|(index, count)| (self.precision.highest(index), count))
    }

    /// How finely values are told apart.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// As an HdrHistogram, to be merged with those of other instances, serialised, or iterated. It gives the same
    /// quantiles.
    ///
    /// ```
    /// use buttress::window::{Precision, SlidingWindow, Span};
    ///
    /// let window = SlidingWindow::new(Span::default(), Precision::DEFAULT);
    /// (1..=100).for_each(|value| window.record(value * 1000));
    /// let seen = window.read(tokio::time::Instant::now());
    /// assert_eq!(seen.histogram().value_at_quantile(0.5), seen.quantile(0.5).unwrap());
    /// ```
    pub fn histogram(&self) -> Histogram<u64> {
        let digits = match self.precision.parts() {
            0..=16 => 1,
            17..=128 => 2,
            _ => 3,
        };
        let mut histogram =
            Histogram::new_with_bounds(1, LARGEST, digits).expect("the bounds and digits are accepted ones");
        for (value, count) in self.buckets() {
            histogram.record_n(value, count).expect("no bucket is above the bound");
        }
        histogram
    }

    /// As an HdrHistogram in its own form, V2 with DEFLATE, in base64: what its tools read, and other instances merge.
    #[cfg(feature = "hdr-v2")]
    pub fn to_hdr_v2(&self) -> String {
        use base64::Engine;
        use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

        let mut packed = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.histogram(), &mut packed);
        written.expect("memory takes what is written to it, and the counts are the histogram's own");
        base64::engine::general_purpose::STANDARD.encode(packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::window::{SlidingWindow, Span};

    #[test]
    fn merging_tells_of_both_whichever_comes_first() {
        let [fast, slow] = [[1, 2], [5000, 70_000]].map(|[value, error]| {
            let window = SlidingWindow::new(Span::default(), Precision::THREE_DIGITS);
            window.record(value);
            window.record_error(error);
            window.read(clock::now())
        });
        for (one, other) in [(&fast, &slow), (&slow, &fast)] {
            let mut both = one.clone();
            both.merge(other);
            assert_eq!((both.count(), both.errors(), both.sum()), (4, 2, 75_003));
            assert_eq!((both.quantile(0.5), both.quantile(0.75)), (Some(2), slow.quantile(0.5)));
            assert_eq!((both.max(), both.covers()), (slow.max(), fast.covers().max(slow.covers())));
        }
    }
}
