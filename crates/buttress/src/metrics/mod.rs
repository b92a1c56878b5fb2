//! Metrics: counters, gauges, histograms and sliding windows, bounded in every direction.
//!
//! Handles are resolved once and recorded into without a lock. Percentiles of the last minutes come from the same numbers
//! as Prometheus' cumulative buckets.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::metrics::Registry;
//!
//! let registry = Registry::new();
//! let placed = registry.counter("orders.placed").description("Orders that were accepted");
//! placed.with([("tenant", "acme")]).add(1);
//!
//! let charge = registry.timer("payments.charge.duration").with(());
//! charge.record(Duration::from_millis(80));
//! assert_eq!(charge.window().unwrap().count(), 1);
//! assert_eq!(registry.snapshot().families.len(), 2);
//! ```

mod buckets;
mod config;
mod endpoint;
mod exemplar;
pub mod export;
mod family;
mod fine;
mod instrument;
mod labels;
mod layer;
mod overflow;
mod performance;
mod registry;
mod request_body;
mod requests;
mod route;
mod series;
mod snapshot;
pub mod source;
mod table;
mod ticker;
mod windows;

pub use buckets::{Buckets, BucketsError};
pub use config::MetricsConfig;
pub use endpoint::MetricsEndpoint;
pub use exemplar::Exemplar;
pub use family::Family;
pub use fine::FineBuckets;
pub use instrument::{Counter, Gauge, Held, Histogram, Instrument, Kind, TimeCounter, Timed, Timer, UpDownCounter};
pub use labels::{Label, LabelValue, Labels, Stored};
pub use layer::{RequestMetrics, RequestMetricsLayer, RequestMetricsProbe};
pub use overflow::Offender;
pub use performance::{Latency, Performance, RoutePerformance};
pub use registry::{Registry, Source};
pub use request_body::{BodySize, RequestBodySize, RequestBodySizeLayer};
pub use route::{RouteMetrics, RouteRequest};
pub use series::HistogramPoint;
pub use snapshot::{FamilySnapshot, Overflowed, Point, SeriesSnapshot, Snapshot};
pub use windows::WindowUsage;
