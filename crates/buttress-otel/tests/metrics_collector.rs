//! Metrics over HTTP and gRPC to collectors in this process: there, gone, refusing, hanging.
#![cfg(all(feature = "otlp-http", feature = "otlp-grpc"))]

mod support;

use std::time::Duration;

use buttress::metrics::Registry;
use buttress_otel::metrics::{MetricsExporter, MetricsStats};
use http::{Response, StatusCode};
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use support::collector::{Answer, Got, Received, http_collector, http_collector_that};
use support::metrics::{metric, settings};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(60);

type Request = ExportMetricsServiceRequest;

fn exporter(variables: &[(&str, &str)]) -> MetricsExporter {
    let registry = Registry::new();
    registry.counter("orders.placed").with([("tenant", "acme")]).add(3);
    MetricsExporter::start(registry, &settings(variables)).expect("the exporter can be made")
}

fn counts(stats: MetricsStats) -> [u64; 4] {
    [stats.exported, stats.failed, stats.partial, stats.rejected_points]
}

async fn assert_arrived(exporter: &MetricsExporter, mut received: Received<Request>, path: &str) {
    exporter.flush(LONG).await.expect("the collector is there");
    let got = received.recv().await.expect("the collector got something");
    assert_eq!((got.path.as_str(), got.key.as_deref()), (path, Some("k1")));
    let metric = metric(&got.request, "orders.placed");
    assert!(metric.data.is_some());
    assert_eq!(counts(exporter.stats()), [1, 0, 0, 0]);
}

fn partial(rejected_data_points: i64) -> ExportMetricsServiceResponse {
    let error_message = "some of it is odd".to_owned();
    ExportMetricsServiceResponse {
        partial_success: Some(ExportMetricsPartialSuccess { rejected_data_points, error_message }),
    }
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::from("no"));
    *answer.status_mut() = status;
    answer.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
    answer
}

/// Answers each request so; not at all where there is no answer.
struct GrpcCollector {
    got: mpsc::UnboundedSender<Got<Request>>,
    answer: fn() -> Option<Result<ExportMetricsServiceResponse, tonic::Status>>,
}

#[tonic::async_trait]
impl MetricsService for GrpcCollector {
    async fn export(
        &self,
        request: tonic::Request<Request>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let key = request.metadata().get("x-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let _ = self.got.send(Got { path: "grpc".to_owned(), key, request: request.into_inner() });
        match (self.answer)() {
            Some(answer) => answer.map(tonic::Response::new),
            None => std::future::pending().await,
        }
    }
}

async fn grpc_collector(
    answer: fn() -> Option<Result<ExportMetricsServiceResponse, tonic::Status>>,
) -> (String, Received<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (got, received) = mpsc::unbounded_channel();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let service = MetricsServiceServer::new(GrpcCollector { got, answer });
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (format!("http://{address}"), received)
}

#[tokio::test]
async fn metrics_arrive_over_http_below_the_base_of_all_signals() {
    let (endpoint, received) = http_collector().await;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k1")];
    assert_arrived(&exporter(&variables), received, "/v1/metrics").await;
}

#[tokio::test]
async fn metrics_arrive_over_http_at_the_endpoint_of_metrics_as_it_is() {
    let (endpoint, received) = http_collector().await;
    let endpoint = format!("{endpoint}/numbers");
    let variables =
        [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-key=k1")];
    assert_arrived(&exporter(&variables), received, "/numbers").await;
}

#[tokio::test]
async fn metrics_arrive_over_grpc() {
    let (endpoint, received) = grpc_collector(|| Some(Ok(ExportMetricsServiceResponse::default()))).await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k1"),
    ];
    assert_arrived(&exporter(&variables), received, "grpc").await;
}

#[tokio::test]
async fn what_a_collector_left_out_is_counted_and_a_warning_is_not() {
    let answer = |nth| Some(Response::new(Full::from(partial(if nth == 0 { 2 } else { 0 }).encode_to_vec())));
    let (endpoint, _received) = http_collector_that::<Request, _>(answer).await;
    let http = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)]);
    http.flush(LONG).await.expect("it is taken in part");
    assert_eq!(counts(http.stats()), [1, 0, 1, 2]);
    http.flush(LONG).await.expect("it is taken");
    assert_eq!(counts(http.stats()), [2, 0, 1, 2]);

    let (endpoint, _received) = grpc_collector(|| Some(Ok(partial(2)))).await;
    let grpc = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    grpc.flush(LONG).await.expect("it is taken in part");
    assert_eq!(counts(grpc.stats()), [1, 0, 1, 2]);
}

#[tokio::test]
async fn an_answer_that_is_no_protobuf_is_still_one_that_took_the_request() {
    let (endpoint, _received) =
        http_collector_that::<Request, _>(|_| Some(Response::new(Full::from(vec![b'{'; 1 << 20])))).await;
    let exporter = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)]);
    exporter.flush(LONG).await.expect("it is taken");
    assert_eq!(counts(exporter.stats()), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_collector_that_refuses_over_http_is_asked_again_at_the_next_export() {
    let refusals = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
        StatusCode::BAD_REQUEST,
        StatusCode::TEMPORARY_REDIRECT,
    ];
    let answer = move |nth: usize| Some(refusals.get(nth).map_or_else(Response::default, |code| status(*code)));
    let (endpoint, mut received) = http_collector_that::<Request, _>(answer).await;
    let exporter = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)]);
    for refusal in refusals {
        let error = exporter.flush(LONG).await.expect_err("it refuses").to_string();
        assert!(error.contains(refusal.as_str()), "{error}");
    }
    exporter.flush(LONG).await.expect("it is taken");
    assert_eq!(counts(exporter.stats()), [1, 6, 0, 0]);
    for _ in 0..7 {
        let got = received.recv().await.expect("each of them arrived");
        assert!(metric(&got.request, "orders.placed").data.is_some());
    }
}

#[tokio::test]
async fn a_collector_that_refuses_over_grpc_costs_a_count() {
    let (endpoint, _received) = grpc_collector(|| Some(Err(tonic::Status::unavailable("later")))).await;
    let exporter = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    let error = exporter.flush(LONG).await.expect_err("it refuses").to_string();
    assert!(error.contains("later"), "{error}");
    assert_eq!(counts(exporter.stats()), [0, 1, 0, 0]);
}

#[tokio::test]
async fn a_collector_that_hangs_is_given_up_after_the_timeout() {
    let (http, _received) = http_collector_that::<Request, _>(|_| None).await;
    let (grpc, _received) = grpc_collector(|| None).await;
    for (endpoint, protocol) in [(http, "http/protobuf"), (grpc, "grpc")] {
        let exporter = exporter(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "200"),
        ]);
        let error = exporter.flush(LONG).await.expect_err("it hangs").to_string();
        assert!(error.contains("longer than 200ms"), "{error}");
        assert_eq!(counts(exporter.stats()), [0, 1, 0, 0]);
    }
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_a_count() {
    // A port that was free a moment ago: nobody listens there.
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = unused.local_addr().expect("it is bound");
    drop(unused);
    let endpoint = format!("http://{address}");
    for protocol in ["http/protobuf", "grpc"] {
        let exporter =
            exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
        let error = exporter.flush(LONG).await.expect_err("nobody listens").to_string();
        assert!(error.to_lowercase().contains("refused"), "{error}");
        assert_eq!(counts(exporter.stats()), [0, 1, 0, 0]);
    }
}

#[tokio::test]
async fn headers_that_are_none_and_endpoints_that_are_none_are_refused() {
    let refused = |variables: &[(&str, &str)]| {
        let error = MetricsExporter::start(Registry::new(), &settings(variables)).expect_err("they are refused");
        error.to_string()
    };
    for protocol in ["http/protobuf", "grpc"] {
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let header = refused(&[protocol, ("OTEL_EXPORTER_OTLP_HEADERS", "bad header=1")]);
        assert!(header.contains("bad header"), "{header}");
        let endpoint = refused(&[protocol, ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a b")]);
        assert!(endpoint.contains("is no URL"), "{endpoint}");
    }
}
