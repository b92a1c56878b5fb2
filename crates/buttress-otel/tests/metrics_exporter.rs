//! Interval, faults and the end of the exporter, with a client that does as it is told.
#![cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]

mod support;

use std::time::Duration;

use buttress::Telemetry;
use buttress::metrics::Registry;
use buttress_otel::metrics::{MetricsExporter, connect};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use support::metrics::{Requests, metric, settings};
use support::script::Act;
use tokio::time::{advance, sleep};

const LONG: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);

/// A registry with one counter at 1, and its exporter.
fn exporting(acts: &[Act], variables: &[(&str, &str)]) -> (Registry, Requests, MetricsExporter) {
    let registry = Registry::new();
    registry.counter("orders").with(()).add(1);
    let client = Requests::new(acts);
    let exporter = MetricsExporter::with_client(registry.clone(), &settings(variables), client.clone());
    (registry, client, exporter)
}

fn orders(request: &ExportMetricsServiceRequest) -> i64 {
    match &metric(request, "orders").data {
        Some(Data::Sum(sum)) => match sum.data_points[0].value {
            Some(Value::AsInt(value)) => value,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// When the request was made, since the start of the registry.
fn age(request: &ExportMetricsServiceRequest) -> Duration {
    match &metric(request, "orders").data {
        Some(Data::Sum(sum)) => {
            let point = &sum.data_points[0];
            Duration::from_nanos(point.time_unix_nano - point.start_time_unix_nano)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn exports_once_a_minute_when_nothing_else_is_said() {
    let (_registry, client, exporter) = exporting(&[Act::Take], &[]);
    // Paused time: the clock goes from timer to timer.
    sleep(MINUTE * 3 + Duration::from_secs(1)).await;
    let ages: Vec<u64> = client.seen().iter().map(|request| age(request).as_secs()).collect();
    assert_eq!(ages, [60, 120, 180]);
    assert_eq!(exporter.stats().exported, 3);
}

#[tokio::test(start_paused = true)]
async fn the_interval_is_a_setting_and_a_flush_does_not_move_it() {
    let (_registry, client, exporter) = exporting(&[Act::Take], &[("OTEL_METRIC_EXPORT_INTERVAL", "500")]);
    advance(Duration::from_millis(200)).await;
    exporter.flush(LONG).await.expect("it is taken");
    sleep(Duration::from_millis(900)).await;
    let ages: Vec<u128> = client.seen().iter().map(|request| age(request).as_millis()).collect();
    assert_eq!(ages.len(), 3, "{ages:?}");
    assert!(ages[0] < 500 && (500..510).contains(&ages[1]) && (1000..1010).contains(&ages[2]), "{ages:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interval_from_code_is_kept_within_reason() {
    let mut settings = settings(&[]);
    for interval in [Duration::ZERO, Duration::MAX] {
        settings.metrics_export.interval.value = interval;
        let registry = Registry::new();
        registry.counter("orders").with(()).add(1);
        let client = Requests::new(&[Act::Take]);
        let exporter = MetricsExporter::with_client(registry, &settings, client.clone());
        sleep(Duration::from_secs(1)).await;
        assert!(client.seen().len() <= 10);
        exporter.flush(LONG).await.expect("the task is alive");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_refuses_hangs_or_panics_costs_a_count_and_the_next_export_has_it_all() {
    for temporality in ["cumulative", "delta"] {
        let variables = [("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)];
        let acts = [Act::Refuse, Act::Hang, Act::Panic, Act::Take];
        let (registry, client, exporter) = exporting(&acts, &variables);
        for reason in ["refused", "longer than 10s", "panicked"] {
            registry.counter("orders").with(()).add(1);
            let error = exporter.flush(LONG).await.expect_err("it is not taken").to_string();
            assert!(error.contains(reason), "{error}");
        }
        exporter.flush(LONG).await.expect("it is taken");
        let taken: Vec<i64> = client.taken().iter().map(orders).collect();
        assert_eq!(taken, [4], "{temporality}");
        assert_eq!((exporter.stats().exported, exporter.stats().failed), (1, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn exports_go_on_by_themselves_after_a_failure() {
    let (_registry, client, exporter) = exporting(&[Act::Panic, Act::Hang, Act::Take], &[]);
    sleep(MINUTE * 4).await;
    assert_eq!(exporter.stats().failed, 2);
    assert!(exporter.stats().exported >= 1 && !client.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_exporters_of_one_registry_each_see_everything() {
    let delta = [("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")];
    let (registry, one, first) = exporting(&[Act::Take], &delta);
    let other = Requests::new(&[Act::Take]);
    let second = MetricsExporter::with_client(registry.clone(), &settings(&delta), other.clone());
    for _ in 0..3 {
        first.flush(LONG).await.expect("it is taken");
        registry.counter("orders").with(()).add(1);
    }
    first.flush(LONG).await.expect("it is taken");
    second.flush(LONG).await.expect("it is taken");
    assert_eq!(one.taken().iter().map(orders).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(other.taken().iter().map(orders).collect::<Vec<_>>(), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_gives_up_at_its_deadline() {
    let (_registry, _client, exporter) = exporting(&[Act::Hang], &[]);
    let error = exporter.flush(Duration::from_secs(2)).await.expect_err("it hangs");
    assert!(error.to_string().contains("deadline"), "{error}");
}

#[tokio::test]
async fn a_telemetry_that_is_shut_down_flushes_it() {
    let (_registry, client, exporter) = exporting(&[Act::Take], &[]);
    let telemetry = Telemetry::new(settings(&[])).with_flush(exporter);
    telemetry.shutdown(LONG).await.expect("it is taken");
    assert_eq!(client.taken().iter().map(orders).collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_when_the_exporter_goes_is_exported_once_more() {
    let (_registry, client, exporter) = exporting(&[Act::Take], &[]);
    let clone = exporter.clone();
    drop(exporter);
    sleep(Duration::from_secs(1)).await;
    assert!(client.seen().is_empty(), "there is another one");
    drop(clone);
    sleep(MINUTE * 5).await;
    assert_eq!(client.taken().iter().map(orders).collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_registry_sends_nothing() {
    let client = Requests::new(&[Act::Refuse]);
    let exporter = MetricsExporter::with_client(Registry::new(), &settings(&[]), client.clone());
    exporter.flush(LONG).await.expect("there is nothing to refuse");
    assert!(client.seen().is_empty());
    assert_eq!(exporter.stats(), Default::default());
}

#[tokio::test]
async fn an_exporter_is_started_when_the_settings_ask_for_it() {
    let started = |variables: &[(&str, &str)]| {
        connect(&Registry::new(), &settings(variables)).expect("the settings are fine").is_some()
    };
    assert!(started(&[("OTEL_METRICS_EXPORTER", "otlp")]));
    assert!(!started(&[]));
    assert!(!started(&[("OTEL_METRICS_EXPORTER", "prometheus")]));
    assert!(!started(&[("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_SDK_DISABLED", "true")]));
}

#[test]
fn settings_of_which_no_client_can_be_made_are_refused() {
    let refused = |variables: &[(&str, &str)]| {
        let error = MetricsExporter::start(Registry::new(), &settings(variables)).expect_err("they are refused");
        error.to_string()
    };
    let https = refused(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://collector.example")]);
    assert!(https.contains("MetricsExporter::with_client"), "{https}");
}
