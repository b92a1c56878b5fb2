//! Metrics to a collector: OTLP over HTTP or gRPC, cumulative or delta.
//!
//! A [`MetricsExporter`] reads a registry on a task of its own and sends what it found. Nobody who records waits for it, and
//! each exporter counts from its own last delivery, so that several see everything.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use buttress::metrics::Registry;
//! use buttress::settings::Settings;
//! use buttress_otel::metrics::MetricsExporter;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_METRIC_EXPORT_INTERVAL=10000
//! let settings = Settings::from_env("storefront")?;
//! let registry = Registry::new();
//! let exporter = MetricsExporter::start(registry.clone(), &settings)?;
//!
//! registry.counter("orders.placed").with([("tenant", "acme")]).add(1);
//! // .. serve ..
//! exporter.flush(Duration::from_secs(5)).await?;
//! # Ok(()) }
//! ```
//!
//! A client of your own, for TLS or for a test, takes the place of the two here:
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::metrics::Registry;
//! use buttress::settings::Settings;
//! use buttress_otel::metrics::{Exported, MetricsClient, MetricsExporter};
//! use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
//!
//! struct Print;
//!
//! impl MetricsClient for Print {
//!     fn export(&self, request: ExportMetricsServiceRequest) -> Exported<'_> {
//!         println!("{request:?}");
//!         Box::pin(async { Ok(Default::default()) })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::new();
//! registry.gauge("jobs.waiting").unit("{job}").with(()).set(3.0);
//! let exporter = MetricsExporter::with_client(registry, &Settings::from_env("storefront")?, Print);
//! exporter.flush(Duration::from_secs(5)).await?;
//! assert_eq!(exporter.stats().exported, 1);
//! # Ok(()) }
//! ```

mod client;
mod convert;
mod delta;
mod exporter;

use buttress::metrics::Registry;
use buttress::settings::{MetricsExporterName, Settings};

use crate::otlp::OtlpError;

pub use client::{Exported, MetricsClient};
pub use exporter::{MetricsExporter, MetricsStats};

/// Starts an exporter when the settings ask for one (`OTEL_METRICS_EXPORTER=otlp`).
///
/// # Errors
///
/// [`OtlpError`] when no exporter can be made of the settings.
///
/// # Panics
///
/// Outside a tokio runtime, when an exporter is asked for.
pub fn connect(registry: &Registry, settings: &Settings) -> Result<Option<MetricsExporter>, OtlpError> {
    let is_wanted = settings.enabled.value && settings.metrics_export.exporter.value == MetricsExporterName::Otlp;
    is_wanted.then(|| MetricsExporter::start(registry.clone(), settings)).transpose()
}
