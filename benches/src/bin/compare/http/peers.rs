//! The libraries that services use today, with the metrics that go with them.

use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use fastrace_tower::FastraceServerLayer;
use opentelemetry_instrumentation_tower::http::server::LayerBuilder;
use tower_otel::{metrics, trace};
use tracing::Level;

use super::exporter::Exporter;
use super::server::{Settle, Stack};
use crate::peers::install::{Spans, meter};
use crate::peers::{AXUM, OTEL_TOWER, PICKED_FASTRACE, TOWER_OTEL};

pub fn subjects() -> [(&'static str, Stack); 4] {
    [
        (AXUM, |app, collector| {
            let spans = Spans::through_tracing(Exporter::to(collector));
            (app.layer(metrics::HttpLayer::server(&meter())).layer(OtelAxumLayer::default()), settled(spans))
        }),
        (TOWER_OTEL, |app, collector| {
            let spans = Spans::through_tracing(Exporter::to(collector));
            (
                app.layer(metrics::HttpLayer::server(&meter())).layer(trace::HttpLayer::server(Level::INFO)),
                settled(spans),
            )
        }),
        (OTEL_TOWER, |app, collector| {
            let spans = Spans::of_the_sdk(Exporter::to(collector));
            meter();
            (app.layer(LayerBuilder::builder().build().expect("the defaults are valid")), settled(spans))
        }),
        (PICKED_FASTRACE, |app, collector| {
            let spans = Spans::of_fastrace(Exporter::to(collector));
            (app.layer(metrics::HttpLayer::server(&meter())).layer(FastraceServerLayer::default()), settled(spans))
        }),
    ]
}

fn settled(spans: Spans) -> Settle {
    Box::new(move || spans.settle())
}
