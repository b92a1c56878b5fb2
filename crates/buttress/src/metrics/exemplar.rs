//! For each bucket a trace that fell into it lately, written and read without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::context::{SpanId, TraceContext, TraceId};

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
#[derive(Default)]
struct Slot {
    sequence: AtomicU64,
    trace_high: AtomicU64,
    trace_low: AtomicU64,
    span: AtomicU64,
    value: AtomicU64,
    unix_nanos: AtomicU64,
}

impl Exemplars {
    pub(super) fn new(buckets: usize) -> Self {
        Self((0..buckets).map(|_| Slot::default()).collect())
    }

    /// Keeps this one when the bucket's is old.
    pub(super) fn offer(&self, bucket: usize, value: u64, trace: &TraceContext, unix_nanos: u64) {
        let slot = &self.0[bucket];
        if unix_nanos.saturating_sub(slot.unix_nanos.load(Ordering::Relaxed)) >= RENEWED_AFTER_NANOS {
            slot.write(value, trace, unix_nanos);
        }
    }

    /// The bucket's, when there is one that nobody is writing right now. `scale` makes the value of the recorded number.
    pub(super) fn read(&self, bucket: usize, scale: f64) -> Option<Exemplar> {
        self.0[bucket].read(scale)
    }
}

impl Slot {
    fn write(&self, value: u64, trace: &TraceContext, unix_nanos: u64) {
        let before = self.sequence.load(Ordering::Relaxed);
        let is_free = before.is_multiple_of(2);
        let take = || self.sequence.compare_exchange(before, before + 1, Ordering::Acquire, Ordering::Relaxed);
        if !is_free || take().is_err() {
            return;
        }
        // A reader that sees a word below sees the odd sequence too.
        std::sync::atomic::fence(Ordering::Release);
        let id = u128::from_be_bytes(trace.trace_id.to_bytes());
        self.trace_high.store((id >> 64) as u64, Ordering::Relaxed);
        self.trace_low.store(id as u64, Ordering::Relaxed);
        self.span.store(u64::from_be_bytes(trace.span_id.to_bytes()), Ordering::Relaxed);
        self.value.store(value, Ordering::Relaxed);
        self.unix_nanos.store(unix_nanos, Ordering::Relaxed);
        self.sequence.store(before + 2, Ordering::Release);
    }

    fn read(&self, scale: f64) -> Option<Exemplar> {
        let before = self.sequence.load(Ordering::Acquire);
        let high = u128::from(self.trace_high.load(Ordering::Relaxed));
        let low = u128::from(self.trace_low.load(Ordering::Relaxed));
        let span = self.span.load(Ordering::Relaxed);
        let value = self.value.load(Ordering::Relaxed);
        let unix_nanos = self.unix_nanos.load(Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::Acquire);
        if !before.is_multiple_of(2) || self.sequence.load(Ordering::Relaxed) != before {
            return None;
        }
        Some(Exemplar {
            // Ids that are zero are none: nobody has written yet.
            trace_id: TraceId::from_bytes((high << 64 | low).to_be_bytes())?,
            span_id: SpanId::from_bytes(span.to_be_bytes())?,
            value: value as f64 * scale,
            unix_nanos,
        })
    }
}
