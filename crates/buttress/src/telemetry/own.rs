//! What the telemetry tells of itself, by OpenTelemetry's names for SDKs; what begins with `buttress` has none there.

use crate::metrics::Registry;
use crate::trace::Spans;

/// Reports, at each tick, what became of the spans, and what the sampler said when they started.
pub(super) fn report(spans: &Spans, metrics: &Registry) {
    let processed = metrics
        .counter("otel.sdk.processor.span.processed")
        .unit("{span}")
        .description("Spans that have ended and were given to every sink, or dropped because a queue was full");
    let delivered = processed.with([("otel.component.type", "buttress")]);
    let dropped = processed.with([("otel.component.type", "buttress"), ("error.type", "queue_full")]);
    let started = metrics
        .counter("otel.sdk.span.started")
        .unit("{span}")
        .description("Spans that were started, by what the sampler said, those that nobody records among them");
    let of_sampler = |name, what: &'static str| metrics.counter(name).unit("{span}").description(what).with(());
    let rate_limited = of_sampler(
        "buttress.sampler.rate_limited",
        "Spans that were not sampled because there were too many in that second",
    );
    let kept_late =
        of_sampler("buttress.sampler.kept_late", "Spans that were not sampled, and kept because of how they went");
    let spans = spans.clone();
    metrics.add_source(move |_now| {
        let stats = spans.stats();
        delivered.advance_to(stats.exported);
        dropped.advance_to(stats.dropped);
        rate_limited.advance_to(stats.rate_limited);
        kept_late.advance_to(stats.kept_late);
        for (origin, result, count) in spans.started() {
            let labels = [("otel.span.parent.origin", origin), ("otel.span.sampling_result", result)];
            started.with(labels).advance_to(count);
        }
    });
}
