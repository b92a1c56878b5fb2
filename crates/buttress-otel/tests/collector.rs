//! OTLP over HTTP and gRPC to collectors in this process.
#![cfg(all(feature = "otlp-http", feature = "otlp-grpc"))]

mod support;

use std::time::Duration;

use buttress::Telemetry;
use buttress::settings::Settings;
use buttress_tests::numbers::total;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use support::collector::{Got, Received, http_collector};
use support::serve;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(60);

fn telemetry(variables: &[(&str, String)]) -> Telemetry {
    let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let settings = Settings::read("storefront", lookup).expect("the settings are fine");
    buttress_otel::connect(Telemetry::new(settings)).expect("the exporter can be made")
}

struct GrpcCollector(mpsc::UnboundedSender<Got<ExportTraceServiceRequest>>);

#[tonic::async_trait]
impl TraceService for GrpcCollector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let key = request.metadata().get("x-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let _ = self.0.send(Got { path: "grpc".to_owned(), key, request: request.into_inner() });
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn grpc_collector() -> (String, Received<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (sender, receiver) = mpsc::unbounded_channel();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(GrpcCollector(sender)));
    tokio::spawn(server.serve_with_incoming(incoming));
    (format!("http://{address}"), receiver)
}

/// The spans of the telemetry have arrived there, with their resource.
async fn assert_arrived(telemetry: &Telemetry, mut received: Received<ExportTraceServiceRequest>, path: &str) {
    serve(telemetry.spans(), 3).await;
    telemetry.shutdown(LONG).await.expect("the collector is there");
    let got = received.recv().await.expect("the collector got something");
    assert_eq!((got.path.as_str(), got.key.as_deref()), (path, Some("k1")));
    let resource_spans = &got.request.resource_spans[0];
    let attributes = &resource_spans.resource.as_ref().expect("a resource").attributes;
    let name = attributes.iter().find(|attribute| attribute.key == "service.name").expect("a service name");
    let value = name.value.as_ref().and_then(|value| value.value.clone());
    assert_eq!(value, Some(Value::StringValue("storefront".to_owned())));
    let spans = &resource_spans.scope_spans[0].spans;
    let mut ids: Vec<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    let mut expected: Vec<_> = telemetry.latest_spans(3).iter().map(|span| span.span_id.to_bytes().to_vec()).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    assert!(spans.iter().all(|span| span.name == "GET" && span.kind == 2));
    telemetry.metrics().tick();
    assert_eq!(total(telemetry.metrics(), "otel.sdk.exporter.span.exported", &[]), 3);
}

#[tokio::test]
async fn spans_arrive_over_http_below_the_base_of_all_signals() {
    let (endpoint, received) = http_collector().await;
    let telemetry = telemetry(&[
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k1".to_owned()),
    ]);
    assert_arrived(&telemetry, received, "/v1/traces").await;
}

#[tokio::test]
async fn spans_arrive_over_http_at_the_endpoint_of_traces_as_it_is() {
    let (endpoint, received) = http_collector().await;
    let telemetry = telemetry(&[
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{endpoint}/spans")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k1".to_owned()),
    ]);
    assert_arrived(&telemetry, received, "/spans").await;
}

#[tokio::test]
async fn spans_arrive_over_grpc() {
    let (endpoint, received) = grpc_collector().await;
    let telemetry = telemetry(&[
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k1".to_owned()),
    ]);
    assert_arrived(&telemetry, received, "grpc").await;
}

#[tokio::test]
async fn without_a_collector_requests_are_served_and_the_flush_tells() {
    // A port that was free a moment ago: nobody listens there.
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", unused.local_addr().expect("it is bound"));
    drop(unused);
    let telemetry = telemetry(&[
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000".to_owned()),
    ]);
    serve(telemetry.spans(), 5).await;
    telemetry.shutdown(LONG).await.expect_err("nobody took them");
    assert_eq!(telemetry.latest_spans(10).len(), 5);
}

#[tokio::test]
async fn without_the_setting_nothing_is_exported() {
    let (endpoint, mut received) = http_collector::<ExportTraceServiceRequest>().await;
    let telemetry = telemetry(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
    serve(telemetry.spans(), 1).await;
    telemetry.shutdown(LONG).await.expect("there is nothing to deliver");
    assert!(received.try_recv().is_err());
}

#[tokio::test]
async fn an_https_endpoint_is_refused_with_a_way_out() {
    let settings = Settings::read("storefront", |name| {
        (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "https://collector.example".to_owned())
    });
    let error = buttress_otel::otlp(&settings.expect("the settings are fine")).expect_err("there is no TLS");
    assert!(error.to_string().contains("ExportSink::new"), "{error}");
}
