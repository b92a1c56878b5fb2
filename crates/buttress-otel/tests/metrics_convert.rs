//! Each kind of metric, as a collector gets it.
#![cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]

mod support;

use std::time::Duration;

use buttress::context::{Context, TraceContext};
use buttress::metrics::{Buckets, LabelValue, MetricsConfig, Point, Registry};
use buttress_otel::metrics::MetricsExporter;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as Exponential;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, Sum, exemplar, number_data_point,
};
use support::metrics::{Requests, metric, metrics, settings};
use support::script::Act;
use tokio::time::advance;

const LONG: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;
const DELTA: i32 = AggregationTemporality::Delta as i32;
const EXPONENTIAL: (&str, &str) =
    ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram");

/// What an exporter with these settings sends right now.
async fn sent(registry: &Registry, variables: &[(&str, &str)]) -> ExportMetricsServiceRequest {
    let client = Requests::new(&[Act::Take]);
    let exporter = MetricsExporter::with_client(registry.clone(), &settings(variables), client.clone());
    exporter.flush(LONG).await.expect("the client takes everything");
    client.taken().remove(0)
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

fn described(name: &str, unit: &str, description: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: description.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(attributes: Vec<KeyValue>, (start, end): (u64, u64), value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: end,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

/// A registry that is a second old, and the times of its points.
async fn second_old(config: MetricsConfig) -> (Registry, (u64, u64)) {
    let registry = Registry::with_config(config);
    advance(SECOND).await;
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.unix_nanos - snapshot.start_unix_nanos, 1_000_000_000);
    (registry, (snapshot.start_unix_nanos, snapshot.unix_nanos))
}

#[tokio::test(start_paused = true)]
async fn counters_are_monotonic_sums_with_labels_of_every_type() {
    let (registry, times) = second_old(MetricsConfig::default()).await;
    let placed = registry.counter("orders.placed").unit("{order}").description("Orders that were accepted");
    let labels: [(&str, LabelValue<'_>); 3] =
        [("tenant", "acme".into()), ("items", 3_i64.into()), ("express", true.into())];
    placed.with(labels).add(7);
    registry.time_counter("cpu.time").with(()).add(Duration::from_millis(1500));

    let request = sent(&registry, &[]).await;
    let attributes = vec![
        attribute("tenant", text("acme")),
        attribute("items", any_value::Value::IntValue(3)),
        attribute("express", any_value::Value::BoolValue(true)),
    ];
    let sum =
        |point| Data::Sum(Sum { data_points: vec![point], aggregation_temporality: CUMULATIVE, is_monotonic: true });
    let seconds = number(Vec::new(), times, number_data_point::Value::AsDouble(1.5));
    let orders = number(attributes, times, number_data_point::Value::AsInt(7));
    let expected = [
        described("cpu.time", "s", "", sum(seconds)),
        described("orders.placed", "{order}", "Orders that were accepted", sum(orders)),
    ];
    assert_eq!(metrics(&request), expected);
}

#[tokio::test(start_paused = true)]
async fn what_rises_and_falls_is_a_sum_that_is_not_monotonic_and_cumulative_in_any_case() {
    let (registry, times) = second_old(MetricsConfig::default()).await;
    registry.up_down_counter("orders.open").with(()).add(-2);
    let point = number(Vec::new(), times, number_data_point::Value::AsInt(-2));
    let sum = Sum { data_points: vec![point], aggregation_temporality: CUMULATIVE, is_monotonic: false };
    for temporality in ["cumulative", "delta", "lowmemory"] {
        let variable = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality);
        let request = sent(&registry, &[variable]).await;
        assert_eq!(metrics(&request), [described("orders.open", "", "", Data::Sum(sum.clone()))]);
    }
}

#[tokio::test(start_paused = true)]
async fn gauges_have_no_start() {
    let (registry, (_, end)) = second_old(MetricsConfig::default()).await;
    registry.gauge("queue.fill").unit("1").with([("queue", "mail")]).set(0.25);
    let request = sent(&registry, &[]).await;
    let attributes = vec![attribute("queue", text("mail"))];
    let point = number(attributes, (0, end), number_data_point::Value::AsDouble(0.25));
    let gauge = Data::Gauge(Gauge { data_points: vec![point] });
    assert_eq!(metrics(&request), [described("queue.fill", "1", "", gauge)]);
}

/// A timer with three durations, the last of them in a sampled trace.
fn timed(registry: &Registry) -> TraceContext {
    let buckets = Buckets::durations([10, 100].map(Duration::from_millis)).expect("they rise");
    let charge = registry.timer("payments.charge.duration").buckets(buckets).with(());
    charge.record(Duration::ZERO);
    charge.record(Duration::from_millis(10));
    let context = Context::from_trace(
        TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("it is one"),
    );
    context.enter(|| charge.record(Duration::from_millis(250)));
    context.trace()
}

fn exemplar(trace: TraceContext, unix_nanos: u64) -> Exemplar {
    Exemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: unix_nanos,
        span_id: trace.span_id.to_bytes().to_vec(),
        trace_id: trace.trace_id.to_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(0.25)),
    }
}

#[tokio::test(start_paused = true)]
async fn histograms_have_bounds_counts_sum_and_the_exemplars_of_traces() {
    // Fine buckets are not told when nobody asks for them.
    let (registry, (start, recorded)) = second_old(MetricsConfig::default().native_histograms(true)).await;
    let trace = timed(&registry);
    advance(SECOND).await;
    let request = sent(&registry, &[]).await;
    let point = HistogramDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: recorded + 1_000_000_000,
        count: 3,
        sum: Some(260_000_000_f64 * 1e-9),
        bucket_counts: vec![2, 0, 1],
        explicit_bounds: vec![0.01, 0.1],
        exemplars: vec![exemplar(trace, recorded)],
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
    assert_eq!(metrics(&request), [described("payments.charge.duration", "s", "", Data::Histogram(histogram))]);
}

#[tokio::test(start_paused = true)]
async fn histograms_are_exponential_when_that_is_asked_for_and_the_registry_has_them() {
    let (registry, (start, end)) = second_old(MetricsConfig::default().native_histograms(true)).await;
    let trace = timed(&registry);
    let request = sent(&registry, &[EXPONENTIAL]).await;
    let Point::Histogram(recorded) = registry.snapshot().families[0].series[0].point.clone() else {
        panic!("a timer is a histogram");
    };
    let fine = recorded.fine.expect("the registry has them");
    let point = ExponentialHistogramDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: end,
        count: 3,
        sum: Some(260_000_000_f64 * 1e-9),
        scale: fine.scale,
        zero_count: 1,
        positive: Some(Exponential { offset: fine.offset, bucket_counts: fine.counts.clone() }),
        exemplars: vec![exemplar(trace, end)],
        ..ExponentialHistogramDataPoint::default()
    };
    let expected = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![point],
        aggregation_temporality: CUMULATIVE,
    });
    assert_eq!(metrics(&request), [described("payments.charge.duration", "s", "", expected)]);

    // By the definition of OTLP: bucket `i` holds what is above `base^(offset + i)`, up to `base^(offset + i + 1)`.
    let base = 2_f64.powf(2_f64.powi(-fine.scale));
    for seconds in [0.01, 0.25] {
        let holds = |at: usize| {
            let lower = base.powi(fine.offset + at as i32);
            // The fine buckets are made of others, whose upper ends lie at most 1/32 higher.
            lower < seconds * (1.0 + 1.0 / 32.0) && seconds <= lower * base
        };
        let found = (0..fine.counts.len()).any(|at| fine.counts[at] == 1 && holds(at));
        assert!(found, "{seconds} s in {fine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_without_fine_buckets_tells_its_explicit_ones() {
    let (registry, _) = second_old(MetricsConfig::default()).await;
    timed(&registry);
    let request = sent(&registry, &[EXPONENTIAL]).await;
    let data = metric(&request, "payments.charge.duration").data.as_ref();
    assert!(matches!(data, Some(Data::Histogram(_))), "{data:?}");
}

#[tokio::test(start_paused = true)]
async fn deltas_begin_with_the_delivery_before_and_leave_out_what_did_not_grow() {
    let (registry, (start, first)) = second_old(MetricsConfig::default()).await;
    let client = Requests::new(&[Act::Take]);
    let delta = settings(&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")]);
    let exporter = MetricsExporter::with_client(registry.clone(), &delta, client.clone());
    let placed = registry.counter("orders.placed");
    placed.with([("tenant", "acme")]).add(5);
    placed.with([("tenant", "quiet")]).add(1);
    timed(&registry);
    exporter.flush(LONG).await.expect("it is taken");
    advance(SECOND).await;
    placed.with([("tenant", "acme")]).add(2);
    placed.with([("tenant", "new")]).add(1);
    exporter.flush(LONG).await.expect("it is taken");

    let taken = client.taken();
    let histogram = match &metric(&taken[0], "payments.charge.duration").data {
        Some(Data::Histogram(histogram)) => histogram,
        other => panic!("{other:?}"),
    };
    assert_eq!((histogram.aggregation_temporality, histogram.data_points[0].start_time_unix_nano), (DELTA, start));
    let point = |tenant, value| {
        let times = (first, first + 1_000_000_000);
        number(vec![attribute("tenant", text(tenant))], times, number_data_point::Value::AsInt(value))
    };
    let [Metric { name, data: Some(Data::Sum(sum)), .. }] = metrics(&taken[1]) else {
        panic!("only one metric grew: {:?}", taken[1]);
    };
    assert_eq!((&**name, sum.aggregation_temporality, sum.is_monotonic), ("orders.placed", DELTA, true));
    assert_eq!(sum.data_points.len(), 2);
    assert!(sum.data_points.contains(&point("acme", 2)) && sum.data_points.contains(&point("new", 1)), "{sum:?}");
}

#[tokio::test(start_paused = true)]
async fn the_delta_of_a_histogram_has_count_buckets_and_sum_of_its_period() {
    let (registry, _) = second_old(MetricsConfig::default().native_histograms(true)).await;
    let delta = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta");
    let client = || Requests::new(&[Act::Take]);
    let (explicit, fine) = (client(), client());
    let exporters = [(&explicit, settings(&[delta])), (&fine, settings(&[delta, EXPONENTIAL]))]
        .map(|(client, settings)| MetricsExporter::with_client(registry.clone(), &settings, client.clone()));
    let sizes = registry.histogram("sizes").buckets(Buckets::values([10, 100]).expect("they rise")).with(());
    for values in [&[7, 7, 500][..], &[50], &[3, 3]] {
        values.iter().for_each(|value| sizes.record(*value));
        for exporter in &exporters {
            exporter.flush(LONG).await.expect("it is taken");
        }
        advance(SECOND).await;
    }
    let expected = [(3, 514.0, vec![2, 0, 1]), (1, 50.0, vec![0, 1, 0]), (2, 6.0, vec![2, 0, 0])];
    let (explicit, fine) = (explicit.taken(), fine.taken());
    for (nth, (count, sum, buckets)) in expected.into_iter().enumerate() {
        let Some(Data::Histogram(told)) = &metric(&explicit[nth], "sizes").data else { panic!("a histogram") };
        let [point] = &told.data_points[..] else { panic!("one series") };
        assert_eq!((point.count, point.sum, &point.bucket_counts), (count, Some(sum), &buckets), "period {nth}");
        let Some(Data::ExponentialHistogram(told)) = &metric(&fine[nth], "sizes").data else {
            panic!("an exponential histogram")
        };
        let [point] = &told.data_points[..] else { panic!("one series") };
        assert_eq!((point.count, point.sum), (count, Some(sum)), "period {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delta_has_only_exemplars_that_were_not_told_before() {
    let (registry, _) = second_old(MetricsConfig::default()).await;
    let client = Requests::new(&[Act::Take]);
    let delta = settings(&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "lowmemory")]);
    let exporter = MetricsExporter::with_client(registry.clone(), &delta, client.clone());
    timed(&registry);
    exporter.flush(LONG).await.expect("it is taken");
    registry.timer("payments.charge.duration").with(()).record(Duration::from_millis(250));
    exporter.flush(LONG).await.expect("it is taken");
    let exemplars: Vec<usize> = client
        .taken()
        .iter()
        .map(|request| match &metric(request, "payments.charge.duration").data {
            Some(Data::Histogram(histogram)) => histogram.data_points[0].exemplars.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(exemplars, [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn resource_and_scope_are_those_of_spans() {
    let (registry, _) = second_old(MetricsConfig::default()).await;
    registry.counter("orders.placed").with(()).add(1);
    let request = sent(&registry, &[("OTEL_RESOURCE_ATTRIBUTES", "team=shop")]).await;
    let resource_metrics = &request.resource_metrics[0];
    let attributes = &resource_metrics.resource.as_ref().expect("a resource").attributes;
    let expected = [("service.name", "storefront"), ("team", "shop"), ("telemetry.sdk.name", "buttress")];
    for (key, value) in expected {
        assert!(attributes.contains(&attribute(key, text(value))), "{key}={value} in {attributes:?}");
    }
    let scope = resource_metrics.scope_metrics[0].scope.as_ref().expect("a scope");
    assert_eq!((&*scope.name, &*scope.version), ("buttress", env!("CARGO_PKG_VERSION")));
}
