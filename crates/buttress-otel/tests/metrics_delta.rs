//! Deltas against the numbers that they are made of, over whatever is recorded and whatever becomes of exports.
#![cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use buttress::metrics::{HistogramPoint, Kind, Label, MetricsConfig, Point, Registry, Snapshot};
use buttress_otel::metrics::MetricsExporter;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint,
};
use proptest::prelude::*;
use support::metrics::{Requests, metrics, settings};
use support::script::Act;
use tokio::time::advance;

/// Longer than an export may take.
const LONG: Duration = Duration::from_secs(60);
const DELTA: (&str, &str) = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta");
const EXPONENTIAL: (&str, &str) =
    ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram");
/// Only flushes export.
const NEVER: (&str, &str) = ("OTEL_METRIC_EXPORT_INTERVAL", "31536000000");

#[derive(Clone, Debug)]
enum Step {
    Count { tenant: u8, value: u64 },
    Spend { micros: u64 },
    Hold { value: i64 },
    Time { route: u8, micros: u64 },
    Size { bytes: u64 },
    Export { reader: usize, act: Act },
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![3 => Just(Act::Take), 1 => Just(Act::Refuse), 1 => Just(Act::Hang), 1 => Just(Act::Panic)];
    prop_oneof![
        2 => (0..4_u8, 0..100_u64).prop_map(|(tenant, value)| Step::Count { tenant, value }),
        1 => (0..10_000_000_u64).prop_map(|micros| Step::Spend { micros }),
        1 => (-5..5_i64).prop_map(|value| Step::Hold { value }),
        3 => (0..3_u8, 0..20_000_000_u64).prop_map(|(route, micros)| Step::Time { route, micros }),
        1 => (0..100_000_u64).prop_map(|bytes| Step::Size { bytes }),
        4 => (0..2_usize, act).prop_map(|(reader, act)| Step::Export { reader, act }),
    ]
}

fn record(registry: &Registry, step: &Step) {
    match *step {
        Step::Count { tenant, value } => registry.counter("orders").with([("tenant", tenant)]).add(value),
        Step::Spend { micros } => registry.time_counter("cpu.time").with(()).add(Duration::from_micros(micros)),
        Step::Hold { value } => registry.up_down_counter("open").with(()).add(value),
        Step::Time { route, micros } => {
            registry.timer("latency").with([("route", route)]).record(Duration::from_micros(micros));
        }
        Step::Size { bytes } => registry.histogram("size").with(()).record(bytes),
        Step::Export { .. } => {}
    }
}

/// What a collector knows of one series when it adds up what it gets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Total {
    int: i64,
    float: f64,
    counts: Vec<u64>,
    /// Of exponential buckets, by their index; zero by none.
    fine: BTreeMap<Option<i32>, u64>,
}

type Totals = BTreeMap<(String, Option<i64>), Total>;

/// A collector that adds up deltas and checks that their times follow one another without a gap.
struct Collector {
    totals: Totals,
    told_until: u64,
}

impl Collector {
    fn take(&mut self, request: &ExportMetricsServiceRequest) {
        let mut until = self.told_until;
        for metric in metrics(request) {
            let name = &metric.name;
            match metric.data.as_ref().expect("every metric has data") {
                Data::Sum(sum) if sum.is_monotonic => {
                    assert_eq!(sum.aggregation_temporality, AggregationTemporality::Delta as i32);
                    for point in &sum.data_points {
                        self.follows(point.start_time_unix_nano, point.time_unix_nano, &mut until);
                        self.total(name, &point.attributes).add_number(point);
                    }
                }
                Data::Sum(sum) => {
                    assert_eq!(sum.aggregation_temporality, AggregationTemporality::Cumulative as i32);
                    for point in &sum.data_points {
                        let total = self.total(name, &point.attributes);
                        *total = Total::default();
                        total.add_number(point);
                    }
                }
                Data::Histogram(histogram) => {
                    for point in &histogram.data_points {
                        self.follows(point.start_time_unix_nano, point.time_unix_nano, &mut until);
                        self.total(name, &point.attributes).add_histogram(point);
                    }
                }
                Data::ExponentialHistogram(histogram) => {
                    for point in &histogram.data_points {
                        self.follows(point.start_time_unix_nano, point.time_unix_nano, &mut until);
                        self.total(name, &point.attributes).add_exponential(point);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        self.told_until = request_time(request).max(until);
    }

    fn follows(&self, start: u64, end: u64, until: &mut u64) {
        assert_eq!(start, self.told_until, "a delta begins where the one before ended");
        *until = end;
    }

    fn total(&mut self, name: &str, attributes: &[KeyValue]) -> &mut Total {
        let label = attributes.first().map(|attribute| match attribute.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(any_value::Value::IntValue(value)) => *value,
            other => panic!("{other:?}"),
        });
        self.totals.entry((name.to_owned(), label)).or_default()
    }
}

/// Of the gauge-like metric that is in every request.
fn request_time(request: &ExportMetricsServiceRequest) -> u64 {
    metrics(request)
        .iter()
        .find_map(|metric| match &metric.data {
            Some(Data::Sum(sum)) if !sum.is_monotonic => Some(sum.data_points[0].time_unix_nano),
            _ => None,
        })
        .expect("what rises and falls is told each time")
}

impl Total {
    fn add_number(&mut self, point: &NumberDataPoint) {
        match point.value {
            Some(Value::AsInt(value)) => self.int += value,
            Some(Value::AsDouble(value)) => self.float += value,
            None => panic!("a point without a value"),
        }
    }

    fn add_histogram(&mut self, point: &HistogramDataPoint) {
        assert_eq!(point.count, point.bucket_counts.iter().sum::<u64>());
        self.counts.resize(point.bucket_counts.len(), 0);
        self.counts.iter_mut().zip(&point.bucket_counts).for_each(|(total, count)| *total += count);
        self.float += point.sum.expect("there is a sum");
    }

    fn add_exponential(&mut self, point: &ExponentialHistogramDataPoint) {
        let positive = point.positive.as_ref().expect("nothing is negative");
        assert_eq!(point.count, point.zero_count + positive.bucket_counts.iter().sum::<u64>());
        self.add_fine(point.zero_count, positive.offset, &positive.bucket_counts);
        self.float += point.sum.expect("there is a sum");
    }

    fn add_fine(&mut self, zero: u64, offset: i32, counts: &[u64]) {
        let counts = counts.iter().enumerate().map(|(at, count)| (Some(offset + at as i32), *count));
        for (index, count) in counts.chain([(None, zero)]).filter(|(_, count)| *count > 0) {
            *self.fine.entry(index).or_default() += count;
        }
    }

    fn of_histogram(point: &HistogramPoint, exponential: bool) -> Self {
        let mut total = Self { float: point.sum, ..Self::default() };
        if exponential {
            let fine = point.fine.as_ref().expect("the registry has them");
            total.add_fine(fine.zero_count, fine.offset, &fine.counts);
        } else {
            total.counts = point.counts.clone();
        }
        total
    }
}

/// What a collector should know.
fn expected(snapshot: &Snapshot, exponential: bool) -> Totals {
    let label = |label: &Label| label.value.to_string().parse().expect("labels here are numbers");
    let mut totals = Totals::new();
    for family in &snapshot.families {
        for series in &family.series {
            let total = match &series.point {
                Point::Int(int) => Total { int: *int, ..Total::default() },
                Point::Float(float) => Total { float: *float, ..Total::default() },
                Point::Histogram(point) => Total::of_histogram(point, exponential),
                other => panic!("{other:?} of {:?}", family.kind),
            };
            assert_ne!(family.kind, Kind::Gauge);
            totals.insert((family.name.to_string(), series.labels.first().map(label)), total);
        }
    }
    totals
}

fn assert_same(mut found: Totals, expected: &Totals) {
    for (key, total) in &mut found {
        let of_all = expected.get(key).map_or(0.0, |total| total.float);
        assert!((total.float - of_all).abs() <= 1e-9 * of_all.abs().max(1.0), "{key:?}: {} {of_all}", total.float);
        // As near as numbers with fractions come.
        total.float = of_all;
    }
    assert_eq!(&found, expected);
}

async fn run(steps: Vec<Step>) {
    let registry = Registry::with_config(MetricsConfig::default().native_histograms(true));
    // Told in every request, so that no export is left out.
    registry.up_down_counter("open").with(()).add(0);
    let start = registry.snapshot().start_unix_nanos;
    let clients: Vec<Requests> = (0..2)
        .map(|reader| {
            let acts = steps.iter().filter_map(|step| match step {
                Step::Export { reader: of, act } if *of == reader => Some(*act),
                _ => None,
            });
            Requests::new(&acts.chain([Act::Take]).collect::<Vec<_>>())
        })
        .collect();
    let exporter = |reader: usize, variables: &[(&str, &str)]| {
        MetricsExporter::with_client(registry.clone(), &settings(variables), clients[reader].clone())
    };
    let exporters = [exporter(0, &[DELTA, NEVER]), exporter(1, &[DELTA, NEVER, EXPONENTIAL])];
    for step in &steps {
        advance(Duration::from_millis(7)).await;
        match step {
            Step::Export { reader, act } => {
                let exported = exporters[*reader].flush(LONG).await;
                assert_eq!(exported.is_ok(), *act == Act::Take, "{exported:?}");
            }
            step => record(&registry, step),
        }
    }
    for (nth, exporter) in exporters.iter().enumerate() {
        exporter.flush(LONG).await.expect("the last act is to take");
        let mut collector = Collector { totals: Totals::new(), told_until: start };
        clients[nth].taken().iter().for_each(|request| collector.take(request));
        assert_same(collector.totals, &expected(&registry.snapshot(), nth == 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_that_are_read_while_others_record_lose_nothing() {
    let registry = Registry::with_config(MetricsConfig::default().native_histograms(true));
    registry.up_down_counter("open").with(()).add(0);
    let start = registry.snapshot().start_unix_nanos;
    let client = Requests::new(&[Act::Take]);
    let exporter = MetricsExporter::with_client(registry.clone(), &settings(&[DELTA, NEVER]), client.clone());
    let recording: Vec<_> = (0..2_u8)
        .map(|tenant| {
            let registry = registry.clone();
            tokio::task::spawn_blocking(move || {
                for value in 0..50_000 {
                    record(&registry, &Step::Count { tenant, value });
                    record(&registry, &Step::Time { route: tenant, micros: value });
                }
            })
        })
        .collect();
    while !recording.iter().all(|task| task.is_finished()) {
        exporter.flush(LONG).await.expect("the client takes everything");
    }
    exporter.flush(LONG).await.expect("the client takes everything");
    let mut collector = Collector { totals: Totals::new(), told_until: start };
    client.taken().iter().for_each(|request| collector.take(request));
    assert_same(collector.totals, &expected(&registry.snapshot(), false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Two readers, one with explicit and one with exponential histograms, whose exports are taken, refused, left hanging
    /// or panic: what each has delivered adds up to what was recorded.
    #[test]
    fn deltas_that_arrived_add_up_to_what_was_recorded(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(steps));
    }
}
