//! What is measured, and how much of it is kept.

use std::fmt;
use std::time::Duration;

use super::{Definition, Setting, SettingsError, Source, Variables, boolean, definition};
use crate::metrics::{Buckets, MetricsConfig};
use crate::window::{Precision, Span};

/// The settings of metrics.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Whether anything is measured.
    pub enabled: Setting<bool>,
    /// Whether the pages show metrics to Prometheus.
    pub prometheus: Setting<bool>,
    /// Whether they show them at `/internal/metrics` too.
    pub internal: Setting<bool>,
    /// Whether the runtime's lag is watched.
    pub runtime: Setting<bool>,
    /// Bounds of the buckets of durations.
    pub duration_buckets: Setting<Buckets>,
    /// How far back sliding windows reach.
    pub window: Setting<Duration>,
    /// How finely windows tell values apart, in bits.
    pub window_precision: Setting<Precision>,
    /// Bytes for all sliding windows together.
    pub window_budget: Setting<usize>,
    /// Routes that are told apart.
    pub max_routes: Setting<usize>,
    /// Series of one metric.
    pub max_series: Setting<usize>,
    /// Whether histograms are kept in fine buckets too.
    pub native_histograms: Setting<bool>,
    /// What is fast enough to satisfy.
    pub apdex_target: Setting<Duration>,
}

impl Metrics {
    pub(super) fn read(variables: &mut Variables<'_>) -> Result<Self, SettingsError> {
        let mut flag = |definition: &Definition, default| variables.read(definition, |_, text| boolean(text), default);
        let enabled = flag(&definition::METRICS_ENABLED, true)?;
        let prometheus = flag(&definition::METRICS_PROMETHEUS, true)?;
        let internal = flag(&definition::METRICS_INTERNAL, false)?;
        let runtime = flag(&definition::METRICS_RUNTIME, true)?;
        let native_histograms = flag(&definition::METRICS_NATIVE_HISTOGRAMS, false)?;
        Ok(Self {
            enabled,
            prometheus,
            internal,
            runtime,
            native_histograms,
            duration_buckets: variables.read(&definition::METRICS_BUCKETS, |_, text| buckets(text), Buckets::http())?,
            window: variables.read(
                &definition::METRICS_WINDOW,
                |_, text| number(text, 10, 10_000).map(|seconds| Duration::from_secs(seconds as u64)),
                Span::default().last(),
            )?,
            window_precision: variables.read(
                &definition::METRICS_WINDOW_PRECISION,
                |_, text| Precision::bits(text.parse().ok()?).ok(),
                Precision::DEFAULT,
            )?,
            window_budget: variables.read(
                &definition::METRICS_WINDOW_BUDGET,
                |_, text| number(text, 1 << 16, 1 << 30),
                16 << 20,
            )?,
            max_routes: variables.read(&definition::METRICS_MAX_ROUTES, |_, text| number(text, 1, 10_000), 1000)?,
            max_series: variables.read(&definition::METRICS_MAX_SERIES, |_, text| number(text, 1, 100_000), 2000)?,
            apdex_target: variables.read(
                &definition::METRICS_APDEX_TARGET,
                |_, text| number(text, 1, 600_000).map(|millis| Duration::from_millis(millis as u64)),
                Duration::from_millis(500),
            )?,
        })
    }

    pub(super) fn config(&self) -> MetricsConfig {
        let span = Span::new(self.window.value, Span::default().tick()).expect("the window is at least a tick long");
        MetricsConfig::default()
            .duration_buckets(self.duration_buckets.value.clone())
            .span(span)
            .precision(self.window_precision.value)
            .window_budget(self.window_budget.value)
            .max_routes(self.max_routes.value)
            .max_series(self.max_series.value)
            .apdex_target(self.apdex_target.value)
    }

    pub(super) fn explain(&self, line: &mut dyn FnMut(&str, &dyn fmt::Debug, Source)) {
        line("metrics_enabled", &self.enabled.value, self.enabled.source);
        line("metrics_prometheus", &self.prometheus.value, self.prometheus.source);
        line("metrics_internal", &self.internal.value, self.internal.source);
        line("metrics_runtime", &self.runtime.value, self.runtime.source);
        let bounds: Vec<_> = self.duration_buckets.value.bounds().iter().copied().map(Duration::from_nanos).collect();
        line("metrics_buckets", &bounds, self.duration_buckets.source);
        line("metrics_window", &self.window.value, self.window.source);
        line("metrics_window_precision", &self.window_precision.value, self.window_precision.source);
        line("metrics_window_budget", &self.window_budget.value, self.window_budget.source);
        line("metrics_max_routes", &self.max_routes.value, self.max_routes.source);
        line("metrics_max_series", &self.max_series.value, self.max_series.source);
        line("metrics_native_histograms", &self.native_histograms.value, self.native_histograms.source);
        line("metrics_apdex_target", &self.apdex_target.value, self.apdex_target.source);
    }
}

fn number(text: &str, least: usize, most: usize) -> Option<usize> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

fn buckets(text: &str) -> Option<Buckets> {
    match text {
        "http" => Some(Buckets::http()),
        "page" => Some(Buckets::page()),
        _ => {
            let millis = |part: &str| part.trim().parse().ok().map(Duration::from_millis);
            Buckets::durations(text.split(',').map(millis).collect::<Option<Vec<_>>>()?).ok()
        }
    }
}
