//! What can be set, in one place: read by the settings, told by their errors, and shown as a table in the documentation.

use std::fmt::Write;

/// Something that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definition {
    /// As [`Settings::explain`](super::Settings::explain) has it.
    pub name: &'static str,
    /// The variables; the first that is set counts.
    pub variables: &'static [&'static str],
    /// What is accepted, as [`SettingsError`](super::SettingsError) has it.
    pub accepted: &'static str,
    /// As a variable would have it; empty where there is no value to write.
    pub default: &'static str,
    /// What it does, in Markdown.
    pub about: &'static str,
}

/// A variable of other programs that has no effect here, so that nobody believes it had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WithoutEffect {
    /// The variable.
    pub variable: &'static str,
    /// Why, or what to set in its place.
    pub why: &'static str,
}

const PAIRS: &str = "key=value pairs, separated by commas";
const SAMPLERS: &str =
    "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio";

const fn define(
    name: &'static str,
    variables: &'static [&'static str],
    accepted: &'static str,
    default: &'static str,
    about: &'static str,
) -> Definition {
    Definition { name, variables, accepted, default, about }
}

pub(super) const ENABLED: Definition = define(
    "enabled",
    &["BUTTRESS_ENABLED", "OTEL_SDK_DISABLED", "TELEMETRY_ENABLED", "DISTRIBUTED_TRACING_ENABLED"],
    "true or false",
    "true",
    "whether anything is observed; `OTEL_SDK_DISABLED` is turned round",
);
pub(super) const SERVICE_NAME: Definition = define(
    "service_name",
    &["BUTTRESS_SERVICE_NAME", "OTEL_SERVICE_NAME"],
    "a name",
    "",
    "`service.name`; the one given in code where none is set",
);
pub(super) const RESOURCE_ATTRIBUTES: Definition = define(
    "resource_attributes",
    &["OTEL_RESOURCE_ATTRIBUTES"],
    PAIRS,
    "",
    "further attributes of the resource, values percent-encoded",
);
pub(super) const SAMPLER: Definition = define(
    "sampler",
    &["BUTTRESS_SAMPLER", "OTEL_TRACES_SAMPLER"],
    SAMPLERS,
    "parentbased_always_on",
    "which spans are recorded; with a ratio and no sampler it is `parentbased_traceidratio`",
);
pub(super) const SAMPLING_RATIO: Definition = define(
    "sampling_ratio",
    &["BUTTRESS_SAMPLING_RATIO", "OTEL_TRACES_SAMPLER_ARG", "TRACING_SAMPLING_RATE"],
    "a number between 0 and 1",
    "1",
    "for the samplers with a ratio",
);
pub(super) const PROPAGATORS: Definition = define(
    "propagators",
    &["BUTTRESS_PROPAGATORS", "OTEL_PROPAGATORS"],
    "none, or some of tracecontext, baggage, b3, b3multi, separated by commas",
    "tracecontext,baggage",
    "which headers are read and written",
);
pub(super) const TRUST: Definition = define(
    "trust",
    &["BUTTRESS_TRUST"],
    "internal or public",
    "internal",
    "whom a server believes: everybody, or nobody, whose traces are restarted and linked",
);
pub(super) const SERVER_TIMING: Definition = define(
    "server_timing",
    &["BUTTRESS_SERVER_TIMING"],
    "true or false",
    "false",
    "whether answers carry `server-timing`",
);
pub(super) const KNOWN_METHODS: Definition = define(
    "known_methods",
    &["OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"],
    "1 to 31 names of methods, separated by commas",
    "CONNECT,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT,QUERY,TRACE",
    "which methods spans and metrics tell by name; others are `_OTHER`",
);
pub(super) const SPAN_QUEUE: Definition = define(
    "span_queue",
    &["BUTTRESS_SPAN_QUEUE", "OTEL_BSP_MAX_QUEUE_SIZE"],
    "a number from 1 to 1048576",
    "8192",
    "room for spans on their way to the sinks",
);
pub(super) const SPAN_RING: Definition = define(
    "span_ring",
    &["BUTTRESS_SPAN_RING", "TRACING_MAX_TRACES"],
    "a number from 0 to 1048576",
    "1024",
    "the latest spans kept in memory",
);
pub(super) const TRACES_EXPORTER: Definition = define(
    "traces_exporter",
    &["BUTTRESS_TRACES_EXPORTER", "OTEL_TRACES_EXPORTER"],
    "otlp, console or none",
    "none",
    "where spans go; `otlp` needs `buttress-otel`, `console` is JSON lines on standard output",
);
pub(super) const METRICS_EXPORTER: Definition = define(
    "metrics_exporter",
    &["BUTTRESS_METRICS_EXPORTER", "OTEL_METRICS_EXPORTER"],
    "none, or some of otlp, prometheus, separated by commas",
    "none",
    "where metrics are pushed to; Prometheus, which pulls, finds them in any case",
);
pub(super) const METRICS_INTERVAL: Definition = define(
    "metrics_interval",
    &["OTEL_METRIC_EXPORT_INTERVAL"],
    "a number of milliseconds, at least 100",
    "60000",
    "how often metrics are pushed",
);
pub(super) const METRICS_TEMPORALITY: Definition = define(
    "metrics_temporality",
    &["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"],
    "cumulative, delta or lowmemory",
    "cumulative",
    "what an export counts from",
);
pub(super) const METRICS_HISTOGRAMS: Definition = define(
    "metrics_histograms",
    &["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
    "explicit_bucket_histogram or base2_exponential_bucket_histogram",
    "explicit_bucket_histogram",
    "how histograms are exported",
);
pub(super) const METRICS_ENABLED: Definition = define(
    "metrics_enabled",
    &["BUTTRESS_METRICS_ENABLED", "METRICS_ENABLED"],
    "true or false",
    "true",
    "whether anything is measured",
);
pub(super) const METRICS_PROMETHEUS: Definition = define(
    "metrics_prometheus",
    &["BUTTRESS_METRICS_PROMETHEUS", "METRICS_PROMETHEUS_ENABLED"],
    "true or false",
    "true",
    "whether the pages show metrics to Prometheus",
);
pub(super) const METRICS_INTERNAL: Definition = define(
    "metrics_internal",
    &["BUTTRESS_METRICS_INTERNAL"],
    "true or false",
    "false",
    "whether they do at `/internal/metrics` too",
);
pub(super) const METRICS_RUNTIME: Definition = define(
    "metrics_runtime",
    &["BUTTRESS_METRICS_RUNTIME", "METRICS_EVENT_LOOP_MONITORING"],
    "true or false",
    "true",
    "whether the runtime's lag is watched",
);
pub(super) const METRICS_BUCKETS: Definition = define(
    "metrics_buckets",
    &["BUTTRESS_METRICS_BUCKETS", "METRICS_HISTOGRAM_BUCKETS"],
    "http, page, or rising numbers of milliseconds, separated by commas",
    "http",
    "bounds of the buckets of durations",
);
pub(super) const METRICS_WINDOW: Definition = define(
    "metrics_window",
    &["BUTTRESS_METRICS_WINDOW", "METRICS_WINDOW_SIZE_SECONDS"],
    "a number of seconds from 10 to 10000",
    "300",
    "how far back sliding windows reach",
);
pub(super) const METRICS_WINDOW_PRECISION: Definition = define(
    "metrics_window_precision",
    &["BUTTRESS_METRICS_WINDOW_PRECISION"],
    "a number of bits from 3 to 10",
    "5",
    "how finely windows tell values apart",
);
pub(super) const METRICS_WINDOW_BUDGET: Definition = define(
    "metrics_window_budget",
    &["BUTTRESS_METRICS_WINDOW_BUDGET"],
    "a number of bytes from 65536 to 1073741824",
    "16777216",
    "memory of all sliding windows together",
);
pub(super) const METRICS_MAX_ROUTES: Definition = define(
    "metrics_max_routes",
    &["BUTTRESS_METRICS_MAX_ROUTES"],
    "a number from 1 to 10000",
    "1000",
    "routes that are told apart",
);
pub(super) const METRICS_MAX_SERIES: Definition = define(
    "metrics_max_series",
    &["BUTTRESS_METRICS_MAX_SERIES"],
    "a number from 1 to 100000",
    "2000",
    "series of one metric",
);
pub(super) const METRICS_NATIVE_HISTOGRAMS: Definition = define(
    "metrics_native_histograms",
    &["BUTTRESS_METRICS_NATIVE_HISTOGRAMS"],
    "true or false",
    "false",
    "whether histograms are kept in fine buckets too",
);
pub(super) const METRICS_APDEX_TARGET: Definition = define(
    "metrics_apdex_target",
    &["BUTTRESS_METRICS_APDEX_TARGET"],
    "a number of milliseconds from 1 to 600000",
    "500",
    "what is fast enough to satisfy",
);

/// Not among the settings of telemetry.
pub(super) const PORT: Definition = define("port", &["PORT"], "a number from 0 to 65535", "", "where a server listens");

/// The collector of one signal.
pub(super) struct OtlpDefinitions {
    pub(super) endpoint: Definition,
    pub(super) protocol: Definition,
    pub(super) timeout: Definition,
    pub(super) headers: Definition,
}

pub(super) const TRACES: OtlpDefinitions = OtlpDefinitions {
    endpoint: define(
        "traces_otlp_endpoint",
        &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        "an http or https URL",
        "",
        "the collector of spans; the exporter knows a usual one",
    ),
    protocol: define(
        "traces_otlp_protocol",
        &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
        "grpc or http/protobuf",
        "http/protobuf",
        "how OTLP is spoken to it",
    ),
    timeout: define(
        "traces_otlp_timeout",
        &["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
        "a number of milliseconds, at least 1",
        "10000",
        "how long one export may take",
    ),
    headers: define(
        "traces_otlp_headers",
        &["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
        PAIRS,
        "",
        "headers for the collector; their values are not shown",
    ),
};
pub(super) const METRICS: OtlpDefinitions = OtlpDefinitions {
    endpoint: define(
        "metrics_otlp_endpoint",
        &["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        "an http or https URL",
        "",
        "the collector of metrics; the exporter knows a usual one",
    ),
    protocol: define(
        "metrics_otlp_protocol",
        &["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
        "grpc or http/protobuf",
        "http/protobuf",
        "how OTLP is spoken to it",
    ),
    timeout: define(
        "metrics_otlp_timeout",
        &["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
        "a number of milliseconds, at least 1",
        "10000",
        "how long one export may take",
    ),
    headers: define(
        "metrics_otlp_headers",
        &["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
        PAIRS,
        "",
        "headers for the collector; their values are not shown",
    ),
};

/// Everything that can be set, in the order of [`Settings::explain`](super::Settings::explain).
pub const DEFINITIONS: &[Definition] = &[
    ENABLED,
    SERVICE_NAME,
    RESOURCE_ATTRIBUTES,
    SAMPLER,
    SAMPLING_RATIO,
    PROPAGATORS,
    TRUST,
    SERVER_TIMING,
    KNOWN_METHODS,
    SPAN_QUEUE,
    SPAN_RING,
    TRACES_EXPORTER,
    TRACES.endpoint,
    TRACES.protocol,
    TRACES.timeout,
    TRACES.headers,
    METRICS_EXPORTER,
    METRICS_INTERVAL,
    METRICS_TEMPORALITY,
    METRICS_HISTOGRAMS,
    METRICS.endpoint,
    METRICS.protocol,
    METRICS.timeout,
    METRICS.headers,
    METRICS_ENABLED,
    METRICS_PROMETHEUS,
    METRICS_INTERNAL,
    METRICS_RUNTIME,
    METRICS_BUCKETS,
    METRICS_WINDOW,
    METRICS_WINDOW_PRECISION,
    METRICS_WINDOW_BUDGET,
    METRICS_MAX_ROUTES,
    METRICS_MAX_SERIES,
    METRICS_NATIVE_HISTOGRAMS,
    METRICS_APDEX_TARGET,
];

const NO_EVENTS: &str = "there are no events yet; they come with `buttress-monitor`";
const NO_ALERTS: &str = "there are no alerts yet; they come with `buttress-monitor`";

/// Variables that services set elsewhere, and that nothing here reads.
pub const WITHOUT_EFFECT: &[WithoutEffect] = &[
    without("EVENTS_ENABLED", NO_EVENTS),
    without("EVENTS_MAX_EVENTS", NO_EVENTS),
    without("EVENTS_RETENTION_HOURS", NO_EVENTS),
    without("ALERTS_ENABLED", NO_ALERTS),
    without("ALERTS_MAX_ALERTS", NO_ALERTS),
    without("PERFORMANCE_MONITORING_ENABLED", "there is no monitor yet; it comes with `buttress-monitor`"),
    without(
        "METRICS_MAX_DATA_POINTS",
        "no data points are kept, but series: `BUTTRESS_METRICS_MAX_SERIES` bounds them",
    ),
    without("METRICS_MAX_SAMPLES", "no samples are kept, but histograms: `BUTTRESS_METRICS_WINDOW_BUDGET` bounds them"),
    without("METRICS_RETENTION_HOURS", "windows reach back for minutes: `BUTTRESS_METRICS_WINDOW` says how far"),
    without("OTEL_LOGS_EXPORTER", "logs are not exported; they get the ids of their trace where they are written"),
];

const fn without(variable: &'static str, why: &'static str) -> WithoutEffect {
    WithoutEffect { variable, why }
}

/// [`DEFINITIONS`] and [`WITHOUT_EFFECT`] as tables of Markdown.
pub fn tables() -> String {
    let mut text = "| setting | variables, the first that is set counts | accepted | default | what it does |\n\
                    |---|---|---|---|---|\n"
        .to_owned();
    for Definition { name, variables, accepted, default, about } in DEFINITIONS {
        let variables: Vec<_> = variables.iter().map(|name| format!("`{name}`")).collect();
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let _ = writeln!(text, "| {name} | {} | {accepted} | {default} | {about} |", variables.join(", "));
    }
    text.push_str("\n| variable without effect | why |\n|---|---|\n");
    for WithoutEffect { variable, why } in WITHOUT_EFFECT {
        let _ = writeln!(text, "| `{variable}` | {why} |");
    }
    text
}
