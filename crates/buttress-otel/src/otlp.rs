//! Exporters to a collector, by the settings.

use std::fmt;

#[cfg(feature = "otlp-http")]
use buttress::settings::Source;
use buttress::settings::{Otlp, OtlpProtocol, Settings};
use http::{HeaderMap, HeaderName};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};

use crate::convert::resource;
use crate::sink::ExportSink;

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
    let otlp = &settings.traces_otlp;
    refuse_https(otlp)?;
    let exporter = match otlp.protocol.value {
        OtlpProtocol::Grpc => over_grpc(otlp)?,
        _ => over_http(otlp)?,
    };
    Ok(ExportSink::with_timeout(exporter, resource(settings), otlp.timeout.value))
}

#[cfg(feature = "otlp-http")]
fn over_http(otlp: &Otlp) -> Result<SpanExporter, OtlpError> {
    use opentelemetry_otlp::{Protocol, WithHttpConfig};

    let headers = otlp.headers.value.0.iter().cloned().collect();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(otlp.timeout.value)
        .with_headers(headers);
    if let Some(endpoint) = http_endpoint(otlp, "v1/traces") {
        exporter = exporter.with_endpoint(endpoint);
    }
    exporter.build().map_err(OtlpError::Build)
}

#[cfg(not(feature = "otlp-http"))]
fn over_http(_otlp: &Otlp) -> Result<SpanExporter, OtlpError> {
    Err(OtlpError::Feature("otlp-http"))
}

#[cfg(feature = "otlp-grpc")]
fn over_grpc(otlp: &Otlp) -> Result<SpanExporter, OtlpError> {
    use opentelemetry_otlp::WithTonicConfig;
    use tonic::metadata::MetadataMap;

    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_timeout(otlp.timeout.value)
        .with_metadata(MetadataMap::from_headers(headers(otlp)?));
    if let Some(endpoint) = otlp.endpoint.value.as_deref() {
        exporter = exporter.with_endpoint(endpoint);
    }
    exporter.build().map_err(OtlpError::Build)
}

#[cfg(not(feature = "otlp-grpc"))]
fn over_grpc(_otlp: &Otlp) -> Result<SpanExporter, OtlpError> {
    Err(OtlpError::Feature("otlp-grpc"))
}

/// Who sends, as the collector is told.
pub(crate) const USER: &str = concat!("buttress-otel/", env!("CARGO_PKG_VERSION"));

pub(crate) fn refuse_https(otlp: &Otlp) -> Result<(), OtlpError> {
    let is_https = otlp.endpoint.value.as_deref().is_some_and(|endpoint| endpoint.starts_with("https:"));
    if is_https { Err(OtlpError::Https) } else { Ok(()) }
}

/// The variable for all signals gives the base, the one for a signal the whole (OpenTelemetry, "OTLP exporter").
#[cfg(feature = "otlp-http")]
pub(crate) fn http_endpoint(otlp: &Otlp, path: &str) -> Option<String> {
    let endpoint = otlp.endpoint.value.as_deref()?;
    match otlp.endpoint.source {
        Source::Variable("OTEL_EXPORTER_OTLP_ENDPOINT") => Some(format!("{}/{path}", endpoint.trim_end_matches('/'))),
        _ => Some(endpoint.to_owned()),
    }
}

pub(crate) fn headers(otlp: &Otlp) -> Result<HeaderMap, OtlpError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &otlp.headers.value.0 {
        let header_name: HeaderName = name.parse().map_err(|_| OtlpError::Header(name.clone()))?;
        let header_value = value.parse().map_err(|_| OtlpError::Header(name.clone()))?;
        headers.append(header_name, header_value);
    }
    Ok(headers)
}

pub(crate) fn no_endpoint(endpoint: &str) -> OtlpError {
    OtlpError::Endpoint(buttress::redact::text(endpoint).into_owned())
}

/// No exporter could be made of the settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum OtlpError {
    /// The protocol that is asked for needs this feature of `buttress-otel`.
    Feature(&'static str),
    /// The endpoint is `https`. The clients here speak plain HTTP, to an agent beside the service; give an exporter with
    /// TLS of your own to [`ExportSink::new`], and a client to
    /// [`MetricsExporter::with_client`](crate::metrics::MetricsExporter::with_client), to reach further.
    Https,
    /// The endpoint is no URL; what it is, without secrets.
    Endpoint(String),
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
                "the OTLP exporters of buttress-otel speak http, not https; give an exporter with TLS to ExportSink::new \
                 and a client with TLS to MetricsExporter::with_client",
            ),
            Self::Endpoint(endpoint) => write!(f, "{endpoint:?} is no URL of a collector"),
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
