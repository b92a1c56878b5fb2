//! What the end of a request is recorded into: one look-up, then adding.

use std::sync::Arc;

use super::super::buckets::nanos;
use super::super::config::MetricsConfig;
use super::super::labels::Label;
use super::super::measure::Measure;
use super::super::series::HistogramSeries;
use super::Beginning;
use super::ended::Endings;
use crate::classify::{Ending, Outcome};
use crate::context::TraceContext;
use crate::observe::{End, Exchange};
use crate::shard::{Own, Shard};
use crate::window::SlidingWindow;

/// Of requests that agree in every label.
pub(in crate::metrics) struct ExchangeSeries {
    pub(super) labels: Arc<[Label]>,
    /// How all of them began, unless it holds what did not fit.
    pub(super) began: Option<Beginning>,
    /// How they ended is counted beside it, so that a request looks for one place of its thread and not for two.
    pub(super) duration: HistogramSeries<Endings>,
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
    /// Its place among the routes.
    pub(super) nth: usize,
    /// `None` for requests that no route matched.
    pub(in crate::metrics) template: Option<Arc<str>>,
    pub(in crate::metrics) is_grpc: bool,
    pub(in crate::metrics) window: Arc<SlidingWindow>,
}

impl ExchangeSeries {
    pub(super) fn new(
        labels: Arc<[Label]>,
        began: Option<Beginning>,
        by_method: Arc<MethodSeries>,
        config: &MetricsConfig,
    ) -> Self {
        let native = config.native_precision();
        Self {
            labels,
            began,
            duration: HistogramSeries::new(config.duration_buckets.clone(), native, None),
            body_size: HistogramSeries::new(config.size_buckets.clone(), None, None),
            route: Arc::clone(&by_method.route),
            by_method,
        }
    }

    pub(super) fn record(
        &self,
        shard: Shard,
        took: u64,
        exemplar: Option<(&TraceContext, u64)>,
        is_error: bool,
    ) -> &Endings {
        let endings = self.duration.record(shard, took, Measure::Time, exemplar);
        self.route.window.count(shard, took / 1000, is_error);
        endings
    }

    /// All that the end of a request is counted by, on the shortest path; `None` when nothing was counted.
    #[inline]
    pub(super) fn end_own(&self, own: Own, took: u64, ending: Ending, outcome: Outcome) -> Option<()> {
        let micros = took / 1000;
        self.began?;
        let window = self.route.window.find(own, micros)?;
        let endings = self.duration.find(own)?.count(took);
        window.count(micros, outcome.is_error());
        own.add(endings.of(ending, outcome), 1);
        Some(())
    }

    /// As [`end_own`](Self::end_own), with what came after the head. First everything is found, so that nothing has been
    /// counted where something is not there yet.
    #[inline]
    pub(super) fn end_whole_own(&self, own: Own, end: &End<'_>) -> Option<()> {
        self.began?;
        let Exchange { started, head_at, .. } = end.exchange;
        let first_byte = nanos((*head_at)?.saturating_duration_since(*started));
        let took = nanos(end.at.saturating_duration_since(*started));
        let body = took.saturating_sub(first_byte);
        let body_cells = if body > 0 { Some(self.by_method.body.find(own)?) } else { None };
        let first_byte_cells = self.by_method.first_byte.find(own)?;
        let size_cells = self.body_size.find(own)?;
        let cells = self.duration.find(own)?;
        let micros = took / 1000;
        self.route.window.find(own, micros)?.count(micros, end.outcome.is_error());
        if let Some(cells) = body_cells {
            cells.count(body);
        }
        first_byte_cells.count(first_byte);
        size_cells.count(end.body_bytes);
        own.add(cells.count(took).of(end.how.ending(), end.outcome), 1);
        Some(())
    }

    pub(super) fn endings(&self) -> impl Iterator<Item = &Endings> {
        self.duration.tails()
    }

    /// What came after the head, if there was one, of an exchange that took so long in all.
    pub(super) fn record_body(&self, shard: Shard, end: &End<'_>, took: u64) {
        let Some(head_at) = end.exchange.head_at else {
            return;
        };
        let first_byte = nanos(head_at.saturating_duration_since(end.exchange.started));
        self.by_method.first_byte.record(shard, first_byte, Measure::Time, None);
        self.body_size.record(shard, end.body_bytes, Measure::Plain, None);
        if took > first_byte {
            self.by_method.body.record(shard, took - first_byte, Measure::Time, None);
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
    pub(super) fn new(nth: usize, template: Option<Arc<str>>, is_grpc: bool, window: Arc<SlidingWindow>) -> Self {
        Self { nth, template, is_grpc, window }
    }
}
