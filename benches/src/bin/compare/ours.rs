//! This crate's layers, as a service has them.

use std::time::Duration;

use buttress::Telemetry;
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::metrics::{Registry, RequestMetricsLayer};
use buttress::observe::ObserveLayer;
use buttress::propagate::PropagateLayer;
use buttress::retry::RetryLayer;
use buttress::settings::Settings;
use buttress::trace::Sampler;
use buttress_benches::subject::Subject;
use buttress_otel::ExportSink;
use http::Response;
use http_body::Body;
use opentelemetry_sdk::Resource;
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceBuilder};

use crate::case::Case;
use crate::forget::Forget;
use crate::requests::{Ask, Kind, bare};

const US: &str = "buttress";

pub fn cases() -> Vec<Case> {
    use Kind::{Outgoing, Post, Sampled, Tenth, Unsampled};
    vec![
        Case::new("stack.unsampled", US, Unsampled, stack),
        Case::new("stack.sampled", US, Sampled, stack),
        Case::new("stack.not_retryable", US, Post, stack),
        Case::new("stack.off", US, Sampled, stack_off),
        Case::new("server.unsampled", US, Unsampled, server),
        Case::new("server.sampled", US, Sampled, server),
        Case::new("server.10pct", US, Tenth, server),
        Case::new("server.off", US, Sampled, server_off),
        Case::new("client.unsampled", US, Outgoing, client),
        Case::new("client.sampled", US, Outgoing, client),
        Case::new("client.off", US, Outgoing, client_off),
        Case::new("trace.unsampled", US, Unsampled, trace),
        Case::new("trace.sampled", US, Sampled, trace),
        Case::new("trace.10pct", US, Tenth, trace),
        Case::new("trace.off", US, Sampled, trace_off),
        Case::new("propagate", US, Unsampled, propagate),
        Case::new("propagate.one_header", US, Unsampled, propagate_one),
        Case::new("propagate.silent", US, Unsampled, propagate_silent),
        Case::new("metrics", US, Unsampled, metrics),
        Case::new("breaker", US, Unsampled, breaker),
        Case::new("retry", US, Unsampled, retry),
        Case::new("retry.not_retryable", US, Post, retry),
    ]
}

/// The telemetry of a service that exports in batches, what it runs on, and how its spans are taken away.
fn exporting() -> (Telemetry, impl Fn() + Send + Sync + 'static) {
    let runtime = Runtime::new().expect("there are threads");
    let telemetry = telemetry("", "");
    let sink = runtime.block_on(async { ExportSink::new(Forget, Resource::builder_empty().build()) });
    let telemetry = telemetry.with_sink(sink);
    let spans = telemetry.spans().clone();
    let settle = move || runtime.block_on(spans.flush(Duration::from_secs(60))).expect("nothing is slow");
    (telemetry, settle)
}

fn telemetry(variable: &'static str, value: &'static str) -> Telemetry {
    let settings = Settings::read("bench", |name| (name == variable).then(|| value.to_owned()));
    Telemetry::new(settings.expect("the settings are fine"))
}

fn off() -> Telemetry {
    telemetry("BUTTRESS_ENABLED", "false")
}

/// Requests that are held by the whole.
pub fn in_flight() -> Case {
    Case::new("growth.in_flight", US, Kind::Held, stack)
}

/// The whole: what a service that calls on has around each request.
fn stack(case: &Case) -> Box<dyn Subject> {
    let (telemetry, settle) = exporting();
    case.settled(whole(case, &telemetry), settle)
}

fn stack_off(case: &Case) -> Box<dyn Subject> {
    case.calling(whole(case, &off()))
}

fn whole(
    case: &Case,
    telemetry: &Telemetry,
) -> impl Service<Ask, Response = Response<impl Body + 'static>> + Clone + Send + Sync + 'static {
    ServiceBuilder::new()
        .layer(telemetry.server())
        .layer(RetryLayer::new())
        .layer(CircuitBreakerLayer::new("backend"))
        .service(bare(case.kind))
}

/// Propagation, tracing and metrics.
fn server(case: &Case) -> Box<dyn Subject> {
    let (telemetry, settle) = exporting();
    case.settled(telemetry.server().layer(bare(case.kind)), settle)
}

fn server_off(case: &Case) -> Box<dyn Subject> {
    case.calling(off().server().layer(bare(case.kind)))
}

/// Retry, breaker, tracing, metrics, injection.
fn client(case: &Case) -> Box<dyn Subject> {
    let (telemetry, settle) = exporting();
    // What is served while it calls has been sampled by nobody yet.
    let sampler = if case.records() { Sampler::always_on() } else { Sampler::always_off() };
    let telemetry = telemetry.with_sampler(sampler);
    case.settled(telemetry.client("backend").service(bare(case.kind)), settle)
}

fn client_off(case: &Case) -> Box<dyn Subject> {
    case.calling(off().client("backend").service(bare(case.kind)))
}

/// With propagation, which the peers' layers do too.
fn trace(case: &Case) -> Box<dyn Subject> {
    let (telemetry, settle) = exporting();
    let observers = (telemetry.propagate().observer(), telemetry.trace().observer());
    case.settled(ObserveLayer::server(observers).layer(bare(case.kind)), settle)
}

fn trace_off(case: &Case) -> Box<dyn Subject> {
    let telemetry = off();
    let layers = ServiceBuilder::new().layer(telemetry.propagate()).layer(telemetry.trace());
    case.calling(layers.service(bare(case.kind)))
}

fn propagate(case: &Case) -> Box<dyn Subject> {
    case.calling(PropagateLayer::new().layer(bare(case.kind)))
}

/// With both ids in one header of the answer instead of two.
fn propagate_one(case: &Case) -> Box<dyn Subject> {
    case.calling(PropagateLayer::new().echo(false).server_timing(true).layer(bare(case.kind)))
}

/// Without the ids in the answer.
fn propagate_silent(case: &Case) -> Box<dyn Subject> {
    case.calling(PropagateLayer::new().echo(false).layer(bare(case.kind)))
}

fn metrics(case: &Case) -> Box<dyn Subject> {
    case.calling(RequestMetricsLayer::server(&Registry::new()).layer(bare(case.kind)))
}

fn breaker(case: &Case) -> Box<dyn Subject> {
    case.calling(CircuitBreakerLayer::new("backend").layer(bare(case.kind)))
}

fn retry(case: &Case) -> Box<dyn Subject> {
    case.calling(RetryLayer::new().layer(bare(case.kind)))
}
