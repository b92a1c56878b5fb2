//! Registries with many series, to be rendered, recorded into meanwhile, and weighed.

use std::time::Duration;

use buttress::metrics::Registry;
use buttress::metrics::export::Exposition;
use metrics::with_local_recorder;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, TextEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::peers::metrics_recorder;
use crate::workload::BOUNDS;

pub type Record = Box<dyn Fn(Duration) + Send + Sync>;
pub type Render = Box<dyn Fn() -> usize + Send + Sync>;

/// Histograms of one library: families times series, with one label each.
pub struct Registered {
    pub name: &'static str,
    pub series: Vec<Record>,
    /// Every way to tell what there is; how many bytes came of it.
    pub renders: Vec<(&'static str, Render)>,
    /// Does what recording has put off.
    pub settle: Box<dyn Fn() + Send + Sync>,
}

pub type Make = fn(usize, usize) -> Registered;

pub const ALL: [Make; 6] = [ours, ours_without_windows, metrics, prometheus_client, prometheus, opentelemetry];

fn label_values(series: usize) -> impl Iterator<Item = String> {
    (0..series).map(|nth| format!("/api/v1/things{nth}/{{id}}"))
}

fn names(families: usize) -> impl Iterator<Item = String> {
    (0..families).map(|nth| format!("work_{nth}_duration_seconds"))
}

pub fn ours(families: usize, series: usize) -> Registered {
    ours_with("buttress", families, series, true)
}

fn ours_without_windows(families: usize, series: usize) -> Registered {
    ours_with("buttress.no_windows", families, series, false)
}

fn ours_with(name: &'static str, families: usize, series: usize, windows: bool) -> Registered {
    let registry = Registry::new();
    let mut all: Vec<Record> = Vec::new();
    for name in names(families) {
        let family = registry.timer(&name).description("How long it took").windows(windows);
        for value in label_values(series) {
            let timer = family.with([("route", value.as_str())]);
            all.push(Box::new(move |took| timer.record(took)));
        }
    }
    let ticked = registry.clone();
    Registered { name, series: all, renders: our_renders(&registry), settle: Box::new(move || ticked.tick()) }
}

/// One line for each format.
fn our_renders(registry: &Registry) -> Vec<(&'static str, Render)> {
    let (read, text, open) = (registry.clone(), registry.clone(), registry.clone());
    vec![
        ("snapshot", Box::new(move || read.snapshot().families.len())),
        ("text", Box::new(move || Exposition::new(&text.snapshot()).text().len())),
        ("open_metrics", Box::new(move || Exposition::new(&open.snapshot()).open_metrics().len())),
    ]
}

fn metrics(families: usize, series: usize) -> Registered {
    let recorder = metrics_recorder();
    let (handle, upkept) = (recorder.handle(), recorder.handle());
    let mut all: Vec<Record> = Vec::new();
    with_local_recorder(&recorder, || {
        for name in names(families) {
            metrics::describe_histogram!(name.clone(), "How long it took");
            for value in label_values(series) {
                let histogram = metrics::histogram!(name.clone(), "route" => value);
                all.push(Box::new(move |took: Duration| histogram.record(took.as_secs_f64())));
            }
        }
    });
    Registered {
        name: "metrics",
        series: all,
        renders: vec![("text", Box::new(move || handle.render().len()))],
        settle: Box::new(move || upkept.run_upkeep()),
    }
}

fn prometheus_client(families: usize, series: usize) -> Registered {
    let mut registry = prometheus_client::registry::Registry::default();
    let mut all: Vec<Record> = Vec::new();
    for name in names(families) {
        let make: fn() -> Histogram = || Histogram::new(BOUNDS);
        let family = Family::<Vec<(&str, String)>, _, _>::new_with_constructor(make);
        registry.register(name, "How long it took", family.clone());
        for value in label_values(series) {
            let histogram = family.get_or_create_owned(&vec![("route", value)]);
            all.push(Box::new(move |took: Duration| histogram.observe(took.as_secs_f64())));
        }
    }
    let render = move || {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("a String takes everything");
        page.len()
    };
    Registered {
        name: "prometheus-client",
        series: all,
        renders: vec![("open_metrics", Box::new(render))],
        settle: Box::new(|| {}),
    }
}

fn prometheus(families: usize, series: usize) -> Registered {
    let registry = prometheus::Registry::new();
    let mut all: Vec<Record> = Vec::new();
    for name in names(families) {
        let options = prometheus::HistogramOpts::new(name, "How long it took").buckets(BOUNDS.to_vec());
        let family = prometheus::HistogramVec::new(options, &["route"]).expect("names and bounds are accepted ones");
        registry.register(Box::new(family.clone())).expect("each name comes once");
        for value in label_values(series) {
            let histogram = family.with_label_values(&[value]);
            all.push(Box::new(move |took: Duration| histogram.observe(took.as_secs_f64())));
        }
    }
    Registered {
        name: "prometheus",
        series: all,
        renders: vec![("text", Box::new(move || text_of(&registry)))],
        settle: Box::new(|| {}),
    }
}

fn text_of(registry: &prometheus::Registry) -> usize {
    let mut page = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut page).expect("a Vec takes everything");
    page.len()
}

/// Through its exporter for Prometheus.
fn opentelemetry(families: usize, series: usize) -> Registered {
    let registry = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
    let exporter = exporter.expect("the registry is empty");
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    let meter = provider.meter("bench");
    let mut all: Vec<Record> = Vec::new();
    for name in names(families) {
        let family =
            meter.f64_histogram(name).with_description("How long it took").with_boundaries(BOUNDS.to_vec()).build();
        for value in label_values(series) {
            let histogram = family.bind(&[KeyValue::new("route", value)]);
            all.push(Box::new(move |took: Duration| histogram.record(took.as_secs_f64())));
        }
    }
    let render = move || {
        let _ = &provider;
        text_of(&registry)
    };
    Registered {
        name: "opentelemetry",
        series: all,
        renders: vec![("text", Box::new(render))],
        settle: Box::new(|| {}),
    }
}
