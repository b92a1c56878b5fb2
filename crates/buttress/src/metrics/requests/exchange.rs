//! What the end of a request is recorded into: one look-up, then adding.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::buckets::nanos;
use super::super::config::MetricsConfig;
use super::super::labels::Label;
use super::super::measure::Measure;
use super::super::series::HistogramSeries;
use crate::classify::{Ending, Outcome};
use crate::context::TraceContext;
use crate::observe::End;
use crate::shard::{Shard, Sharded};
use crate::window::SlidingWindow;

/// Of requests that agree in every label.
pub(in crate::metrics) struct ExchangeSeries {
    pub(super) labels: Arc<[Label]>,
    pub(super) duration: HistogramSeries,
    pub(super) body_size: HistogramSeries,
    pub(super) by_method: Arc<MethodSeries>,
    /// That of the method; here too, because every request goes there.
    pub(super) route: Arc<RouteSeries>,
}

/// Of requests that agree in method, route and host.
pub(super) struct MethodSeries {
    pub(super) labels: Arc<[Label]>,
    pub(super) first_byte: HistogramSeries,
    pub(super) body: HistogramSeries,
    pub(super) route: Arc<RouteSeries>,
}

/// Of requests' bodies, which end before anybody knows the status.
pub(super) struct RequestBodySeries {
    pub(super) labels: Arc<[Label]>,
    pub(super) size: HistogramSeries,
}

/// Of requests that agree in their route.
pub(in crate::metrics) struct RouteSeries {
    /// `None` for requests that no route matched.
    pub(in crate::metrics) template: Option<Arc<str>>,
    pub(in crate::metrics) is_grpc: bool,
    pub(in crate::metrics) window: Arc<SlidingWindow>,
    endings: Sharded<Endings>,
}

/// How requests ended, and what that meant.
pub(super) const ENDINGS: [Ending; 7] = [
    Ending::Complete,
    Ending::Failed,
    Ending::BodyFailed,
    Ending::DroppedBeforeHead,
    Ending::DroppedInBody,
    Ending::Upgraded,
    Ending::Panicked,
];
pub(super) const OUTCOMES: [Outcome; 4] = [Outcome::Ok, Outcome::Error, Outcome::Cancelled, Outcome::Panicked];

#[derive(Default)]
struct Endings([[AtomicU64; OUTCOMES.len()]; ENDINGS.len()]);

impl ExchangeSeries {
    pub(super) fn new(labels: Arc<[Label]>, by_method: Arc<MethodSeries>, config: &MetricsConfig) -> Self {
        let native = config.native_precision();
        Self {
            labels,
            duration: HistogramSeries::new(config.duration_buckets.clone(), native, None),
            body_size: HistogramSeries::new(config.size_buckets.clone(), None, None),
            route: Arc::clone(&by_method.route),
            by_method,
        }
    }

    pub(super) fn record(
        &self,
        shard: Shard,
        took: Duration,
        exemplar: Option<(&TraceContext, u64)>,
        outcome: Outcome,
    ) {
        let took = nanos(took);
        self.duration.record(shard, took, Measure::Time, exemplar);
        self.route.window.count(shard, took / 1000, outcome.is_error());
    }

    /// What came after the head, if there was one.
    pub(super) fn record_body(&self, shard: Shard, end: &End<'_>) {
        let Some(head_at) = end.exchange.head_at else {
            return;
        };
        let first_byte = nanos(head_at.saturating_duration_since(end.exchange.started));
        self.by_method.first_byte.record(shard, first_byte, Measure::Time, None);
        self.body_size.record(shard, end.body_bytes, Measure::Plain, None);
        if end.at > head_at {
            self.by_method.body.record(shard, nanos(end.at - head_at), Measure::Time, None);
        }
    }
}

impl RequestBodySeries {
    pub(super) fn new(labels: Arc<[Label]>, config: &MetricsConfig) -> Self {
        Self { labels, size: HistogramSeries::new(config.size_buckets.clone(), None, None) }
    }
}

impl MethodSeries {
    pub(super) fn new(labels: Arc<[Label]>, route: Arc<RouteSeries>, config: &MetricsConfig) -> Self {
        let durations = || HistogramSeries::new(config.duration_buckets.clone(), None, None);
        Self { labels, first_byte: durations(), body: durations(), route }
    }
}

impl RouteSeries {
    pub(super) fn new(template: Option<Arc<str>>, is_grpc: bool, window: Arc<SlidingWindow>) -> Self {
        Self { template, is_grpc, window, endings: Sharded::new() }
    }

    pub(super) fn count(&self, shard: Shard, ending: Ending, outcome: Outcome) {
        let endings = self.endings.of(shard, Endings::default);
        shard.add(&endings.0[ending as usize][outcome as usize], 1);
    }

    /// Every ending that came about, with how often.
    pub(in crate::metrics) fn endings(&self) -> impl Iterator<Item = (Ending, Outcome, u64)> {
        let all = ENDINGS.into_iter().flat_map(|ending| OUTCOMES.map(|outcome| (ending, outcome)));
        let count = |ending: Ending, outcome: Outcome| -> u64 {
            let cells = self.endings.iter().map(|endings| &endings.0[ending as usize][outcome as usize]);
            cells.map(|cell| cell.load(Ordering::Acquire)).sum()
        };
        all.map(move |(ending, outcome)| (ending, outcome, count(ending, outcome))).filter(|(_, _, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_and_outcome_has_the_cell_of_its_own_number() {
        for (at, ending) in ENDINGS.into_iter().enumerate() {
            assert_eq!(ending as usize, at);
        }
        for (at, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
    }
}
