//! Exporters to a collector, by the settings.

use std::fmt;

use buttress::Telemetry;
#[cfg(feature = "otlp-http")]
use buttress::settings::Source;
use buttress::settings::{Exporter, OtlpProtocol, Settings};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};

use crate::convert::resource;
use crate::sink::ExportSink;

/// Adds the OTLP exporter when the settings ask for it (`OTEL_TRACES_EXPORTER=otlp`), and installs the context bridge.
///
/// # Errors
///
/// [`OtlpError`] when the exporter cannot be made of the settings.
///
/// # Panics
///
/// Outside a tokio runtime, when an exporter is asked for.
pub fn connect(telemetry: Telemetry) -> Result<Telemetry, OtlpError> {
    let settings = telemetry.settings();
    if !settings.enabled.value {
        return Ok(telemetry);
    }
    // A second service of the process finds the bridge there already.
    let _ = crate::install_bridge();
    if settings.traces_exporter.value != Exporter::Otlp {
        return Ok(telemetry);
    }
    let sink = otlp(settings)?;
    Ok(telemetry.with_sink(sink))
}

/// The sink that the settings describe: endpoint, protocol, headers, timeout.
///
/// # Errors
///
/// [`OtlpError`] when the exporter cannot be made of them.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn otlp(settings: &Settings) -> Result<ExportSink, OtlpError> {
    let is_https = settings.otlp_endpoint.value.as_deref().is_some_and(|endpoint| endpoint.starts_with("https:"));
    if is_https {
        return Err(OtlpError::Https);
    }
    let exporter = match settings.otlp_protocol.value {
        OtlpProtocol::Grpc => grpc(settings)?,
        _ => http(settings)?,
    };
    Ok(ExportSink::with_timeout(exporter, resource(settings), settings.otlp_timeout.value))
}

#[cfg(feature = "otlp-http")]
fn http(settings: &Settings) -> Result<SpanExporter, OtlpError> {
    use opentelemetry_otlp::{Protocol, WithHttpConfig};

    let headers = settings.otlp_headers.value.0.iter().cloned().collect();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(settings.otlp_timeout.value)
        .with_headers(headers);
    if let Some(endpoint) = http_endpoint(settings) {
        exporter = exporter.with_endpoint(endpoint);
    }
    exporter.build().map_err(OtlpError::Build)
}

#[cfg(not(feature = "otlp-http"))]
fn http(_settings: &Settings) -> Result<SpanExporter, OtlpError> {
    Err(OtlpError::Feature("otlp-http"))
}

/// The variable for all signals gives the base, the one for traces the whole (OpenTelemetry, "OTLP exporter").
#[cfg(feature = "otlp-http")]
fn http_endpoint(settings: &Settings) -> Option<String> {
    let endpoint = settings.otlp_endpoint.value.as_deref()?;
    match settings.otlp_endpoint.source {
        Source::Variable("OTEL_EXPORTER_OTLP_ENDPOINT") => {
            Some(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        }
        _ => Some(endpoint.to_owned()),
    }
}

#[cfg(feature = "otlp-grpc")]
fn grpc(settings: &Settings) -> Result<SpanExporter, OtlpError> {
    use opentelemetry_otlp::WithTonicConfig;
    use tonic::metadata::MetadataMap;

    let mut headers = http::HeaderMap::new();
    for (name, value) in &settings.otlp_headers.value.0 {
        let header_name: http::HeaderName = name.parse().map_err(|_| OtlpError::Header(name.clone()))?;
        let header_value = value.parse().map_err(|_| OtlpError::Header(name.clone()))?;
        headers.append(header_name, header_value);
    }
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_timeout(settings.otlp_timeout.value)
        .with_metadata(MetadataMap::from_headers(headers));
    if let Some(endpoint) = settings.otlp_endpoint.value.as_deref() {
        exporter = exporter.with_endpoint(endpoint);
    }
    exporter.build().map_err(OtlpError::Build)
}

#[cfg(not(feature = "otlp-grpc"))]
fn grpc(_settings: &Settings) -> Result<SpanExporter, OtlpError> {
    Err(OtlpError::Feature("otlp-grpc"))
}

/// No exporter could be made of the settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum OtlpError {
    /// The protocol that is asked for needs this feature of `buttress-otel`.
    Feature(&'static str),
    /// The endpoint is `https`. The clients here speak plain HTTP, to an agent beside the service; give an exporter with
    /// TLS of your own to [`ExportSink::new`] to reach further.
    Https,
    /// A header for the collector that is no HTTP header; its name.
    Header(String),
    /// OpenTelemetry refused the settings.
    Build(ExporterBuildError),
}

impl fmt::Display for OtlpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(feature) => {
                write!(f, "this OTLP protocol needs the feature {feature:?} of buttress-otel")
            }
            Self::Https => f.write_str(
                "the OTLP exporters of buttress-otel speak http, not https; give an exporter with TLS to ExportSink::new",
            ),
            Self::Header(name) => write!(f, "{name:?} or its value is no HTTP header for a collector"),
            Self::Build(_) => f.write_str("the OTLP exporter could not be made of the settings"),
        }
    }
}

impl std::error::Error for OtlpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Build(error) => Some(error),
            _ => None,
        }
    }
}
