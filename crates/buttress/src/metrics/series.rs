//! The numbers of one series, by kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::buckets::Buckets;
use super::exemplar::{Exemplar, Exemplars};
use super::fine::FineBuckets;
use super::measure::Measure;
use crate::clock;
use crate::context::{self, TraceContext};
use crate::shard::{Own, Shard, Sharded};
use crate::window::{Counters, Precision, SlidingWindow};

/// A sum over all threads.
pub(super) struct Sum(Sharded<AtomicU64>);

impl Sum {
    pub(super) fn new() -> Self {
        Self(Sharded::new())
    }

    pub(super) fn add(&self, shard: Shard, value: u64) {
        shard.add(self.0.of(shard, AtomicU64::default), value);
    }

    /// For totals that are counted elsewhere; they never go back.
    pub(super) fn advance_to(&self, total: u64) {
        self.0.of(Shard::SHARED, AtomicU64::default).fetch_max(total, Ordering::Release);
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, word| total.wrapping_add(word.load(Ordering::Acquire)))
    }
}

/// Exact buckets and sum, exemplars once a trace was sampled, and a window if there is one; beside the buckets of each
/// thread whatever else is counted when something is recorded.
pub(super) struct HistogramSeries<T = ()> {
    buckets: Buckets,
    cells: Sharded<Cells<T>>,
    exemplars: OnceLock<Exemplars>,
    fine: Option<Counters>,
    window: Option<Arc<SlidingWindow>>,
}

/// The sum, and then the counts: with up to 15 buckets all of it is two cache lines.
struct Cells<T> {
    first: [AtomicU64; 16],
    tail: T,
    more: Box<[AtomicU64]>,
}

/// Where this thread counts.
pub(super) struct Found<'a, T> {
    own: Own,
    buckets: &'a Buckets,
    cells: &'a Cells<T>,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistogramPoint {
    /// The upper bounds, in the unit of the metric; one bucket more holds what is above.
    pub bounds: Arc<[f64]>,
    /// How many values lie in each bucket and in no lower one.
    pub counts: Vec<u64>,
    /// Of all values, in the unit of the metric.
    pub sum: f64,
    /// For each bucket a trace that fell into it lately.
    pub exemplars: Vec<Option<Exemplar>>,
    /// The same values in finer buckets, for native and exponential histograms; with
    /// [`MetricsConfig::native_histograms`](super::MetricsConfig::native_histograms).
    pub fine: Option<FineBuckets>,
}

impl HistogramPoint {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds what a series of the same buckets holds. Of two exemplars the later one stays.
    pub(super) fn merge(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
        let when = |exemplar: &Option<Exemplar>| exemplar.map(|exemplar| exemplar.unix_nanos);
        for (kept, exemplar) in self.exemplars.iter_mut().zip(other.exemplars) {
            if when(&exemplar) > when(kept) {
                *kept = exemplar;
            }
        }
        if let (Some(fine), Some(more)) = (&mut self.fine, other.fine) {
            fine.merge(&more);
        }
    }
}

impl<T: Default> HistogramSeries<T> {
    pub(super) fn new(buckets: Buckets, native: Option<Precision>, window: Option<Arc<SlidingWindow>>) -> Self {
        let fine = native.map(Counters::new);
        Self { buckets, cells: Sharded::new(), exemplars: OnceLock::new(), fine, window }
    }

    /// In the numbers of the buckets. With the exemplar that the caller has at hand.
    #[inline]
    pub(super) fn record(
        &self,
        shard: Shard,
        value: u64,
        measure: Measure,
        exemplar: Option<(&TraceContext, u64)>,
    ) -> &T {
        match shard.own().and_then(|own| self.find(own)) {
            Some(found) if exemplar.is_none() => found.count(value),
            _ => self.record_more(shard, value, measure, exemplar),
        }
    }

    /// Where this thread counts, if it has recorded before and there is nothing to count besides.
    #[inline]
    pub(super) fn find(&self, own: Own) -> Option<Found<'_, T>> {
        if self.fine.is_some() {
            return None;
        }
        Some(Found { own, buckets: &self.buckets, cells: self.cells.own(own)? })
    }

    #[inline(never)]
    fn record_more(&self, shard: Shard, value: u64, measure: Measure, exemplar: Option<(&TraceContext, u64)>) -> &T {
        let bucket = self.buckets.index(value);
        let cells = self.cells.of(shard, || Cells::new(&self.buckets));
        shard.add(cells.sum(), value);
        shard.add(cells.count(bucket), 1);
        if let Some(fine) = &self.fine {
            fine.record(shard, measure.in_window(value));
        }
        if let Some((trace, unix_nanos)) = exemplar {
            self.offer(bucket, value, trace, unix_nanos);
        }
        &cells.tail
    }

    /// What is counted beside, of this shard.
    pub(super) fn tail(&self, shard: Shard) -> &T {
        &self.cells.of(shard, || Cells::new(&self.buckets)).tail
    }

    pub(super) fn tails(&self) -> impl Iterator<Item = &T> {
        self.cells.iter().map(|cells| &cells.tail)
    }

    #[inline(never)]
    fn offer(&self, bucket: usize, value: u64, trace: &TraceContext, unix_nanos: u64) {
        let exemplars = self.exemplars.get_or_init(|| Exemplars::new(self.buckets.bounds().len() + 1));
        exemplars.offer(bucket, value, trace, unix_nanos);
    }

    /// With an exemplar of the current trace, if it is sampled, and into the window as well.
    pub(super) fn record_here(&self, value: u64, measure: Measure) {
        let shard = Shard::mine();
        match context::sampled_trace() {
            Some(trace) => self.record(shard, value, measure, Some((&trace, clock::unix_nanos(clock::now())))),
            None => self.record(shard, value, measure, None),
        };
        if let Some(window) = &self.window {
            window.count(shard, measure.in_window(value), false);
        }
    }

    /// The same value so many times, without an exemplar, and into the window as well.
    pub(super) fn record_many(&self, value: u64, times: u64, measure: Measure) {
        let shard = Shard::mine();
        let cells = self.cells.of(shard, || Cells::new(&self.buckets));
        shard.add(cells.sum(), value.wrapping_mul(times));
        shard.add(cells.count(self.buckets.index(value)), times);
        let value = measure.in_window(value);
        if let Some(fine) = &self.fine {
            fine.record_many(shard, value, times);
        }
        if let Some(window) = &self.window {
            window.count_many(shard, value, times);
        }
    }

    pub(super) fn point(&self, bounds: &Arc<[f64]>, measure: Measure) -> HistogramPoint {
        let mut counts = vec![0; self.buckets.bounds().len() + 1];
        for cells in self.cells.iter() {
            let cells = (0..).map(|bucket| cells.count(bucket));
            counts.iter_mut().zip(cells).for_each(|(count, cell)| *count += cell.load(Ordering::Acquire));
        }
        // After the counts, so that a value that is counted is in the sum.
        let sum = self.cells.iter().fold(0_u64, |sum, cells| sum.wrapping_add(cells.sum().load(Ordering::Acquire)));
        let exemplar = |bucket| self.exemplars.get()?.read(bucket, measure);
        let exemplars = (0..counts.len()).map(exemplar).collect();
        let fine = self.fine.as_ref().map(|fine| FineBuckets::new(fine, measure));
        HistogramPoint { bounds: Arc::clone(bounds), counts, sum: measure.in_unit(sum), exemplars, fine }
    }

    pub(super) fn window(&self) -> Option<&Arc<SlidingWindow>> {
        self.window.as_ref()
    }
}

impl<'a, T: Default> Found<'a, T> {
    /// Counts it, and answers with what is counted beside.
    #[inline]
    pub(super) fn count(self, value: u64) -> &'a T {
        self.own.add(self.cells.sum(), value);
        self.own.add(self.cells.count(self.buckets.index(value)), 1);
        &self.cells.tail
    }
}

impl<T: Default> Cells<T> {
    fn new(buckets: &Buckets) -> Self {
        let words = buckets.bounds().len() + 2;
        let more = (16..words).map(|_| AtomicU64::new(0)).collect();
        Self { first: Default::default(), tail: T::default(), more }
    }

    fn sum(&self) -> &AtomicU64 {
        &self.first[0]
    }

    fn count(&self, bucket: usize) -> &AtomicU64 {
        match self.first.get(bucket + 1) {
            Some(count) => count,
            None => &self.more[bucket + 1 - self.first.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{SpanId, TraceId};

    #[test]
    fn merging_adds_up_and_keeps_the_later_exemplar_of_each_bucket() {
        let exemplar = |nth: u8| Exemplar {
            trace_id: TraceId::from_bytes([nth; 16]).unwrap(),
            span_id: SpanId::from_bytes([nth; 8]).unwrap(),
            value: nth.into(),
            unix_nanos: nth.into(),
        };
        let point = |counts: [u64; 3], sum, exemplars: [Option<u8>; 3]| HistogramPoint {
            bounds: Arc::new([1.0, 2.0]),
            counts: counts.to_vec(),
            sum,
            exemplars: exemplars.map(|nth| nth.map(exemplar)).to_vec(),
            fine: None,
        };
        let mut merged = point([1, 0, 2], 5.5, [Some(1), Some(4), None]);
        merged.merge(point([3, 4, 0], 7.0, [Some(2), Some(3), Some(5)]));
        assert_eq!(merged, point([4, 4, 2], 12.5, [Some(2), Some(4), Some(5)]));
    }
}
