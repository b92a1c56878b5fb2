use buttress::settings::Otlp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use super::{Exported, MetricsClient};
use crate::otlp::{OtlpError, USER, headers, no_endpoint};

/// `grpc`
pub(super) struct Grpc {
    client: MetricsServiceClient<Channel>,
    metadata: MetadataMap,
}

impl Grpc {
    pub(super) fn new(otlp: &Otlp) -> Result<Self, OtlpError> {
        let endpoint = otlp.endpoint.value.as_deref().unwrap_or("http://localhost:4317");
        let is_wrong = |_| no_endpoint(endpoint);
        // Lazy: a collector that comes up later than the service is found at the next export.
        let channel = Endpoint::from_shared(endpoint.to_owned())
            .and_then(|endpoint| endpoint.user_agent(USER))
            .map_err(is_wrong)?
            .connect_lazy();
        Ok(Self { client: MetricsServiceClient::new(channel), metadata: MetadataMap::from_headers(headers(otlp)?) })
    }
}

impl MetricsClient for Grpc {
    fn export(&self, message: ExportMetricsServiceRequest) -> Exported<'_> {
        let mut client = self.client.clone();
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        Box::pin(async move { Ok(client.export(request).await?.into_inner()) })
    }
}
