//! The libraries that services use today, each in the way that its documentation shows.

mod circuits;
pub mod install;
mod retries;

use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use buttress_benches::subject::Subject;
use fastrace_tower::FastraceServerLayer;
use opentelemetry_instrumentation_tower::http::server::LayerBuilder;
use tower::retry::Retry;
use tower::{Layer, ServiceBuilder};
use tower_http::trace::TraceLayer;
use tower_otel::{metrics, trace};
use tracing::Level;

use crate::case::Case;
use crate::forget::Forget;
use crate::requests::{Kind, bare};
use install::{Spans, meter};
use retries::Repeat;

pub const AXUM: &str = "axum-tracing-opentelemetry";
pub const TOWER_OTEL: &str = "tower-otel";
pub const OTEL_TOWER: &str = "opentelemetry-instrumentation-tower";
const FASTRACE: &str = "fastrace-tower";
const TOWER_HTTP: &str = "tower-http";
const RESILIENCE: &str = "tower-resilience";
/// opentelemetry-instrumentation-tower, recloser, tower::retry.
const PICKED: &str = "picked by hand";
/// fastrace-tower, tower-otel's metrics, recloser, tower::retry.
pub const PICKED_FASTRACE: &str = "picked with fastrace";

/// With spans or not: each trace library in the four ways.
macro_rules! traced {
    ($name:literal, $subject:expr, $make:expr) => {
        [
            Case::new(concat!($name, ".unsampled"), $subject, Kind::Unsampled, $make),
            Case::new(concat!($name, ".sampled"), $subject, Kind::Sampled, $make),
        ]
    };
}

pub fn cases() -> Vec<Case> {
    use Kind::{Post, Sampled, Tenth, Unsampled};
    let mut cases = vec![
        Case::new("trace.10pct", AXUM, Tenth, axum_trace),
        Case::new("trace.10pct", TOWER_OTEL, Tenth, tower_otel_trace),
        Case::new("trace.10pct", OTEL_TOWER, Tenth, otel_tower_trace),
        Case::new("trace.10pct", FASTRACE, Tenth, fastrace_trace),
        // It does not look at the caller's trace.
        Case::new("trace.sampled", TOWER_HTTP, Sampled, tower_http_trace),
        Case::new("trace.off", AXUM, Sampled, |case| case.calling(OtelAxumLayer::default().layer(bare(case.kind)))),
        Case::new("trace.off", TOWER_OTEL, Sampled, |case| {
            case.calling(trace::HttpLayer::server(Level::INFO).layer(bare(case.kind)))
        }),
        Case::new("trace.off", OTEL_TOWER, Sampled, |case| {
            let layer = LayerBuilder::builder().with_metrics(false).build().expect("the defaults are valid");
            case.calling(layer.layer(bare(case.kind)))
        }),
        Case::new("trace.off", FASTRACE, Sampled, |case| {
            case.calling(FastraceServerLayer::default().layer(bare(case.kind)))
        }),
        Case::new("trace.off", TOWER_HTTP, Sampled, |case| {
            case.calling(TraceLayer::new_for_http().layer(bare(case.kind)))
        }),
        Case::new("metrics", TOWER_OTEL, Unsampled, |case| {
            case.calling(metrics::HttpLayer::server(&meter()).layer(bare(case.kind)))
        }),
        Case::new("metrics", OTEL_TOWER, Unsampled, |case| {
            meter();
            let layer = LayerBuilder::builder().with_tracing(false).build().expect("the defaults are valid");
            case.calling(layer.layer(bare(case.kind)))
        }),
        Case::new("breaker", RESILIENCE, Unsampled, |case| {
            case.calling(circuits::tower_resilience().layer(bare(case.kind)))
        }),
        Case::new("breaker", "recloser", Unsampled, |case| case.calling(circuits::recloser(bare(case.kind)))),
        Case::new("breaker", "failsafe", Unsampled, |case| case.calling(circuits::failsafe(bare(case.kind)))),
        Case::new("retry", RESILIENCE, Unsampled, |case| {
            case.calling(retries::tower_resilience().layer(bare(case.kind)))
        }),
        Case::new("retry", "tower::retry", Unsampled, |case| case.calling(Retry::new(Repeat::new(), bare(case.kind)))),
        Case::new("retry.not_retryable", RESILIENCE, Post, |case| {
            case.calling(retries::tower_resilience().layer(bare(case.kind)))
        }),
        Case::new("retry.not_retryable", "tower::retry", Post, |case| {
            case.calling(Retry::new(Repeat::new(), bare(case.kind)))
        }),
    ];
    cases.extend(traced!("trace", AXUM, axum_trace));
    cases.extend(traced!("trace", TOWER_OTEL, tower_otel_trace));
    cases.extend(traced!("trace", OTEL_TOWER, otel_tower_trace));
    cases.extend(traced!("trace", FASTRACE, fastrace_trace));
    cases.extend(traced!("server", AXUM, axum_server));
    cases.extend(traced!("server", TOWER_OTEL, tower_otel_server));
    cases.extend(traced!("server", OTEL_TOWER, otel_tower_server));
    cases.extend(traced!("server", PICKED_FASTRACE, fastrace_server));
    cases.extend(traced!("stack", AXUM, axum_stack));
    cases.extend(traced!("stack", TOWER_OTEL, tower_otel_stack));
    cases.extend(traced!("stack", OTEL_TOWER, otel_tower_stack));
    cases.extend(traced!("stack", PICKED, picked_stack));
    cases.extend(traced!("stack", PICKED_FASTRACE, fastrace_stack));
    cases
}

/// Requests that are held by the usual stacks.
pub fn in_flight() -> Vec<Case> {
    let name = "growth.in_flight";
    vec![
        Case::new(name, AXUM, Kind::Held, axum_stack),
        Case::new(name, TOWER_OTEL, Kind::Held, tower_otel_stack),
        Case::new(name, OTEL_TOWER, Kind::Held, otel_tower_stack),
        Case::new(name, PICKED, Kind::Held, picked_stack),
        Case::new(name, PICKED_FASTRACE, Kind::Held, fastrace_stack),
    ]
}

/// The two that read a baggage.
pub fn propagating(name: &'static str, kind: Kind) -> Vec<Case> {
    vec![Case::new(name, AXUM, kind, axum_trace), Case::new(name, OTEL_TOWER, kind, otel_tower_trace)]
}

fn axum_trace(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::through_tracing(Forget);
    case.settled(OtelAxumLayer::default().layer(bare(case.kind)), move || spans.settle())
}

fn axum_server(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::through_tracing(Forget);
    let layers = ServiceBuilder::new().layer(OtelAxumLayer::default()).layer(metrics::HttpLayer::server(&meter()));
    case.settled(layers.service(bare(case.kind)), move || spans.settle())
}

fn axum_stack(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::through_tracing(Forget);
    let service = ServiceBuilder::new()
        .layer(OtelAxumLayer::default())
        .layer(metrics::HttpLayer::server(&meter()))
        .retry(Repeat::new())
        .layer(circuits::tower_resilience())
        .service(bare(case.kind));
    case.settled(service, move || spans.settle())
}

fn tower_otel_trace(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::through_tracing(Forget);
    case.settled(trace::HttpLayer::server(Level::INFO).layer(bare(case.kind)), move || spans.settle())
}

fn tower_otel_server(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::through_tracing(Forget);
    let layers =
        ServiceBuilder::new().layer(trace::HttpLayer::server(Level::INFO)).layer(metrics::HttpLayer::server(&meter()));
    case.settled(layers.service(bare(case.kind)), move || spans.settle())
}

fn tower_otel_stack(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::through_tracing(Forget);
    let service = ServiceBuilder::new()
        .layer(trace::HttpLayer::server(Level::INFO))
        .layer(metrics::HttpLayer::server(&meter()))
        .retry(Repeat::new())
        .layer(circuits::tower_resilience())
        .service(bare(case.kind));
    case.settled(service, move || spans.settle())
}

fn otel_tower_trace(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::of_the_sdk(Forget);
    let layer = LayerBuilder::builder().with_metrics(false).build().expect("the defaults are valid");
    case.settled(layer.layer(bare(case.kind)), move || spans.settle())
}

fn otel_tower_server(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::of_the_sdk(Forget);
    meter();
    let layer = LayerBuilder::builder().build().expect("the defaults are valid");
    case.settled(layer.layer(bare(case.kind)), move || spans.settle())
}

fn otel_tower_stack(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::of_the_sdk(Forget);
    meter();
    let service = ServiceBuilder::new()
        .layer(LayerBuilder::builder().build().expect("the defaults are valid"))
        .retry(Repeat::new())
        .layer(circuits::tower_resilience())
        .service(bare(case.kind));
    case.settled(service, move || spans.settle())
}

fn picked_stack(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::of_the_sdk(Forget);
    meter();
    let service = ServiceBuilder::new()
        .layer(LayerBuilder::builder().build().expect("the defaults are valid"))
        .retry(Repeat::new())
        .service(circuits::recloser(bare(case.kind)));
    case.settled(service, move || spans.settle())
}

fn fastrace_trace(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::of_fastrace(Forget);
    case.settled(FastraceServerLayer::default().layer(bare(case.kind)), move || spans.settle())
}

fn fastrace_server(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::of_fastrace(Forget);
    let layers =
        ServiceBuilder::new().layer(FastraceServerLayer::default()).layer(metrics::HttpLayer::server(&meter()));
    case.settled(layers.service(bare(case.kind)), move || spans.settle())
}

fn fastrace_stack(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::of_fastrace(Forget);
    let service = ServiceBuilder::new()
        .layer(FastraceServerLayer::default())
        .layer(metrics::HttpLayer::server(&meter()))
        .retry(Repeat::new())
        .service(circuits::recloser(bare(case.kind)));
    case.settled(service, move || spans.settle())
}

fn tower_http_trace(case: &Case) -> Box<dyn Subject> {
    let spans = Spans::through_tracing(Forget);
    case.settled(TraceLayer::new_for_http().layer(bare(case.kind)), move || spans.settle())
}
