//! Every variable, who wins, and what is said about it.
#![cfg(feature = "telemetry")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::time::Duration;

use buttress::metrics::Buckets;
use buttress::observe::KnownMethods;
use buttress::settings::{
    DEFINITIONS, Definition, Exporter, HistogramAggregation, MetricsExporterName, Otlp, OtlpProtocol, Propagators,
    SamplerName, Settings, SettingsError, Source, Temporality, TrustName, WITHOUT_EFFECT, WithoutEffect, tables,
};

fn try_read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Settings::read("shop", find)
}

fn read(variables: &[(&str, &str)]) -> Settings {
    try_read(variables).expect("these values are accepted")
}

/// What the variables come to, by this view, for each variable alone.
fn each<T: PartialEq + std::fmt::Debug>(
    variables: &[(&'static str, &str)],
    view: impl Fn(&Settings) -> (&T, Source),
    expected: &T,
) {
    for (name, value) in variables {
        let settings = read(&[(name, value)]);
        let (found, source) = view(&settings);
        assert_eq!((found, source), (expected, Source::Variable(name)), "{name}={value}");
    }
}

#[test]
fn without_variables_everything_is_its_default() {
    let settings = read(&[]);
    assert!(settings.enabled.value);
    assert_eq!(settings.service_name.value, "shop");
    assert_eq!(settings.resource_attributes.value, []);
    assert_eq!(settings.sampler.value, SamplerName::ParentBasedAlwaysOn);
    assert_eq!(settings.sampling_ratio.value.get(), 1.0);
    let Propagators { tracecontext, baggage, b3, b3multi, .. } = settings.propagators.value;
    assert_eq!([tracecontext, baggage, b3, b3multi], [true, true, false, false]);
    assert_eq!(settings.trust.value, TrustName::Internal);
    assert!(!settings.server_timing.value);
    assert_eq!((settings.span_queue.value, settings.span_ring.value), (8192, 1024));
    assert_eq!(settings.traces_exporter.value, Exporter::None);
    let metrics = &settings.metrics_export;
    assert_eq!((metrics.exporter.value, metrics.interval.value), (MetricsExporterName::None, Duration::from_secs(60)));
    assert_eq!(metrics.temporality.value, Temporality::Cumulative);
    assert_eq!(metrics.histograms.value, HistogramAggregation::Explicit);
    for otlp in [&settings.traces_otlp, &metrics.otlp] {
        assert_eq!(otlp.endpoint.value, None);
        assert_eq!(otlp.protocol.value, OtlpProtocol::HttpProtobuf);
        assert_eq!(otlp.timeout.value, Duration::from_secs(10));
        assert!(otlp.headers.value.0.is_empty());
    }
    assert!(settings.explain().lines().all(|line| line.ends_with("(default)")), "{}", settings.explain());
}

#[test]
fn observing_is_switched_off_by_any_of_its_names() {
    let off = [
        ("BUTTRESS_ENABLED", "false"),
        ("BUTTRESS_ENABLED", "0"),
        ("BUTTRESS_ENABLED", "OFF"),
        ("OTEL_SDK_DISABLED", "true"),
        ("TELEMETRY_ENABLED", "no"),
        ("DISTRIBUTED_TRACING_ENABLED", "False"),
    ];
    each(&off, |settings| (&settings.enabled.value, settings.enabled.source), &false);
    let on = [("BUTTRESS_ENABLED", "yes"), ("OTEL_SDK_DISABLED", "false"), ("TELEMETRY_ENABLED", "1")];
    each(&on, |settings| (&settings.enabled.value, settings.enabled.source), &true);
}

#[test]
fn the_service_is_named_by_the_environment_before_the_code() {
    let names = [("BUTTRESS_SERVICE_NAME", "store"), ("OTEL_SERVICE_NAME", "store")];
    each(&names, |settings| (&settings.service_name.value, settings.service_name.source), &"store".to_owned());
}

#[test]
fn resource_attributes_are_pairs_with_percent_encoded_values() {
    let settings = read(&[("OTEL_RESOURCE_ATTRIBUTES", " team = shop , note=a%2Cb ,, empty=")]);
    let pairs = [("team", "shop"), ("note", "a,b"), ("empty", "")].map(|(key, value)| (key.into(), value.into()));
    assert_eq!(settings.resource_attributes.value, pairs);
}

#[test]
fn every_sampler_has_its_otel_name() {
    for (text, expected) in [
        ("always_on", SamplerName::AlwaysOn),
        ("always_off", SamplerName::AlwaysOff),
        ("traceidratio", SamplerName::Ratio),
        ("parentbased_always_on", SamplerName::ParentBasedAlwaysOn),
        ("parentbased_always_off", SamplerName::ParentBasedAlwaysOff),
        ("parentbased_traceidratio", SamplerName::ParentBasedRatio),
    ] {
        let variables = [("BUTTRESS_SAMPLER", text), ("OTEL_TRACES_SAMPLER", text)];
        each(&variables, |settings| (&settings.sampler.value, settings.sampler.source), &expected);
    }
}

#[test]
fn the_settings_make_the_sampler_that_they_name() {
    let sampler = |name| {
        let settings = read(&[("BUTTRESS_SAMPLER", name), ("BUTTRESS_SAMPLING_RATIO", "0.25")]);
        format!("{:?}", settings.sampler())
    };
    assert_eq!(sampler("always_off"), "Sampler(always_off)");
    assert_eq!(sampler("traceidratio"), "Sampler(ratio(0.25))");
    assert_eq!(sampler("parentbased_traceidratio"), "Sampler(parent_based(Sampler(ratio(0.25))))");
    assert_eq!(sampler("parentbased_always_off"), "Sampler(parent_based(Sampler(always_off)))");
}

#[test]
fn a_ratio_without_a_sampler_means_a_parent_based_ratio() {
    let ratios =
        [("BUTTRESS_SAMPLING_RATIO", "0.1"), ("OTEL_TRACES_SAMPLER_ARG", "0.1"), ("TRACING_SAMPLING_RATE", "0.1")];
    each(&ratios, |settings| (&settings.sampling_ratio.value, settings.sampling_ratio.source), &ratio(0.1));
    for (name, value) in ratios {
        assert_eq!(read(&[(name, value)]).sampler.value, SamplerName::ParentBasedRatio);
    }
    let both = read(&[("TRACING_SAMPLING_RATE", "0.1"), ("OTEL_TRACES_SAMPLER", "always_on")]);
    assert_eq!(both.sampler.value, SamplerName::AlwaysOn);
}

fn ratio(share: f64) -> buttress::trace::Ratio {
    buttress::trace::Ratio::new(share).unwrap()
}

#[test]
fn propagators_are_a_list() {
    let of = |text| {
        let Propagators { tracecontext, baggage, b3, b3multi, .. } =
            read(&[("OTEL_PROPAGATORS", text)]).propagators.value;
        [tracecontext, baggage, b3, b3multi]
    };
    assert_eq!(of("tracecontext, b3"), [true, false, true, false]);
    assert_eq!(of("b3multi,baggage"), [false, true, false, true]);
    assert_eq!(of("none"), [false; 4]);
    assert_eq!(read(&[("BUTTRESS_PROPAGATORS", "b3")]).propagators.source, Source::Variable("BUTTRESS_PROPAGATORS"));
}

#[test]
fn trust_and_server_timing_have_their_variables() {
    let trust = [("BUTTRESS_TRUST", "public")];
    each(&trust, |settings| (&settings.trust.value, settings.trust.source), &TrustName::Public);
    let timing = [("BUTTRESS_SERVER_TIMING", "on")];
    each(&timing, |settings| (&settings.server_timing.value, settings.server_timing.source), &true);
}

#[test]
fn queue_and_ring_have_their_variables_and_their_bounds() {
    let queue = [("BUTTRESS_SPAN_QUEUE", "16"), ("OTEL_BSP_MAX_QUEUE_SIZE", "16")];
    each(&queue, |settings| (&settings.span_queue.value, settings.span_queue.source), &16);
    let ring = [("BUTTRESS_SPAN_RING", "0"), ("TRACING_MAX_TRACES", "0")];
    each(&ring, |settings| (&settings.span_ring.value, settings.span_ring.source), &0);
    assert!(try_read(&[("BUTTRESS_SPAN_QUEUE", "0")]).is_err());
    assert!(try_read(&[("BUTTRESS_SPAN_QUEUE", "1048577")]).is_err());
    assert!(try_read(&[("BUTTRESS_SPAN_RING", "1048577")]).is_err());
}

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
fn the_known_methods_are_those_of_the_list_and_no_others() {
    let variable = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS";
    let settings = read(&[(variable, "GET, PROPFIND")]);
    assert_eq!(settings.known_methods.value, KnownMethods::new(["GET", "PROPFIND"]).unwrap());
    assert!(settings.explain().contains(&format!("known_methods = [\"GET\", \"PROPFIND\"] ({variable})\n")));
    let many = |count: usize| (0..count).map(|nth| format!("M{nth}")).collect::<Vec<_>>().join(",");
    assert!(try_read(&[(variable, &many(31))]).is_ok());
    assert_eq!(try_read(&[(variable, &many(32))]).unwrap_err().variable(), variable);
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
fn what_is_measured_is_read_from_the_names_of_old_too() {
    let settings = read(&[
        ("METRICS_ENABLED", "false"),
        ("METRICS_PROMETHEUS_ENABLED", "no"),
        ("METRICS_EVENT_LOOP_MONITORING", "0"),
        ("METRICS_WINDOW_SIZE_SECONDS", "60"),
        ("METRICS_HISTOGRAM_BUCKETS", "25, 50,100"),
    ]);
    let metrics = &settings.metrics;
    assert!(!metrics.enabled.value && !metrics.prometheus.value && !metrics.runtime.value);
    assert_eq!(metrics.window.value, Duration::from_secs(60));
    let bounds = [25, 50, 100].map(Duration::from_millis);
    assert_eq!(metrics.duration_buckets.value, Buckets::durations(bounds).expect("they rise"));
    assert!(settings.explain().contains("metrics_buckets = [25ms, 50ms, 100ms] (METRICS_HISTOGRAM_BUCKETS)\n"));
    assert_eq!(read(&[("BUTTRESS_METRICS_BUCKETS", "page")]).metrics.duration_buckets.value, Buckets::page());
}

#[test]
fn bounds_of_metrics_that_make_no_sense_are_refused_by_name() {
    for (variable, value, accepted) in [
        ("METRICS_HISTOGRAM_BUCKETS", "50,25", "http, page, or rising numbers of milliseconds, separated by commas"),
        ("BUTTRESS_METRICS_WINDOW", "5", "a number of seconds from 10 to 10000"),
        ("BUTTRESS_METRICS_WINDOW_PRECISION", "11", "a number of bits from 3 to 10"),
        ("BUTTRESS_METRICS_WINDOW_BUDGET", "1", "a number of bytes from 65536 to 1073741824"),
        ("BUTTRESS_METRICS_MAX_ROUTES", "0", "a number from 1 to 10000"),
        ("BUTTRESS_METRICS_MAX_SERIES", "all", "a number from 1 to 100000"),
        ("BUTTRESS_METRICS_APDEX_TARGET", "0", "a number of milliseconds from 1 to 600000"),
    ] {
        let error = try_read(&[(variable, value)]).expect_err("it is not accepted");
        assert_eq!((error.variable(), error.value(), error.accepted()), (variable, value, accepted));
    }
}

#[test]
fn code_has_the_last_word() {
    let mut settings = read(&[("OTEL_SERVICE_NAME", "store")]);
    settings.service_name.value = "mine".to_owned();
    settings.service_name.source = Source::Code;
    assert!(settings.explain().contains("service_name = \"mine\" (code)\n"));
}

/// A value that the setting accepts.
fn sample(definition: &Definition) -> &'static str {
    match definition.name {
        "service_name" => "store",
        name if name.ends_with("_endpoint") => "http://collector",
        _ if definition.default.is_empty() => "team=shop",
        _ => definition.default,
    }
}

/// The line of the explanation, without its name.
fn line(settings: &Settings, definition: &Definition) -> String {
    let explained = settings.explain();
    let start = format!("{} = ", definition.name);
    explained.lines().find_map(|line| line.strip_prefix(&start)).expect("each setting has a line").to_owned()
}

#[test]
fn the_tables_of_the_documentation_are_those_of_the_code() {
    let written = include_str!("../docs/settings.md");
    assert_eq!(written, tables(), "write them by `cargo test -p buttress --all-features --test settings -- --ignored`");
}

#[test]
#[ignore = "writes the tables of the documentation"]
fn write_the_tables_of_the_documentation() {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md"), tables()).unwrap();
}

#[test]
fn what_is_defined_is_what_is_explained() {
    let explained = read(&[]).explain();
    let names: Vec<_> = explained.lines().map(|line| line.split_once(" = ").unwrap().0).collect();
    assert_eq!(names, DEFINITIONS.iter().map(|definition| definition.name).collect::<Vec<_>>());
}

#[test]
fn each_default_is_what_its_text_comes_to() {
    for definition in DEFINITIONS.iter().filter(|definition| !definition.default.is_empty()) {
        let [variable, ..] = definition.variables else { panic!("each has a variable") };
        let written = line(&read(&[(variable, definition.default)]), definition);
        let expected = line(&read(&[]), definition).replace("(default)", &format!("({variable})"));
        assert_eq!(written, expected, "{}", definition.name);
    }
}

#[test]
fn each_variable_alone_is_the_source_of_its_setting() {
    for definition in DEFINITIONS {
        for variable in definition.variables {
            let settings = read(&[(variable, sample(definition))]);
            assert!(line(&settings, definition).ends_with(&format!(" ({variable})")), "{variable}");
            assert!(settings.warnings().next().is_none(), "{variable}");
        }
    }
}

#[test]
fn of_two_variables_the_first_counts_and_the_other_is_told() {
    // Those of OTLP for all signals count for another signal; they have a test of their own.
    let for_one = |definition: &&Definition| !definition.variables[0].starts_with("OTEL_EXPORTER_OTLP_");
    for definition in DEFINITIONS.iter().filter(for_one) {
        for pair in definition.variables.windows(2) {
            let settings = read(&[(pair[1], sample(definition)), (pair[0], sample(definition))]);
            assert!(line(&settings, definition).ends_with(&format!(" ({})", pair[0])), "{pair:?}");
            let told = format!("{} is set but not used, because {} is set too", pair[1], pair[0]);
            assert_eq!(settings.warnings().collect::<Vec<_>>(), [told]);
        }
    }
}

#[test]
fn every_variable_refuses_nonsense_by_name() {
    // Any name will do for a service.
    for definition in DEFINITIONS.iter().filter(|definition| definition.name != "service_name") {
        for variable in definition.variables {
            let error = try_read(&[(variable, "?")]).expect_err(variable);
            assert_eq!((error.variable(), error.accepted()), (*variable, definition.accepted));
        }
    }
}

#[test]
fn a_variable_without_effect_is_told_with_the_reason_and_refused_no_value() {
    for WithoutEffect { variable, why, .. } in WITHOUT_EFFECT {
        let settings = read(&[(variable, "?")]);
        assert_eq!(settings.warnings().collect::<Vec<_>>(), [format!("{variable} is set but not used: {why}")]);
        assert!(settings.explain().ends_with(&format!("{variable} is set but not used: {why}\n")));
    }
    assert!(read(&[("OTEL_LOGS_EXPORTER", "none")]).warnings().next().is_none(), "that is what happens");
}

#[test]
fn every_name_that_services_know_is_a_setting_or_said_to_be_none() {
    let known: Vec<&str> = DEFINITIONS.iter().flat_map(|definition| definition.variables).copied().collect();
    let none: Vec<&str> = WITHOUT_EFFECT.iter().map(|without| without.variable).collect();
    assert!(!none.iter().any(|name| known.contains(name)), "not both");
    for name in [
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_PROPAGATORS",
        "OTEL_TRACES_EXPORTER",
        "OTEL_METRICS_EXPORTER",
        "OTEL_LOGS_EXPORTER",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "TELEMETRY_ENABLED",
        "METRICS_ENABLED",
        "EVENTS_ENABLED",
        "PERFORMANCE_MONITORING_ENABLED",
        "DISTRIBUTED_TRACING_ENABLED",
        "ALERTS_ENABLED",
        "METRICS_MAX_DATA_POINTS",
        "EVENTS_MAX_EVENTS",
        "TRACING_MAX_TRACES",
        "TRACING_SAMPLING_RATE",
        "METRICS_RETENTION_HOURS",
        "EVENTS_RETENTION_HOURS",
        "ALERTS_MAX_ALERTS",
        "METRICS_WINDOW_SIZE_SECONDS",
        "METRICS_MAX_SAMPLES",
        "METRICS_PROMETHEUS_ENABLED",
        "METRICS_EVENT_LOOP_MONITORING",
        "METRICS_HISTOGRAM_BUCKETS",
    ] {
        assert!(known.contains(&name) || none.contains(&name), "{name}");
    }
}
