//! Every variable, who wins, and what is said about it.
#![cfg(feature = "telemetry")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::time::Duration;

use buttress::settings::{
    Exporter, OtlpProtocol, Propagators, SamplerName, Settings, SettingsError, Source, TrustName,
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
    assert_eq!(settings.otlp_endpoint.value, None);
    assert_eq!(settings.otlp_protocol.value, OtlpProtocol::HttpProtobuf);
    assert_eq!(settings.otlp_timeout.value, Duration::from_secs(10));
    assert!(settings.otlp_headers.value.0.is_empty());
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
fn otlp_is_set_for_traces_before_it_is_set_for_all_signals() {
    let endpoint = "https://collector:4318".to_owned();
    let endpoints = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
    let some = Some(endpoint.clone());
    each(&endpoints, |settings| (&settings.otlp_endpoint.value, settings.otlp_endpoint.source), &some);
    let protocols = [("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    each(&protocols, |settings| (&settings.otlp_protocol.value, settings.otlp_protocol.source), &OtlpProtocol::Grpc);
    let timeouts = [("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")];
    let quarter = Duration::from_millis(250);
    each(&timeouts, |settings| (&settings.otlp_timeout.value, settings.otlp_timeout.source), &quarter);
    for name in ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"] {
        let headers = read(&[(name, "authorization=Bearer%20x,x-team=shop")]).otlp_headers.value.0;
        let pairs = [("authorization", "Bearer x"), ("x-team", "shop")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(headers, pairs);
    }
    let both =
        read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces")]);
    assert_eq!(both.otlp_endpoint.value.as_deref(), Some("http://traces"));
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
        ("BUTTRESS_SPAN_QUEUE", "-1", "a number from 1 to 1048576"),
        ("TRACING_MAX_TRACES", "many", "a number from 0 to 1048576"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console or none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "an http or https URL"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "a number of milliseconds, at least 1"),
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
        "span_queue",
        "span_ring",
        "traces_exporter",
        "otlp_endpoint",
        "otlp_protocol",
        "otlp_timeout",
        "otlp_headers",
    ];
    assert_eq!(names, all);
    assert!(explained.contains("sampling_ratio = 0.5 (OTEL_TRACES_SAMPLER_ARG)\n"), "{explained}");
    assert!(explained.contains("otlp_headers = [\"x-team\"] (OTEL_EXPORTER_OTLP_HEADERS)\n"), "{explained}");
}

#[test]
fn code_has_the_last_word() {
    let mut settings = read(&[("OTEL_SERVICE_NAME", "store")]);
    settings.service_name.value = "mine".to_owned();
    settings.service_name.source = Source::Code;
    assert!(settings.explain().contains("service_name = \"mine\" (code)\n"));
}
