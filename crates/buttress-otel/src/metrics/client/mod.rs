//! Who carries a request to the collector.

#[cfg(feature = "otlp-grpc")]
mod grpc;
#[cfg(feature = "otlp-http")]
mod http;

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

use buttress::settings::{Otlp, OtlpProtocol};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};

use crate::otlp::{OtlpError, refuse_https};

/// What becomes of a request; of [`MetricsClient::export`].
pub type Exported<'a> =
    Pin<Box<dyn Future<Output = Result<ExportMetricsServiceResponse, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Carries requests to a collector. See the [module](crate::metrics) for an example.
///
/// The exporter gives up a request that takes too long, contains a panic, and counts both as failed.
pub trait MetricsClient: Send + Sync + 'static {
    /// Resolves to the collector's answer, or to the reason why there is none. An error means that the collector has not
    /// taken the request: its numbers are sent again.
    fn export(&self, request: ExportMetricsServiceRequest) -> Exported<'_>;
}

impl<C: MetricsClient + ?Sized> MetricsClient for Box<C> {
    fn export(&self, request: ExportMetricsServiceRequest) -> Exported<'_> {
        (**self).export(request)
    }
}

/// The client that the settings describe.
pub(super) fn by_settings(otlp: &Otlp) -> Result<Box<dyn MetricsClient>, OtlpError> {
    refuse_https(otlp)?;
    match otlp.protocol.value {
        OtlpProtocol::Grpc => over_grpc(otlp),
        _ => over_http(otlp),
    }
}

#[cfg(feature = "otlp-http")]
fn over_http(otlp: &Otlp) -> Result<Box<dyn MetricsClient>, OtlpError> {
    Ok(Box::new(self::http::Http::new(otlp)?))
}

#[cfg(not(feature = "otlp-http"))]
fn over_http(_otlp: &Otlp) -> Result<Box<dyn MetricsClient>, OtlpError> {
    Err(OtlpError::Feature("otlp-http"))
}

#[cfg(feature = "otlp-grpc")]
fn over_grpc(otlp: &Otlp) -> Result<Box<dyn MetricsClient>, OtlpError> {
    Ok(Box::new(self::grpc::Grpc::new(otlp)?))
}

#[cfg(not(feature = "otlp-grpc"))]
fn over_grpc(_otlp: &Otlp) -> Result<Box<dyn MetricsClient>, OtlpError> {
    Err(OtlpError::Feature("otlp-grpc"))
}
