//! For each bucket a trace that fell into it lately, written and read without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::measure::Measure;
use crate::context::{SpanId, TraceContext, TraceId};
use crate::shard::Word;

/// No bucket's exemplar is renewed sooner.
const RENEWED_AFTER_NANOS: u64 = 1_000_000_000;

/// A value, and the trace in which it was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exemplar {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// In the unit of the metric.
    pub value: f64,
    /// When.
    pub unix_nanos: u64,
}

/// One for each bucket.
pub(super) struct Exemplars(Box<[Slot]>);

/// A sequence lock: odd while somebody writes. A writer that finds another one leaves.
struct Slot<W = AtomicU64> {
    sequence: W,
    trace_high: W,
    trace_low: W,
    span: W,
    value: W,
    unix_nanos: W,
}

impl Exemplars {
    pub(super) fn new(buckets: usize) -> Self {
        Self((0..buckets).map(|_| Slot::new()).collect())
    }

    /// Keeps this one when the bucket's is old.
    pub(super) fn offer(&self, bucket: usize, value: u64, trace: &TraceContext, unix_nanos: u64) {
        self.0[bucket].offer(value, trace, unix_nanos);
    }

    /// The bucket's, when there is one that nobody is writing right now.
    pub(super) fn read(&self, bucket: usize, measure: Measure) -> Option<Exemplar> {
        self.0[bucket].read(measure)
    }
}

impl<W: Word> Slot<W> {
    fn new() -> Self {
        Self {
            sequence: W::zero(),
            trace_high: W::zero(),
            trace_low: W::zero(),
            span: W::zero(),
            value: W::zero(),
            unix_nanos: W::zero(),
        }
    }

    fn offer(&self, value: u64, trace: &TraceContext, unix_nanos: u64) {
        // First the sequence: whoever renews it after its age was looked at has moved that on.
        let before = self.sequence.load(Ordering::Acquire);
        let age = unix_nanos.saturating_sub(self.unix_nanos.load(Ordering::Relaxed));
        let is_free = before.is_multiple_of(2) && age >= RENEWED_AFTER_NANOS;
        if !is_free || !self.sequence.replace(before, before + 1) {
            return;
        }
        // A reader that sees a word below sees the odd sequence too.
        W::fence(Ordering::Release);
        let id = u128::from_be_bytes(trace.trace_id.to_bytes());
        self.trace_high.store((id >> 64) as u64, Ordering::Relaxed);
        self.trace_low.store(id as u64, Ordering::Relaxed);
        self.span.store(u64::from_be_bytes(trace.span_id.to_bytes()), Ordering::Relaxed);
        self.value.store(value, Ordering::Relaxed);
        self.unix_nanos.store(unix_nanos, Ordering::Relaxed);
        self.sequence.store(before + 2, Ordering::Release);
    }

    fn read(&self, measure: Measure) -> Option<Exemplar> {
        let before = self.sequence.load(Ordering::Acquire);
        let high = u128::from(self.trace_high.load(Ordering::Relaxed));
        let low = u128::from(self.trace_low.load(Ordering::Relaxed));
        let span = self.span.load(Ordering::Relaxed);
        let value = self.value.load(Ordering::Relaxed);
        let unix_nanos = self.unix_nanos.load(Ordering::Relaxed);
        W::fence(Ordering::Acquire);
        if !before.is_multiple_of(2) || self.sequence.load(Ordering::Relaxed) != before {
            return None;
        }
        Some(Exemplar {
            // Ids that are zero are none: nobody has written yet.
            trace_id: TraceId::from_bytes((high << 64 | low).to_be_bytes())?,
            span_id: SpanId::from_bytes(span.to_be_bytes())?,
            value: measure.in_unit(value),
            unix_nanos,
        })
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::shard::model::check;

    fn trace(nth: u128) -> TraceContext {
        let id = nth << 64 | nth;
        let mut trace = TraceContext::random();
        trace.trace_id = TraceId::from_bytes(id.to_be_bytes()).unwrap();
        trace.span_id = SpanId::from_bytes((nth as u64).to_be_bytes()).unwrap();
        trace
    }

    #[test]
    fn a_bucket_has_a_new_exemplar_as_soon_as_its_own_is_a_second_old() {
        let exemplars = Exemplars::new(2);
        let kept = |unix_nanos, nth: u128| {
            exemplars.offer(1, nth as u64, &trace(nth), unix_nanos);
            let seen = exemplars.read(1, Measure::Plain).expect("one was offered");
            (seen.trace_id, seen.value, seen.unix_nanos)
        };
        let is = |unix_nanos, nth: u128| (trace(nth).trace_id, nth as f64, unix_nanos);
        assert_eq!(kept(5_000_000_000, 1), is(5_000_000_000, 1));
        assert_eq!(kept(5_999_999_999, 2), is(5_000_000_000, 1));
        assert_eq!(kept(6_000_000_000, 3), is(6_000_000_000, 3));
        assert_eq!(exemplars.read(0, Measure::Plain), None);
    }

    #[test]
    fn a_reader_sees_one_exemplar_whole_or_none() {
        check(|| {
            let slot = Arc::new(Slot::<loom::sync::atomic::AtomicU64>::new());
            let writers: Vec<_> = [1, 2]
                .into_iter()
                .map(|nth| {
                    let slot = Arc::clone(&slot);
                    thread::spawn(move || slot.offer(nth as u64, &trace(nth), nth as u64 * RENEWED_AFTER_NANOS))
                })
                .collect();
            if let Some(seen) = slot.read(Measure::Plain) {
                let nth = seen.unix_nanos / RENEWED_AFTER_NANOS;
                let whole = trace(nth.into());
                assert_eq!((seen.trace_id, seen.span_id), (whole.trace_id, whole.span_id));
                assert_eq!(seen.value, nth as f64);
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert!(slot.read(Measure::Plain).is_some());
        });
    }

    #[test]
    fn of_two_in_the_same_second_one_is_kept_whoever_comes_first() {
        check(|| {
            let slot = Arc::new(Slot::<loom::sync::atomic::AtomicU64>::new());
            let other = thread::spawn({
                let slot = Arc::clone(&slot);
                move || slot.offer(1, &trace(1), RENEWED_AFTER_NANOS)
            });
            slot.offer(2, &trace(2), RENEWED_AFTER_NANOS + 1);
            other.join().unwrap();
            // Each writer moves the sequence on by two.
            assert_eq!(slot.sequence.load(Ordering::Acquire), 2);
        });
    }
}
