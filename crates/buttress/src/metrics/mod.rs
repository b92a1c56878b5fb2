//! Metrics: request metrics that are right about every ending, instruments, sliding percentiles, and the ways out.
//!
//! [`RequestMetricsLayer`] counts and times each exchange. [`Registry`] has counters, gauges, histograms and timers for what
//! else is worth counting. Recording takes no lock, reads no clock and allocates nothing; percentiles of the last minutes
//! come from the same numbers as Prometheus' cumulative buckets. Everything is bounded: what does not fit is counted on in
//! one more series and told in the [`Snapshot`].
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use buttress::metrics::{Registry, RequestMetricsLayer};
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let registry = Registry::new();
//! // Outside of everything whose time shall count.
//! let service = ServiceBuilder::new().layer(RequestMetricsLayer::server(&registry)).service(service_fn(
//!     async |_: Request<()>| Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new())),
//! ));
//! service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(registry.performance().window.requests, 1);
//!
//! let placed = registry.counter("orders.placed").description("Orders that were accepted");
//! placed.with([("tenant", "acme")]).add(1);
//!
//! let charge = registry.timer("payments.charge.duration").with(());
//! charge.record(Duration::from_millis(80));
//! assert_eq!(charge.window().unwrap().count(), 1);
//! # }
//! ```
//!
//! Labels are arrays of pairs, or structs of one's own: see [`Labels`](trait@Labels), which can be derived (feature `derive`).
//!
//! # What is recorded of requests
//!
//! Of servers; of clients the same with `client` for `server`, `server.address` and `server.port`, and without route. Names,
//! units and attributes are those of OpenTelemetry's semantic conventions 1.44; what begins with `buttress` has none there.
//!
//! | metric | labels |
//! |---|---|
//! | `http.server.request.duration`, to the last byte | `http.request.method`, `http.route`, `http.response.status_code`, `url.scheme`, `network.protocol.version`, `error.type` |
//! | `rpc.server.call.duration`, of gRPC in place of the above | `rpc.system.name`, `rpc.method`, `rpc.status_code` (from the trailers), `error.type` |
//! | `http.server.active_requests` | `http.request.method`, `url.scheme` |
//! | `http.server.response.body.size`, counted from the frames | as the duration |
//! | `http.server.request.body.size`, with [`RequestBodySizeLayer`] | `http.request.method`, `http.route`, `url.scheme` |
//! | `buttress.http.server.time_to_first_byte`, `buttress.http.server.response.body.duration` | `http.request.method`, `http.route` |
//! | `buttress.http.server.requests`; of clients not by server | `http.route`, `buttress.ending`, `buttress.outcome` |
//! | `stream.*`, of server-sent events and (opened only, unless wrapped) of upgrades; see [`source::StreamMetrics`] | `stream.kind`, `http.route` |
//!
//! Every request has one ending (`complete`, `failed`, `body_failed`, `dropped_before_head`, `dropped_in_body`, `upgraded`,
//! `panicked`) and one outcome (`ok`, `error`, `cancelled`, `panicked`), the same as its span. A path without a route has
//! none, an unknown method is `_OTHER`, an unknown gRPC method too. Upgrades and server-sent events are no latencies.
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `layer`, `request_body`, `route` | [`RequestMetricsLayer`], [`RequestBodySizeLayer`], [`RouteMetrics`] |
//! | `requests` | what is counted of requests, and its labels |
//! | `registry`, `family`, `instrument`, `labels` | [`Registry`] and what is counted with |
//! | `series`, `measure`, `buckets`, `exemplar`, `fine` | the numbers of one series |
//! | `table`, `overflow` | series found without a lock, and what did not fit |
//! | `windows`, `performance` | sliding windows within their budget, and what they tell |
//! | `ticker` | the thread that ticks every registry |
//! | `snapshot`, [`export`], `endpoint` | every number at one moment, the pages made of it, the service that shows them |
//! | [`source`] | runtime, process, caches, streams |

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
mod measure;
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
#[cfg(feature = "derive")]
/// Makes the variants of an enum values of a label. See the derive of [`Labels`](derive@Labels).
pub use buttress_macros::AsLabelValue;
#[cfg(feature = "derive")]
#[doc = include_str!("../../docs/labels.md")]
pub use buttress_macros::Labels;
pub use config::MetricsConfig;
pub use endpoint::MetricsEndpoint;
pub use exemplar::Exemplar;
pub use family::Family;
pub use fine::FineBuckets;
pub use instrument::{
    Bucketed, Counter, Gauge, Held, Histogram, Instrument, Kind, TimeCounter, Timed, Timer, UpDownCounter,
};
pub use labels::{AsLabelValue, Label, LabelValue, Labels, Stored};
pub use layer::{RequestMetrics, RequestMetricsLayer, RequestMetricsProbe};
pub use overflow::Offender;
pub use performance::{Latency, Performance, RoutePerformance};
pub use registry::{Registry, Source};
pub use request_body::{BodySize, RequestBodySize, RequestBodySizeLayer};
pub use route::{RouteMetrics, RouteRequest};
pub use series::HistogramPoint;
pub use snapshot::{FamilySnapshot, Overflowed, Point, SeriesSnapshot, Snapshot};
pub use windows::WindowUsage;
