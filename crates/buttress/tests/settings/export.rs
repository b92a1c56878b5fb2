//! Where spans and metrics go.

use std::time::Duration;

use buttress::settings::{
    Exporter, HistogramAggregation, MetricsExporterName, Otlp, OtlpProtocol, Settings, Temporality,
};

use crate::{each, read};

#[test]
fn the_exporter_has_its_variables() {
    for (text, expected) in [("otlp", Exporter::Otlp), ("console", Exporter::Console), ("none", Exporter::None)] {
        let variables = [("BUTTRESS_TRACES_EXPORTER", text), ("OTEL_TRACES_EXPORTER", text)];
        each(&variables, |settings| (&settings.traces_exporter.value, settings.traces_exporter.source), &expected);
    }
}

#[test]
fn metrics_are_pushed_by_otlp_or_not_at_all() {
    use MetricsExporterName::{None, Otlp};
    for (text, expected) in [("otlp", Otlp), ("none", None), ("prometheus", None), ("prometheus, otlp", Otlp)] {
        let variables = [("BUTTRESS_METRICS_EXPORTER", text), ("OTEL_METRICS_EXPORTER", text)];
        each(&variables, |s| (&s.metrics_export.exporter.value, s.metrics_export.exporter.source), &expected);
    }
}

#[test]
fn interval_temporality_and_histograms_of_metrics_have_their_otel_variables() {
    let interval = [("OTEL_METRIC_EXPORT_INTERVAL", "100")];
    let tenth = Duration::from_millis(100);
    each(&interval, |s| (&s.metrics_export.interval.value, s.metrics_export.interval.source), &tenth);
    let names = [
        ("cumulative", Temporality::Cumulative),
        ("Delta", Temporality::Delta),
        ("delta", Temporality::Delta),
        ("LowMemory", Temporality::LowMemory),
    ];
    for (text, expected) in names {
        let variables = [("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", text)];
        each(&variables, |s| (&s.metrics_export.temporality.value, s.metrics_export.temporality.source), &expected);
    }
    let names = [
        ("explicit_bucket_histogram", HistogramAggregation::Explicit),
        ("BASE2_exponential_bucket_histogram", HistogramAggregation::Exponential),
    ];
    for (text, expected) in names {
        let variables = [("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", text)];
        each(&variables, |s| (&s.metrics_export.histograms.value, s.metrics_export.histograms.source), &expected);
    }
}

#[test]
fn otlp_is_set_for_a_signal_before_it_is_set_for_all() {
    // The names of the variables, as the tests of one signal see them.
    type View = fn(&Settings) -> &Otlp;
    let traces: (View, [&'static str; 4]) = (
        |settings| &settings.traces_otlp,
        [
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        ],
    );
    let metrics: (View, [&'static str; 4]) = (
        |settings| &settings.metrics_export.otlp,
        [
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        ],
    );
    for (view, [endpoint, protocol, timeout, headers]) in [traces, metrics] {
        let url = "https://collector:4318".to_owned();
        let endpoints = [(endpoint, &*url), ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url)];
        each(&endpoints, |s| (&view(s).endpoint.value, view(s).endpoint.source), &Some(url.clone()));
        let protocols = [(protocol, "grpc"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        each(&protocols, |s| (&view(s).protocol.value, view(s).protocol.source), &OtlpProtocol::Grpc);
        let timeouts = [(timeout, "250"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")];
        each(&timeouts, |s| (&view(s).timeout.value, view(s).timeout.source), &Duration::from_millis(250));
        for name in [headers, "OTEL_EXPORTER_OTLP_HEADERS"] {
            let settings = read(&[(name, "authorization=Bearer%20x,x-team=shop")]);
            let pairs =
                [("authorization", "Bearer x"), ("x-team", "shop")].map(|(key, value)| (key.into(), value.into()));
            assert_eq!(view(&settings).headers.value.0, pairs);
        }
    }
}

#[test]
fn a_variable_for_all_signals_is_not_called_unused_while_one_signal_has_none_of_its_own() {
    let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces");
    let one = read(&[all, traces]);
    assert_eq!(one.traces_otlp.endpoint.value.as_deref(), Some("http://traces"));
    assert_eq!(one.metrics_export.otlp.endpoint.value.as_deref(), Some("http://all"));
    assert!(one.overridden.is_empty());
    let both = read(&[all, traces, ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics")]);
    assert_eq!(both.metrics_export.otlp.endpoint.value.as_deref(), Some("http://metrics"));
    let losers = [(all.0, traces.0), (all.0, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")];
    assert_eq!(both.overridden, losers);
}

#[test]
fn what_is_shown_of_a_collector_holds_no_secret() {
    let settings = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@collector"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2"),
    ]);
    let shown = format!("{settings:?}\n{:?}\n{:?}", settings.traces_otlp, settings.metrics_export);
    assert!(shown.contains("x-key") && !shown.contains("hunter2"), "{shown}");
}
