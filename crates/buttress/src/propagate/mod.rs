//! Trace context in and out of a service.
//!
//! [`PropagateLayer`] reads `traceparent`, `tracestate`, `baggage`, `X-Trace-ID` (and B3 where asked) from each request,
//! makes them the current [context](crate::context) of the handler and answers with `x-trace-id` and `x-span-id`.
//! [`InjectLayer`] writes the current context into outgoing requests, to the hosts that may see it.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use buttress::context;
//! use buttress::propagate::PropagateLayer;
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(PropagateLayer::new()).service(service_fn(async |_: Request<()>| {
//!     assert!(context::current().is_some());
//!     Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
//! }));
//! let request = Request::builder().header("x-trace-id", "test-trace-123").body(()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.headers()["x-trace-id"], "test-trace-123");
//! assert_eq!(response.headers()["x-span-id"].len(), 16);
//! # }
//! ```
//!
//! # Layout
//!
//! `layer` the server side, `extract` what it reads, `trust` whom it believes, `correlation` ids that are no trace context,
//! `b3` the older headers, `inject` and `hosts` the client side.

mod b3;
mod correlation;
mod extract;
mod hosts;
mod inject;
mod layer;
mod trust;

pub use b3::B3;
pub use hosts::Hosts;
pub use inject::{Inject, InjectLayer};
pub use layer::{Propagate, PropagateLayer, PropagateProbe};
pub use trust::{BaggageTrust, SampledTrust, Trust, TrustPolicy};
