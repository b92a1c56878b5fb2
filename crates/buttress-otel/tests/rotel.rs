//! Our spans through a collector of somebody else's.
#![cfg(feature = "otlp-http")]

mod support;

use buttress::Telemetry;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use support::agent::{self, PATIENCE};
use support::collector::http_collector;
use support::metrics::settings;
use support::serve;
use tokio::time::timeout;

#[tokio::test]
async fn our_spans_pass_through_an_agent_of_somebody_else() {
    let (collector, mut received) = http_collector::<ExportTraceServiceRequest>().await;
    let Some(agent) = agent::start(&collector, &[]).await else { return };
    let settings = settings(&[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &agent.http)]);
    let telemetry = buttress_otel::connect(Telemetry::new(settings)).expect("an exporter");
    serve(telemetry.spans(), 3).await;
    telemetry.shutdown(PATIENCE).await.expect("the agent takes them");

    let mut names = Vec::new();
    while names.len() < 3 {
        let got = timeout(PATIENCE, received.recv()).await.expect("the agent passes them on").expect("it listens");
        let scopes = got.request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        names.extend(scopes.flat_map(|scope| &scope.spans).map(|span| span.name.clone()));
    }
    assert_eq!(names, ["GET"; 3]);
}
