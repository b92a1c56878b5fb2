use std::time::Duration;

use super::buckets::Buckets;
use crate::window::{Precision, Span};

/// The bounds of a [`Registry`](super::Registry): buckets, windows, and how much there may be of anything.
///
/// ```
/// use buttress::metrics::{Buckets, MetricsConfig, Registry};
///
/// let registry = Registry::with_config(MetricsConfig::default().duration_buckets(Buckets::page()).max_routes(200));
/// # let _ = registry;
/// ```
#[derive(Clone, Debug)]
pub struct MetricsConfig {
    pub(super) duration_buckets: Buckets,
    pub(super) size_buckets: Buckets,
    pub(super) span: Span,
    pub(super) precision: Precision,
    pub(super) max_series: usize,
    pub(super) max_routes: usize,
    pub(super) max_hosts: usize,
    pub(super) window_budget: usize,
    pub(super) native_histograms: bool,
    pub(super) apdex_target: Duration,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            duration_buckets: Buckets::http(),
            size_buckets: Buckets::sizes(),
            span: Span::default(),
            precision: Precision::default(),
            max_series: 2000,
            max_routes: 1000,
            max_hosts: 200,
            window_budget: 16 << 20,
            native_histograms: false,
            apdex_target: Duration::from_millis(500),
        }
    }
}

impl MetricsConfig {
    /// Of every duration that has none of its own. [`Buckets::http`] by default.
    #[must_use]
    pub fn duration_buckets(mut self, buckets: Buckets) -> Self {
        self.duration_buckets = buckets;
        self
    }

    /// Of every size that has none of its own. [`Buckets::sizes`] by default.
    #[must_use]
    pub fn size_buckets(mut self, buckets: Buckets) -> Self {
        self.size_buckets = buckets;
        self
    }

    /// How far back windows reach. Five minutes, every ten seconds, by default.
    #[must_use]
    pub fn span(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// How finely windows tell values apart. [`Precision::DEFAULT`] by default.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Series of one family; what comes beyond is counted in one more, which has `otel.metric.overflow="true"`. 2000 by
    /// default, as with OpenTelemetry.
    #[must_use]
    pub fn max_series(mut self, series: usize) -> Self {
        self.max_series = series;
        self
    }

    /// Routes and gRPC methods that are told apart; what comes beyond is `_OTHER`. 1000 by default.
    #[must_use]
    pub fn max_routes(mut self, routes: usize) -> Self {
        self.max_routes = routes;
        self
    }

    /// Hosts that clients tell apart; what comes beyond is `_OTHER`. 200 by default.
    #[must_use]
    pub fn max_hosts(mut self, hosts: usize) -> Self {
        self.max_hosts = hosts;
        self
    }

    /// Bytes for all windows together. 16 MiB by default. When they need more, time is told apart less finely; then values
    /// whose buckets would take more than half of it are told by the next power of two; and series that are newer than that
    /// share one window. Nothing that was recorded is left out, and the [`Snapshot`](super::Snapshot) says what was given
    /// up, as do the gauges `buttress.metrics.window.*`.
    #[must_use]
    pub fn window_budget(mut self, bytes: usize) -> Self {
        self.window_budget = bytes;
        self
    }

    /// Whether histograms are kept in fine buckets too, for Prometheus' native and OpenTelemetry's exponential histograms.
    /// Off by default: each series then needs a few kilobytes more.
    #[must_use]
    pub fn native_histograms(mut self, native: bool) -> Self {
        self.native_histograms = native;
        self
    }

    /// What is fast enough to satisfy: the T of Apdex. 500 ms by default, as Apdex advises for pages.
    #[must_use]
    pub fn apdex_target(mut self, target: Duration) -> Self {
        self.apdex_target = target;
        self
    }

    pub(super) fn native_precision(&self) -> Option<Precision> {
        self.native_histograms.then_some(self.precision)
    }
}
