//! The other libraries, each in the way that its documentation shows.

use std::sync::LazyLock;

use buttress_benches::subject::Subject;
use metrics::with_local_recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::workload::{BOUNDS, Plain, Record, sets, status_text};

const LABELS: [&str; 3] = ["http_request_method", "http_route", "http_response_status_code"];

/// By label, then recorded.
pub fn lookups() -> Vec<Box<dyn Subject>> {
    vec![metrics_lookup(), prometheus_client_lookup(), prometheus_lookup(), opentelemetry_lookup()]
}

/// Resolved before.
pub fn handles() -> Vec<Box<dyn Subject>> {
    vec![metrics_handles(), prometheus_client_handles(), prometheus_handles(), opentelemetry_handles()]
}

pub fn metrics_recorder() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new().set_buckets(&BOUNDS).expect("there are some");
    builder.build_recorder()
}

/// Its macros ask for a global recorder.
static GLOBAL: LazyLock<PrometheusHandle> = LazyLock::new(|| {
    let recorder = metrics_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("nobody else sets one");
    handle
});

fn metrics_lookup() -> Box<dyn Subject> {
    LazyLock::force(&GLOBAL);
    let record = |record: Record<'_>| {
        metrics::histogram!(
            "http_server_request_duration_seconds",
            "http_request_method" => record.method,
            "http_route" => record.route.to_owned(),
            "http_response_status_code" => status_text(record.status),
        )
        .record(record.took.as_secs_f64());
    };
    // Samples are kept until then, and the exporter does it every five seconds.
    Box::new(Plain { name: "metrics", record, settle: || GLOBAL.run_upkeep() })
}

fn metrics_handles() -> Box<dyn Subject> {
    let recorder = metrics_recorder();
    let handle = recorder.handle();
    let handles: Vec<_> = with_local_recorder(&recorder, || {
        let resolve = |(method, route, status)| {
            metrics::histogram!(
                "http_server_request_duration_seconds",
                LABELS[0] => method, LABELS[1] => route, LABELS[2] => status_text(status),
            )
        };
        sets().map(resolve).collect()
    });
    let record = move |record: Record<'_>| handles[record.set].record(record.took.as_secs_f64());
    Box::new(Plain { name: "metrics", record, settle: move || handle.run_upkeep() })
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    http_request_method: &'static str,
    http_route: String,
    http_response_status_code: u16,
}

fn prometheus_client_family() -> Family<Labels, Histogram, fn() -> Histogram> {
    Family::new_with_constructor(|| Histogram::new(BOUNDS))
}

fn prometheus_client_lookup() -> Box<dyn Subject> {
    let family = prometheus_client_family();
    let record = move |record: Record<'_>| {
        let labels = Labels {
            http_request_method: record.method,
            http_route: record.route.to_owned(),
            http_response_status_code: record.status,
        };
        family.get_or_create(&labels).observe(record.took.as_secs_f64());
    };
    Box::new(Plain { name: "prometheus-client", record, settle: || {} })
}

fn prometheus_client_handles() -> Box<dyn Subject> {
    let family = prometheus_client_family();
    let resolve = |(http_request_method, route, http_response_status_code): (_, &str, _)| {
        family.get_or_create_owned(&Labels {
            http_request_method,
            http_route: route.to_owned(),
            http_response_status_code,
        })
    };
    let handles: Vec<_> = sets().map(resolve).collect();
    let record = move |record: Record<'_>| handles[record.set].observe(record.took.as_secs_f64());
    Box::new(Plain { name: "prometheus-client", record, settle: || {} })
}

fn prometheus_family() -> prometheus::HistogramVec {
    let options = prometheus::HistogramOpts::new("http_server_request_duration_seconds", "Duration of requests");
    prometheus::HistogramVec::new(options.buckets(BOUNDS.to_vec()), &LABELS)
        .expect("names and bounds are accepted ones")
}

fn prometheus_lookup() -> Box<dyn Subject> {
    let family = prometheus_family();
    let record = move |record: Record<'_>| {
        let labels = [record.method, record.route, status_text(record.status)];
        family.with_label_values(&labels).observe(record.took.as_secs_f64());
    };
    Box::new(Plain { name: "prometheus", record, settle: || {} })
}

fn prometheus_handles() -> Box<dyn Subject> {
    let family = prometheus_family();
    let handles: Vec<_> =
        sets().map(|(method, route, status)| family.with_label_values(&[method, route, status_text(status)])).collect();
    let record = move |record: Record<'_>| handles[record.set].observe(record.took.as_secs_f64());
    Box::new(Plain { name: "prometheus", record, settle: || {} })
}

/// Cumulative, read by hand; nobody reads while it records.
fn opentelemetry_family() -> (SdkMeterProvider, opentelemetry::metrics::Histogram<f64>) {
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build();
    let meter = provider.meter("bench");
    let family = meter.f64_histogram("http.server.request.duration").with_unit("s").with_boundaries(BOUNDS.to_vec());
    (provider, family.build())
}

fn key_values(method: &'static str, route: &str, status: u16) -> [KeyValue; 3] {
    [
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.route", route.to_owned()),
        KeyValue::new("http.response.status_code", i64::from(status)),
    ]
}

fn opentelemetry_lookup() -> Box<dyn Subject> {
    let (provider, family) = opentelemetry_family();
    let record = move |record: Record<'_>| {
        let _ = &provider;
        family.record(record.took.as_secs_f64(), &key_values(record.method, record.route, record.status));
    };
    Box::new(Plain { name: "opentelemetry", record, settle: || {} })
}

fn opentelemetry_handles() -> Box<dyn Subject> {
    let (provider, family) = opentelemetry_family();
    let bind = |(method, route, status)| family.bind(&key_values(method, route, status));
    let handles: Vec<_> = sets().map(bind).collect();
    let record = move |record: Record<'_>| {
        let _ = &provider;
        handles[record.set].record(record.took.as_secs_f64());
    };
    Box::new(Plain { name: "opentelemetry", record, settle: || {} })
}
