//! How many spans were started, and what the sampler said to each.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::context::Context;
use crate::shard::{Shard, Sharded};

/// `otel.span.sampling_result`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SamplingResult {
    Drop,
    /// Not sampled, but recorded for a late decision.
    RecordOnly,
    RecordAndSample,
}

const RESULTS: [&str; 3] = ["DROP", "RECORD_ONLY", "RECORD_AND_SAMPLE"];

/// `otel.span.parent.origin`
const ORIGINS: [&str; 3] = ["none", "local", "remote"];

/// A copy for each thread: this is counted of every request, most of which nobody records.
pub(super) struct Started(Sharded<Cells>);

#[derive(Default)]
struct Cells {
    started: [[AtomicU64; RESULTS.len()]; ORIGINS.len()],
    rate_limited: AtomicU64,
    kept_late: AtomicU64,
}

impl Started {
    pub(super) fn new() -> Self {
        Self(Sharded::new())
    }

    /// A span has been started, by the trace it is in.
    pub(super) fn count(&self, context: &Context, result: SamplingResult) {
        let origin = match context.parent_span_id() {
            None => 0,
            Some(_) if context.origin().remote_parent => 2,
            Some(_) => 1,
        };
        self.add(|cells| &cells.started[origin][result as usize]);
    }

    #[cold]
    pub(super) fn count_rate_limited(&self) {
        self.add(|cells| &cells.rate_limited);
    }

    #[cold]
    pub(super) fn count_kept_late(&self) {
        self.add(|cells| &cells.kept_late);
    }

    pub(super) fn rate_limited(&self) -> u64 {
        self.sum(|cells| &cells.rate_limited)
    }

    pub(super) fn kept_late(&self) -> u64 {
        self.sum(|cells| &cells.kept_late)
    }

    /// Origin of the parent, result and count, where there is one.
    #[cfg(feature = "telemetry")]
    pub(super) fn by_result(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = (0..ORIGINS.len()).flat_map(|origin| (0..RESULTS.len()).map(move |result| (origin, result)));
        all.map(|(origin, result)| (ORIGINS[origin], RESULTS[result], self.sum(|cells| &cells.started[origin][result])))
            .filter(|(_, _, count)| *count > 0)
    }

    fn add(&self, cell: impl FnOnce(&Cells) -> &AtomicU64) {
        let shard = Shard::mine();
        shard.add(cell(self.0.of(shard, Cells::default)), 1);
    }

    fn sum(&self, cell: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.0.iter().map(|cells| cell(cells).load(Ordering::Acquire)).sum()
    }
}
