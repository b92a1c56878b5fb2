use std::time::Duration;

use hdrhistogram::Histogram;

use super::layout::{LARGEST, Precision};

/// What was recorded: read from a [`SlidingWindow`](super::SlidingWindow).
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    precision: Precision,
    /// How many values lie in each bucket or below it.
    up_to: Vec<u64>,
    count: u64,
    sum: u64,
    errors: u64,
    covers: Duration,
}

impl Distribution {
    pub(crate) fn new(precision: Precision, mut buckets: Vec<u64>, sum: u64, errors: u64, covers: Duration) -> Self {
        let mut count = 0;
        for bucket in &mut buckets {
            count += *bucket;
            *bucket = count;
        }
        // Whose bucket was not yet counted when this was read.
        let errors = errors.min(count);
        Self { precision, up_to: buckets, count, sum, errors, covers }
    }

    /// Adds what another window of the same precision tells. Nothing happens when the precisions differ.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.precision != other.precision {
            return;
        }
        let longer = self.up_to.len().max(other.up_to.len());
        self.up_to.resize(longer, self.count);
        let others = other.up_to.iter().copied().chain(std::iter::repeat(other.count));
        self.up_to.iter_mut().zip(others).for_each(|(own, others)| *own += others);
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.errors += other.errors;
        self.covers = self.covers.max(other.covers);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many of them were errors.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The errors among them, 0 to 1; 0 when there is nothing.
    pub fn error_ratio(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.errors as f64 / self.count as f64 }
    }

    /// How many a second.
    pub fn rate(&self) -> f64 {
        if self.covers.is_zero() { 0.0 } else { self.count as f64 / self.covers.as_secs_f64() }
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
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The value that this part of all values does not exceed, 0 to 1: the upper end of its bucket, as with HdrHistogram.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((quantile.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count);
        Some(self.precision.highest(self.up_to.partition_point(|up_to| *up_to < rank)))
    }

    /// The largest value: the upper end of its bucket.
    pub fn max(&self) -> Option<u64> {
        self.quantile(1.0)
    }

    /// Apdex: the satisfied (up to `target`) and half of the tolerating (up to four times that), as a part of all. Errors
    /// count as frustrated. (Application Performance Index, specification 1.1.)
    pub fn apdex(&self, target: u64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let up_to = |value| self.up_to.get(self.precision.index(value)).copied().unwrap_or(self.count);
        let (satisfied, tolerating) = (up_to(target), up_to(target.saturating_mul(4)));
        let score = (satisfied as f64 + tolerating as f64) / 2.0;
        // Which of them failed is not known: they are taken for the fast ones, which makes the index rather too low.
        Some(((score - self.errors as f64) / self.count as f64).max(0.0))
    }

    /// Upper end and count of each bucket that is not empty, lowest first.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.up_to.iter().scan(0, |before, up_to| Some(up_to - std::mem::replace(before, *up_to)));
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
