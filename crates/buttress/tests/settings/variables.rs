//! Each variable, by all its names.

use std::time::Duration;

use buttress::metrics::Buckets;
use buttress::observe::KnownMethods;
use buttress::settings::{
    Exporter, HistogramAggregation, MetricsExporterName, OtlpProtocol, Propagators, SamplerName, Source, Temporality,
    TrustName,
};

use crate::{each, read, try_read};

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
