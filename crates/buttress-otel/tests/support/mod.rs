//! A service that answers, and spans of it.
#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod agent;
pub(crate) mod collector;
#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
pub(crate) mod metrics;
pub(crate) mod script;

use std::convert::Infallible;

use buttress::trace::{Spans, TraceLayer};
use http::{Request, Response};
use http_body_util::Empty;
use tower::{ServiceBuilder, ServiceExt, service_fn};

pub(crate) type Body = Empty<&'static [u8]>;

/// Serves so many requests, each of which becomes a span.
pub(crate) async fn serve(spans: &Spans, count: usize) {
    let service = ServiceBuilder::new()
        .layer(TraceLayer::server(spans.clone()))
        .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Body::new()))));
    for _ in 0..count {
        let Ok(_response) = service.clone().oneshot(Request::get("/items/7?page=2").body(()).expect("a request")).await;
    }
}
