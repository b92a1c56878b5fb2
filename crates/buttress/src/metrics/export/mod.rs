//! A [`Snapshot`] as Prometheus and its kin read it.
//!
//! Names are translated by OpenTelemetry's rules: `http.server.request.duration` in `s` is told as
//! `http_server_request_duration_seconds`.
//!
//! ```
//! use buttress::metrics::Registry;
//! use buttress::metrics::export::Exposition;
//!
//! let registry = Registry::new();
//! registry.counter("orders.placed").description("Orders that were accepted").with([("tenant", "acme")]).add(3);
//!
//! let snapshot = registry.snapshot();
//! let resource = [("service.name".to_owned(), "shop".to_owned())];
//! let page = Exposition::new(&snapshot).resource(&resource).text();
//! let expected = [
//!     "# HELP orders_placed_total Orders that were accepted",
//!     "# TYPE orders_placed_total counter",
//!     r#"orders_placed_total{tenant="acme"} 3"#,
//!     "# HELP target_info Target metadata",
//!     "# TYPE target_info gauge",
//!     r#"target_info{service_name="shop"} 1"#,
//! ];
//! assert_eq!(page.lines().collect::<Vec<_>>(), expected);
//! ```

mod families;
pub(super) mod json;
mod names;
mod negotiate;
mod number;
mod prometheus;
#[cfg(feature = "native-histograms")]
mod protobuf;

use std::fmt;

use bytes::Bytes;
use families::Families;
pub use negotiate::Format;
use prometheus::Dialect;

use super::Snapshot;

/// A snapshot that is about to be written. See the [module](self) for an example.
///
/// The same snapshot always gives the same page: families are sorted by name, series by their labels.
///
/// Metrics whose names become the same are one when they are of one kind; of series with the same labels the first
/// stands. Of two kinds, the one whose name comes later is [left out](Self::left_out).
#[derive(Clone, Copy)]
pub struct Exposition<'a> {
    snapshot: &'a Snapshot,
    resource: &'a [(String, String)],
}

impl<'a> Exposition<'a> {
    /// Of this snapshot.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, resource: &[] }
    }

    /// What the numbers are of, for `target_info`: the attributes of OpenTelemetry's resource. None by default.
    #[must_use]
    pub fn resource(mut self, attributes: &'a [(String, String)]) -> Self {
        self.resource = attributes;
        self
    }

    /// Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> String {
        prometheus::page(&self.families(), Dialect::Text)
    }

    /// OpenMetrics 1.0, with exemplars.
    ///
    /// Without `_created`, which servers that do not know it store as one more series for each; the start of the
    /// counting is in the protobuf format, where it costs none.
    pub fn open_metrics(&self) -> String {
        prometheus::page(&self.families(), Dialect::OpenMetrics)
    }

    /// Prometheus' protobuf format: `io.prometheus.client.MetricFamily`, each with its length before it.
    ///
    /// With native histograms where the registry keeps fine buckets
    /// ([`MetricsConfig::native_histograms`](super::MetricsConfig::native_histograms)).
    #[cfg(feature = "native-histograms")]
    pub fn protobuf(&self) -> Vec<u8> {
        protobuf::page(&self.families(), self.snapshot.start_unix_nanos)
    }

    /// In the format that somebody asked for.
    pub fn render(&self, format: Format) -> Bytes {
        match format {
            Format::Text => self.text().into(),
            Format::OpenMetrics | Format::OpenMetricsDraft => self.open_metrics().into(),
            #[cfg(feature = "native-histograms")]
            Format::Protobuf => self.protobuf().into(),
        }
    }

    /// OpenTelemetry's names of the metrics that are not told, because another kind of metric has their name or one of the
    /// names of their samples. The gauge `buttress_metrics_left_out` counts them on the page.
    pub fn left_out(&self) -> Vec<&'a str> {
        self.families().left_out
    }

    fn families(&self) -> Families<'a> {
        Families::new(self.snapshot, self.resource)
    }
}

impl fmt::Debug for Exposition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").field("resource", &self.resource).finish_non_exhaustive()
    }
}
