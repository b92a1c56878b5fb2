//! Our metrics through a collector of somebody else's, which prints them and passes them on.
#![cfg(all(feature = "otlp-http", feature = "otlp-grpc"))]

mod support;

use std::time::Duration;

use buttress::context::{Context, TraceContext};
use buttress::metrics::{Buckets, MetricsConfig, Registry};
use buttress_otel::metrics::MetricsExporter;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use support::agent::{self, Agent, PATIENCE};
use support::collector::http_collector;
use support::metrics::{Requests, metrics, settings};
use support::script::Act;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// One of each kind, with labels of each type and an exemplar.
fn shop() -> Registry {
    let registry = Registry::with_config(MetricsConfig::default().native_histograms(true));
    let placed = registry.counter("orders.placed").unit("{order}").description("Orders that were accepted");
    placed.with([("tenant", "acme")]).add(7);
    placed.with([("items", 3_i64)]).add(1);
    placed.with([("express", true)]).add(1);
    registry.time_counter("cpu.time").with(()).add(Duration::from_millis(1500));
    registry.up_down_counter("orders.open").with(()).add(-2);
    registry.gauge("queue.fill").unit("1").with([("queue", "mail")]).set(0.25);
    let buckets = Buckets::durations([10, 100].map(Duration::from_millis)).expect("they rise");
    let charge = registry.timer("payments.charge.duration").buckets(buckets).with(());
    charge.record(Duration::ZERO);
    let context = Context::from_trace(TraceContext::random());
    context.enter(|| charge.record(Duration::from_millis(250)));
    registry
}

/// Without the times of reading, which differ between two exports.
fn timeless(mut metrics: Vec<Metric>) -> Vec<Metric> {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    for metric in &mut metrics {
        match metric.data.as_mut().expect("every metric has data") {
            Data::Sum(sum) => sum.data_points.iter_mut().for_each(|point| point.time_unix_nano = 0),
            Data::Gauge(gauge) => gauge.data_points.iter_mut().for_each(|point| point.time_unix_nano = 0),
            Data::Histogram(histogram) => histogram.data_points.iter_mut().for_each(|point| point.time_unix_nano = 0),
            Data::ExponentialHistogram(histogram) => {
                histogram.data_points.iter_mut().for_each(|point| point.time_unix_nano = 0);
            }
            other => panic!("{other:?}"),
        }
    }
    metrics.sort_by(|one, other| one.name.cmp(&other.name));
    metrics
}

/// What the agent passes on is what we would have sent ourselves; returns what it printed, too.
async fn through(variables: &[(&str, &str)]) -> Option<String> {
    let (collector, mut received) = http_collector::<ExportMetricsServiceRequest>().await;
    let prints = ["--debug-log", "metrics", "--debug-log-verbosity", "detailed"];
    let Agent { http, grpc, mut child } = agent::start(&collector, &prints).await?;
    let registry = shop();
    let direct = Requests::new(&[Act::Take]);
    let ours = MetricsExporter::with_client(registry.clone(), &settings(variables), direct.clone());
    ours.flush(PATIENCE).await.expect("it is taken");

    let is_grpc = variables.contains(&("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"));
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", if is_grpc { &*grpc } else { &*http });
    let settings = settings(&[variables, &[endpoint]].concat());
    let exporter = MetricsExporter::start(registry, &settings).expect("the exporter can be made");
    exporter.flush(PATIENCE).await.expect("the agent takes them");
    assert_eq!(exporter.stats().exported, 1);
    assert_eq!((exporter.stats().failed, exporter.stats().rejected_points), (0, 0));

    let expected = timeless(metrics(&direct.taken()[0]).to_vec());
    let mut passed_on = Vec::new();
    while passed_on.len() < expected.len() {
        let got = timeout(PATIENCE, received.recv()).await.expect("the agent passes them on").expect("it listens");
        let scopes = got.request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        passed_on.extend(scopes.flat_map(|scope| scope.metrics));
    }
    assert_eq!(timeless(passed_on), expected);

    let mut stdout = child.stdout.take().expect("it is piped");
    child.kill().await.expect("it runs");
    let mut printed = String::new();
    stdout.read_to_string(&mut printed).await.expect("the agent prints text");
    Some(printed)
}

/// It printed these lines one after the other; times are left out.
fn assert_printed(printed: &str, lines: &[&str]) {
    let timeless = |line: &&str| !line.starts_with("Timestamp") && !line.starts_with("StartTimestamp");
    let all: Vec<&str> = printed.lines().map(str::trim).filter(timeless).collect();
    assert!(all.windows(lines.len()).any(|window| window == lines), "{lines:#?} in {printed}");
}

#[tokio::test]
async fn an_agent_of_somebody_else_reads_our_metrics_over_http() {
    let Some(printed) = through(&[]).await else { return };
    assert_printed(
        &printed,
        &[
            "-> Name: orders.placed",
            "-> Description: Orders that were accepted",
            "-> Unit: {order}",
            "-> DataType: Sum",
            "-> IsMonotonic: true",
            "-> AggregationTemporality: AGGREGATION_TEMPORALITY_CUMULATIVE",
        ],
    );
    for label in ["-> tenant: Str(acme)", "-> items: Int(3)", "-> express: Bool(true)"] {
        assert_printed(&printed, &["Data point attributes:", label]);
    }
    assert_printed(
        &printed,
        &[
            "-> Name: payments.charge.duration",
            "-> Description:",
            "-> Unit: s",
            "-> DataType: Histogram",
            "-> AggregationTemporality: AGGREGATION_TEMPORALITY_CUMULATIVE",
            "HistogramDataPoints #0",
            "Count: 2",
            "Sum: 0.25",
            "ExplicitBounds #0: 0.01",
            "ExplicitBounds #1: 0.1",
            "Buckets #0, Count: 1",
            "Buckets #1, Count: 0",
            "Buckets #2, Count: 1",
        ],
    );
    assert_printed(&printed, &["-> DataType: Gauge", "NumberDataPoints #0", "Data point attributes:"]);
}

#[tokio::test]
async fn an_agent_of_somebody_else_reads_our_exponential_deltas_over_grpc() {
    let printed = through(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
    ]);
    let Some(printed) = printed.await else { return };
    let (delta, cumulative) = (
        "-> AggregationTemporality: AGGREGATION_TEMPORALITY_DELTA",
        "-> AggregationTemporality: AGGREGATION_TEMPORALITY_CUMULATIVE",
    );
    assert_printed(&printed, &["-> DataType: Sum", "-> IsMonotonic: true", delta, "NumberDataPoints #0"]);
    assert_printed(
        &printed,
        &["-> DataType: Sum", "-> IsMonotonic: false", cumulative, "NumberDataPoints #0", "Value: -2"],
    );
    assert_printed(
        &printed,
        &["-> DataType: ExponentialHistogram", delta, "ExponentialHistogramDataPoints #0", "Count: 2", "Sum: 0.25"],
    );
    assert_printed(&printed, &["Bucket [0, 0], Count: 1"]);
}
