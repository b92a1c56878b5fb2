//! Where spans and metrics go, and how.

use std::fmt;
use std::time::Duration;

use super::definition::{self, OtlpDefinitions};
use super::{Setting, SettingsError, Source, Variables, key_values};

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtlpProtocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    HttpProtobuf,
}

/// Header names and values; the values are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The collector of one signal, and how to talk to it. `Debug` shows no secret of the endpoint or a header.
#[derive(Clone)]
#[non_exhaustive]
pub struct Otlp {
    /// The collector, as the variable gives it; `None` leaves it to the exporter.
    pub endpoint: Setting<Option<String>>,
    /// How OTLP is spoken.
    pub protocol: Setting<OtlpProtocol>,
    /// How long one export may take.
    pub timeout: Setting<Duration>,
    /// Headers for the collector; they may hold keys, so that only their names are shown.
    pub headers: Setting<Headers>,
}

impl Otlp {
    pub(super) fn read(variables: &mut Variables<'_>, of: &OtlpDefinitions) -> Result<Self, SettingsError> {
        Ok(Self {
            endpoint: variables.read(
                &of.endpoint,
                |_, text| (text.starts_with("http://") || text.starts_with("https://")).then(|| Some(text.to_owned())),
                None,
            )?,
            protocol: variables.read(
                &of.protocol,
                |_, text| match text {
                    "grpc" => Some(OtlpProtocol::Grpc),
                    "http/protobuf" => Some(OtlpProtocol::HttpProtobuf),
                    _ => None,
                },
                OtlpProtocol::HttpProtobuf,
            )?,
            timeout: variables.read(&of.timeout, |_, text| millis(text, 1), Duration::from_secs(10))?,
            headers: variables.read(&of.headers, |_, text| key_values(text).map(Headers), Headers::default())?,
        })
    }

    /// Whether one of these settings comes from this variable.
    pub(super) fn is_from(&self, variable: &'static str) -> bool {
        let sources = [self.endpoint.source, self.protocol.source, self.timeout.source, self.headers.source];
        sources.contains(&Source::Variable(variable))
    }

    pub(super) fn explain(&self, signal: &str, line: &mut dyn FnMut(&str, &dyn fmt::Debug, Source)) {
        line(&format!("{signal}_otlp_endpoint"), &self.endpoint_shown(), self.endpoint.source);
        line(&format!("{signal}_otlp_protocol"), &self.protocol.value, self.protocol.source);
        line(&format!("{signal}_otlp_timeout"), &self.timeout.value, self.timeout.source);
        line(&format!("{signal}_otlp_headers"), &self.headers.value, self.headers.source);
    }

    fn endpoint_shown(&self) -> impl fmt::Debug {
        self.endpoint.value.as_deref().map(crate::redact::text)
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("endpoint", &self.endpoint_shown())
            .field("protocol", &self.protocol.value)
            .field("timeout", &self.timeout.value)
            .field("headers", &self.headers.value)
            .finish()
    }
}

/// Where metrics are pushed to. Whoever pulls them, as Prometheus does, finds them in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricsExporterName {
    /// `otlp`: needs the crate `buttress-otel`.
    Otlp,
    /// `none`, or `prometheus`: nowhere.
    None,
}

/// What an export of metrics counts from (`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Temporality {
    /// `cumulative`: everything from the start of the program.
    Cumulative,
    /// `delta`: counters and histograms from the export before; what rises and falls from the start.
    Delta,
    /// `lowmemory`: as `delta`, because every counter here is one that OpenTelemetry calls synchronous.
    LowMemory,
}

/// How histograms are exported (`OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistogramAggregation {
    /// `explicit_bucket_histogram`: with the bounds of the metric.
    Explicit,
    /// `base2_exponential_bucket_histogram`, for the metrics of a registry with
    /// [`native_histograms`](crate::metrics::MetricsConfig::native_histograms).
    Exponential,
}

/// How metrics are exported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MetricsExport {
    /// Where they go.
    pub exporter: Setting<MetricsExporterName>,
    /// How often.
    pub interval: Setting<Duration>,
    /// What an export counts from.
    pub temporality: Setting<Temporality>,
    /// How histograms are told.
    pub histograms: Setting<HistogramAggregation>,
    /// The collector.
    pub otlp: Otlp,
}

impl MetricsExport {
    pub(super) fn read(variables: &mut Variables<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            exporter: variables.read(
                &definition::METRICS_EXPORTER,
                |_, text| exporter(text),
                MetricsExporterName::None,
            )?,
            interval: variables.read(
                &definition::METRICS_INTERVAL,
                |_, text| millis(text, 100),
                Duration::from_secs(60),
            )?,
            temporality: variables.read(
                &definition::METRICS_TEMPORALITY,
                |_, text| temporality(text),
                Temporality::Cumulative,
            )?,
            histograms: variables.read(
                &definition::METRICS_HISTOGRAMS,
                |_, text| histograms(text),
                HistogramAggregation::Explicit,
            )?,
            otlp: Otlp::read(variables, &definition::METRICS)?,
        })
    }

    pub(super) fn explain(&self, line: &mut dyn FnMut(&str, &dyn fmt::Debug, Source)) {
        line("metrics_exporter", &self.exporter.value, self.exporter.source);
        line("metrics_interval", &self.interval.value, self.interval.source);
        line("metrics_temporality", &self.temporality.value, self.temporality.source);
        line("metrics_histograms", &self.histograms.value, self.histograms.source);
        self.otlp.explain("metrics", line);
    }
}

fn millis(text: &str, least: u64) -> Option<Duration> {
    text.parse().ok().filter(|millis| *millis >= least).map(Duration::from_millis)
}

fn exporter(text: &str) -> Option<MetricsExporterName> {
    let mut found = MetricsExporterName::None;
    for name in text.split(',').map(str::trim) {
        match name {
            "otlp" => found = MetricsExporterName::Otlp,
            "prometheus" | "none" => {}
            _ => return None,
        }
    }
    Some(found)
}

/// In any case, as OpenTelemetry has it ("Metrics Exporter - OTLP").
fn temporality(text: &str) -> Option<Temporality> {
    match text.to_ascii_lowercase().as_str() {
        "cumulative" => Some(Temporality::Cumulative),
        "delta" => Some(Temporality::Delta),
        "lowmemory" => Some(Temporality::LowMemory),
        _ => None,
    }
}

/// In any case, too.
fn histograms(text: &str) -> Option<HistogramAggregation> {
    match text.to_ascii_lowercase().as_str() {
        "explicit_bucket_histogram" => Some(HistogramAggregation::Explicit),
        "base2_exponential_bucket_histogram" => Some(HistogramAggregation::Exponential),
        _ => None,
    }
}
