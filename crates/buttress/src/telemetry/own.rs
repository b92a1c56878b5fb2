//! What the telemetry tells of itself, by OpenTelemetry's names for SDKs.

use crate::metrics::Registry;
use crate::trace::Spans;

/// Reports, at each tick, what became of the spans.
pub(super) fn report(spans: &Spans, metrics: &Registry) {
    let processed = metrics
        .counter("otel.sdk.processor.span.processed")
        .unit("{span}")
        .description("Spans that have ended and were given to every sink, or dropped because a queue was full");
    let delivered = processed.with([("otel.component.type", "buttress")]);
    let dropped = processed.with([("otel.component.type", "buttress"), ("error.type", "queue_full")]);
    let spans = spans.clone();
    metrics.add_source(move |_now| {
        let stats = spans.stats();
        delivered.advance_to(stats.exported);
        dropped.advance_to(stats.dropped);
    });
}
