//! Who wins, and what is said about it.

use buttress::settings::Source;

use crate::{read, try_read};

#[test]
fn our_own_variable_beats_otels_and_the_alias_and_the_loser_is_named() {
    let settings =
        read(&[("TELEMETRY_ENABLED", "true"), ("OTEL_SDK_DISABLED", "false"), ("BUTTRESS_ENABLED", "false")]);
    assert_eq!((settings.enabled.value, settings.enabled.source), (false, Source::Variable("BUTTRESS_ENABLED")));
    let losers = [("OTEL_SDK_DISABLED", "BUTTRESS_ENABLED"), ("TELEMETRY_ENABLED", "BUTTRESS_ENABLED")];
    assert_eq!(settings.overridden, losers);
    let note = "OTEL_SDK_DISABLED is set but not used, because BUTTRESS_ENABLED is set too";
    assert!(settings.explain().lines().any(|line| line == note), "{}", settings.explain());
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let settings = read(&[("BUTTRESS_SERVICE_NAME", "  "), ("OTEL_SERVICE_NAME", "store"), ("BUTTRESS_ENABLED", "")]);
    assert_eq!(settings.service_name.value, "store");
    assert_eq!(settings.enabled.source, Source::Default);
    assert!(settings.overridden.is_empty());
}

#[test]
fn a_bad_value_names_its_variable_itself_and_what_is_accepted() {
    for (variable, value, accepted) in [
        ("BUTTRESS_ENABLED", "maybe", "true or false"),
        ("OTEL_SDK_DISABLED", "2", "true or false"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team", "key=value pairs, separated by commas"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%", "a number between 0 and 1"),
        ("TRACING_SAMPLING_RATE", "1.5", "a number between 0 and 1"),
        ("BUTTRESS_SAMPLING_RATIO", "NaN", "a number between 0 and 1"),
        ("OTEL_PROPAGATORS", "jaeger", "none, or some of tracecontext, baggage, b3, b3multi, separated by commas"),
        ("BUTTRESS_TRUST", "everyone", "internal or public"),
        ("BUTTRESS_SERVER_TIMING", "x", "true or false"),
        ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET,,PUT", "1 to 31 names of methods, separated by commas"),
        ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET,P T", "1 to 31 names of methods, separated by commas"),
        ("BUTTRESS_SPAN_QUEUE", "-1", "a number from 1 to 1048576"),
        ("TRACING_MAX_TRACES", "many", "a number from 0 to 1048576"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console or none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "an http or https URL"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "a number of milliseconds, at least 1"),
        ("OTEL_METRICS_EXPORTER", "statsd", "none, or some of otlp, prometheus, separated by commas"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "99", "a number of milliseconds, at least 100"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "gauge", "cumulative, delta or lowmemory"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "summary",
            "explicit_bucket_histogram or base2_exponential_bucket_histogram",
        ),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "grpc or http/protobuf"),
    ] {
        let error = try_read(&[(variable, value)]).unwrap_err();
        assert_eq!((error.variable(), error.value(), error.accepted()), (variable, value, accepted));
        assert_eq!(error.to_string(), format!("{variable} is {value:?}; accepted is {accepted}"));
    }
    let error = try_read(&[("OTEL_TRACES_SAMPLER", "xray")]).unwrap_err();
    assert!(error.accepted().contains("parentbased_traceidratio"));
}

#[test]
fn the_explanation_has_one_line_for_each_setting() {
    let settings = read(&[("OTEL_TRACES_SAMPLER_ARG", "0.5"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=shop")]);
    let explained = settings.explain();
    let names: Vec<_> = explained.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    let all = [
        "enabled",
        "service_name",
        "resource_attributes",
        "sampler",
        "sampling_ratio",
        "propagators",
        "trust",
        "server_timing",
        "known_methods",
        "span_queue",
        "span_ring",
        "traces_exporter",
        "traces_otlp_endpoint",
        "traces_otlp_protocol",
        "traces_otlp_timeout",
        "traces_otlp_headers",
        "metrics_exporter",
        "metrics_interval",
        "metrics_temporality",
        "metrics_histograms",
        "metrics_otlp_endpoint",
        "metrics_otlp_protocol",
        "metrics_otlp_timeout",
        "metrics_otlp_headers",
        "metrics_enabled",
        "metrics_prometheus",
        "metrics_internal",
        "metrics_runtime",
        "metrics_buckets",
        "metrics_window",
        "metrics_window_precision",
        "metrics_window_budget",
        "metrics_max_routes",
        "metrics_max_series",
        "metrics_native_histograms",
        "metrics_apdex_target",
    ];
    assert_eq!(names, all);
    assert!(explained.contains("sampling_ratio = 0.5 (OTEL_TRACES_SAMPLER_ARG)\n"), "{explained}");
    assert!(explained.contains("metrics_otlp_headers = [\"x-team\"] (OTEL_EXPORTER_OTLP_HEADERS)\n"), "{explained}");
}

#[test]
fn code_has_the_last_word() {
    let mut settings = read(&[("OTEL_SERVICE_NAME", "store")]);
    settings.service_name.value = "mine".to_owned();
    settings.service_name.source = Source::Code;
    assert!(settings.explain().contains("service_name = \"mine\" (code)\n"));
}
