//! Request tracing: one span for each exchange, right about how it ended.
//!
//! [`TraceLayer::server`] and [`TraceLayer::client`] decide whether an exchange is sampled before they build anything,
//! keep a small record while it runs, and hand it over to [`Spans`] at its end. Names, attributes and redaction are made
//! off the request path, by the thread that feeds the sinks.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use buttress::trace::{Spans, TraceLayer};
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let spans = Spans::new();
//! let service = ServiceBuilder::new().layer(TraceLayer::server(spans.clone())).service(service_fn(
//!     async |_: Request<()>| Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new())),
//! ));
//! service.oneshot(Request::get("/items/7?token=s3cret").body(()).unwrap()).await.unwrap();
//!
//! let span = &spans.latest(1)[0];
//! assert_eq!(span.name, "GET");
//! assert_eq!(span.attribute("url.query").unwrap().to_string(), "token=REDACTED");
//! # }
//! ```
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `layer` | [`TraceLayer`], its observer and probe |
//! | `sampler` | who is traced; `late`: who is kept although not sampled; `started`: how many of each |
//! | `recording` | what is kept while the exchange runs |
//! | `http`, `grpc`, `forwarded` | from a recording to the attributes of the conventions |
//! | `capture`, `attributes` | what may be told, and how much; `repeated`: texts that spans have alike |
//! | `spans` | the bounded hand-over, the ring, the thread that feeds the sinks |
//! | `span` | [`SpanRecord`], what sinks get; `json_lines` a sink |
//! | `connection` | spans of upgraded connections |
//! | [`database`] | calls to databases: comments, masked texts, wrappers of sqlx and redis |
//! | [`operation`] | spans of whatever else is worth one |
//! | [`flow`] | what takes several steps, over several requests |

mod attributes;
mod capture;
mod connection;
pub mod database;
#[cfg(feature = "debug-header")]
mod debug_header;
pub mod flow;
mod forwarded;
mod grpc;
mod http;
mod json_lines;
mod late;
mod layer;
pub mod operation;
mod recording;
mod repeated;
mod sampler;
mod span;
mod spans;
mod started;

pub use capture::Capture;
pub use connection::Connection;
#[cfg(feature = "debug-header")]
pub use debug_header::{DebugHeader, DebugHeaderError};
pub use flow::{Flow, FlowEnd, FlowId, FlowStats, Flows};
pub use json_lines::JsonLines;
pub use late::LateDecision;
pub use layer::{Resend, RpcNames, Trace, TraceLayer, TraceProbe};
pub use operation::{Operation, OperationLayer};
pub use sampler::{Ratio, RatioError, SampleInput, Sampler};
pub use span::{SpanEvent, SpanKind, SpanLink, SpanRecord, Status};
pub use spans::{FlushError, SpanSink, SpanStats, Spans};
