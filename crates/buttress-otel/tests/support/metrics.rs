//! A registry with one exporter, and what a collector makes of its requests.

use buttress::settings::Settings;
use buttress_otel::metrics::{Exported, MetricsClient};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::Metric;

use super::script::Script;

pub(crate) type Requests = Script<ExportMetricsServiceRequest>;

impl MetricsClient for Requests {
    fn export(&self, request: ExportMetricsServiceRequest) -> Exported<'_> {
        let played = self.play(request);
        Box::pin(async {
            played.await?;
            Ok(ExportMetricsServiceResponse::default())
        })
    }
}

pub(crate) fn settings(variables: &[(&str, &str)]) -> Settings {
    let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Settings::read("storefront", lookup).expect("the settings are fine")
}

/// The metrics of a request.
pub(crate) fn metrics(request: &ExportMetricsServiceRequest) -> &[Metric] {
    &request.resource_metrics[0].scope_metrics[0].metrics
}

/// One of them by its name.
pub(crate) fn metric<'a>(request: &'a ExportMetricsServiceRequest, name: &str) -> &'a Metric {
    metrics(request).iter().find(|metric| metric.name == name).expect("the metric is there")
}
