//! Spans of OpenTelemetry's API and of `tracing-opentelemetry` in one tree with ours. The bridge is the process's, so this
//! file is a process of its own.

mod support;

use std::convert::Infallible;
use std::sync::OnceLock;

use buttress::trace::{SpanRecord, Spans, TraceLayer};
use http::{Request, Response};
use opentelemetry::trace::{FutureExt, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use support::Body;
use tower::{Layer, ServiceExt, service_fn};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| buttress_otel::install_bridge().expect("nobody else installs one here"));
}

fn provider() -> (SdkTracerProvider, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    (SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build(), exporter)
}

fn request(sampled: &str) -> Request<()> {
    let traceparent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{sampled}");
    let request = Request::get("/").header("traceparent", traceparent).header("tracestate", "congo=t61");
    request.body(()).expect("a request")
}

fn server(spans: &Spans) -> buttress::observe::ObserveLayer<(buttress::propagate::Propagate, buttress::trace::Trace)> {
    let propagate = buttress::propagate::PropagateLayer::new();
    buttress::observe::ObserveLayer::server((propagate.observer(), TraceLayer::server(spans.clone()).observer()))
}

fn assert_child(child: &SpanData, parent: &SpanRecord) {
    assert_eq!(child.span_context.trace_id().to_bytes(), parent.trace_id.to_bytes());
    assert_eq!(child.parent_span_id.to_bytes(), parent.span_id.to_bytes());
}

#[tokio::test]
async fn a_span_of_the_api_in_a_handler_is_a_child_of_ours() {
    install();
    let (provider, exporter) = provider();
    let spans = Spans::new();
    let handler = service_fn(|_: Request<()>| {
        let tracer = provider.tracer("app");
        async move {
            // After a suspension too: the bridge follows each poll.
            tokio::task::yield_now().await;
            tracer.in_span("work", |_| ());
            Ok::<_, Infallible>(Response::new(Body::new()))
        }
    });
    let Ok(_) = server(&spans).layer(handler).oneshot(request("01")).await;
    let child = &exporter.get_finished_spans().expect("spans")[0];
    assert_child(child, &spans.latest(1)[0]);
    assert_eq!(child.span_context.trace_state().get("congo"), Some("t61"));
}

#[tokio::test]
async fn a_span_of_tracing_in_a_handler_is_a_child_of_ours() {
    install();
    let (provider, exporter) = provider();
    let subscriber =
        tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(provider.tracer("app")));
    let _default = tracing::subscriber::set_default(subscriber);
    let spans = Spans::new();
    let handler = service_fn(async |_: Request<()>| {
        async { tokio::task::yield_now().await }.instrument(tracing::info_span!("work")).await;
        Ok::<_, Infallible>(Response::new(Body::new()))
    });
    let Ok(_) = server(&spans).layer(handler).oneshot(request("01")).await;
    assert_child(&exporter.get_finished_spans().expect("spans")[0], &spans.latest(1)[0]);
}

#[tokio::test]
async fn what_is_not_sampled_here_is_not_sampled_there() {
    install();
    let (provider, exporter) = provider();
    let spans = Spans::new();
    let handler = service_fn(|_: Request<()>| {
        provider.tracer("app").in_span("work", |_| ());
        async { Ok::<_, Infallible>(Response::new(Body::new())) }
    });
    let Ok(_) = server(&spans).layer(handler).oneshot(request("00")).await;
    assert!(spans.latest(1).is_empty());
    assert!(exporter.get_finished_spans().expect("spans").is_empty());
}

#[tokio::test]
async fn our_client_span_in_a_span_of_the_api_is_its_child() {
    install();
    let (provider, exporter) = provider();
    let spans = Spans::new();
    let transport = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Body::new())));
    let client = TraceLayer::client(spans.clone()).layer(transport);
    let span = provider.tracer("app").start("outer");
    let outer = opentelemetry::Context::new().with_span(span);
    let Ok(_) = client.oneshot(request("01")).with_context(outer.clone()).await;
    outer.span().end();
    let theirs = &exporter.get_finished_spans().expect("spans")[0];
    let ours = &spans.latest(1)[0];
    assert_eq!(ours.trace_id.to_bytes(), theirs.span_context.trace_id().to_bytes());
    assert_eq!(ours.parent_span_id.map(|id| id.to_bytes()), Some(theirs.span_context.span_id().to_bytes()));
}

#[tokio::test]
async fn our_client_span_in_a_span_of_the_api_in_our_handler_is_a_grandchild() {
    install();
    let (provider, exporter) = provider();
    let spans = Spans::new();
    let transport = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Body::new())));
    let client = TraceLayer::client(spans.clone()).layer(transport);
    let handler = service_fn(|_: Request<()>| {
        let span = provider.tracer("app").start("middle");
        let middle = opentelemetry::Context::current().with_span(span);
        let call = client.clone().oneshot(Request::get("http://stock/").body(()).expect("a request"));
        async move {
            let Ok(_) = call.with_context(middle.clone()).await;
            middle.span().end();
            Ok::<_, Infallible>(Response::new(Body::new()))
        }
    });
    let Ok(_) = server(&spans).layer(handler).oneshot(request("01")).await;
    let [outer, inner] = &spans.latest(2)[..] else { panic!("two spans of ours") };
    let middle = &exporter.get_finished_spans().expect("spans")[0];
    assert_child(middle, outer);
    assert_eq!(inner.trace_id, outer.trace_id);
    assert_eq!(inner.parent_span_id.map(|id| id.to_bytes()), Some(middle.span_context.span_id().to_bytes()));
}

#[tokio::test]
async fn where_only_propagation_is_installed_a_span_of_the_api_is_a_child_of_the_callers() {
    install();
    let (provider, exporter) = provider();
    let handler = service_fn(|_: Request<()>| {
        provider.tracer("app").in_span("work", |_| ());
        async { Ok::<_, Infallible>(Response::new(Body::new())) }
    });
    let Ok(_) = buttress::propagate::PropagateLayer::new().layer(handler).oneshot(request("01")).await;
    let child = &exporter.get_finished_spans().expect("spans")[0];
    assert_eq!(child.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(child.parent_span_id.to_string(), "00f067aa0ba902b7");
}
