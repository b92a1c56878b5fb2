//! The summary of a run: for eyes, and as one line of JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use buttress::Telemetry;
use buttress::context::SpanId;
use buttress::trace::SpanKind;
use serde::Serialize;

use crate::circuits::Circuits;
use crate::load::Tally;
use crate::traces::{Collected, Operation, Outcomes, Seen, Told};

/// The last line.
#[derive(Serialize)]
pub(crate) struct Counts {
    requests: u64,
    outcomes: Outcomes,
    cross_service_traces: u64,
    spans: u64,
    dropped_spans: u64,
    /// Calls that a circuit did not let through.
    rejected: u64,
    /// Requests that were sent again.
    retried: u64,
    circuit_transitions: u64,
    /// Orders that were told of over the queue.
    events: u64,
}

impl Counts {
    pub(crate) fn of(
        tally: Tally,
        collected: &Collected,
        telemetries: &[(&'static str, Telemetry)],
        circuits: &Circuits,
        circuit_transitions: u64,
    ) -> Self {
        let stats: Vec<_> = telemetries.iter().map(|(_, telemetry)| telemetry.spans().stats()).collect();
        Self {
            requests: tally.requests,
            outcomes: collected.outcomes,
            cross_service_traces: collected.cross_service,
            spans: stats.iter().map(|stats| stats.recorded).sum(),
            dropped_spans: stats.iter().map(|stats| stats.dropped).sum(),
            rejected: circuits.rejected(),
            retried: circuits.retried(),
            circuit_transitions,
            events: 0,
        }
    }

    pub(crate) fn with_events(self, events: u64) -> Self {
        Self { events, ..self }
    }
}

/// The part for eyes.
pub(crate) fn text(tally: Tally, counts: &Counts, collected: &Collected, took: Duration) -> String {
    let Tally { requests, answered, failed, hung_up, lost } = tally;
    let mut text = format!(
        "{requests} requests in {:.1} s: {answered} answered, {failed} failed, {hung_up} hung up",
        took.as_secs_f64()
    );
    if lost > 0 {
        text += &format!(", {lost} lost");
    }
    let Counts { rejected, retried, circuit_transitions, events, .. } = counts;
    text += &format!(
        ".\nTo the other services: {retried} repeated, {rejected} rejected by a circuit; \
         {circuit_transitions} changes of circuits.\n{events} orders told of over a durable queue.\n\n"
    );
    text += &table(&collected.operations);
    let crossing = collected.latest().find(|(_, spans)| spans.len() == 6);
    if let Some((id, spans)) = crossing {
        text += &format!("\nOne order, trace {id}:\n\n{}", waterfall(&spans));
    }
    text
}

fn table(operations: &BTreeMap<Operation, Seen>) -> String {
    let mut text = format!(
        "{:<11} {:<28} {:>6} {:>6} {:>6} {:>9} {:>7} {:>7}  {}\n",
        "service", "span", "count", "ok", "error", "cancelled", "p50 ms", "p95 ms", "errors"
    );
    for (operation, seen) in operations {
        let arrow = if operation.is_client { "-> " } else { "" };
        let Outcomes { ok, error, cancelled } = seen.outcomes;
        let errors: Vec<_> = seen.errors.iter().map(|(name, count)| format!("{name} {count}x")).collect();
        let name = format!("{arrow}{}", operation.name);
        let (p50, p95) = (millis(seen.percentile(0.5)), millis(seen.percentile(0.95)));
        let count = seen.outcomes.sum();
        let line = format!(
            "{:<11} {name:<28} {count:>6} {ok:>6} {error:>6} {cancelled:>9} {p50:>7.1} {p95:>7.1}  {}",
            operation.service,
            errors.join(", ")
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The spans of a trace as a tree, with bars for when they ran.
fn waterfall(spans: &[Told]) -> String {
    const WIDTH: u64 = 40;
    let (Some(start), Some(end)) = (
        spans.iter().map(|told| told.span.start_unix_nanos).min(),
        spans.iter().map(|told| told.span.end_unix_nanos).max(),
    ) else {
        return String::new();
    };
    let whole = (end - start).max(1);
    let column = |nanos: u64| (nanos - start) * WIDTH / whole;
    let mut text = String::new();
    for told in spans {
        let span = &told.span;
        let arrow = if span.kind == SpanKind::Client { "-> " } else { "" };
        let name = format!("{:indent$}{} {arrow}{}", "", told.service, span.name, indent = 2 * depth(spans, told));
        let (from, to) = (column(span.start_unix_nanos), column(span.end_unix_nanos));
        let before = " ".repeat(from as usize);
        let bar = "#".repeat((to - from).max(1) as usize);
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {name:<44} {:>6.1} ms  {before}{bar}", millis(span.duration()));
    }
    text
}

fn depth(spans: &[Told], of: &Told) -> usize {
    let by_id = |id: SpanId| spans.iter().find(|told| told.span.span_id == id);
    let parents = std::iter::successors(Some(of), |told| told.span.parent_span_id.and_then(by_id));
    // No cycle in sound spans; a bound for unsound ones.
    parents.take(spans.len()).count() - 1
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Where to look.
pub(crate) fn welcome(shop: std::net::SocketAddr) -> String {
    format!(
        "The shop is open on http://{shop} under load. Ctrl-C closes it.

Look at
  curl http://{shop}/debug/traces              recent traces (?limit=5, ?outcome=error)
  curl http://{shop}/debug/traces/TRACE_ID     one trace across the three services
  curl http://{shop}/debug/spans               the latest spans
  curl http://{shop}/metrics                   metrics for Prometheus
  curl http://{shop}/diagnostics/metrics       requests, latencies, event loop as JSON
  curl http://{shop}/diagnostics/performance   every route; /payments/diagnostics/performance of the payments

Order something; the answer's x-trace-id is the trace to look at
  curl -i http://{shop}/orders -H 'content-type: application/json' -d '{{\"item\":\"lamp\",\"quantity\":2}}'
  curl http://{shop}/items/chair
  curl http://{shop}/events                    the queue of order events, and how many were told

Let the payments brown out, watch their circuit open here and there, and recover
  curl -X POST 'http://{shop}/faults/payments?kind=brownout'
  curl http://{shop}/circuits                  state, last trip, window, counts, retry budget
  curl -X POST 'http://{shop}/faults/payments?kind=none'
  curl -X POST 'http://{shop}/circuits/payments?force=open&for=10s'   (open, closed, release, reset)

Let something else go wrong (payments or inventory; slow, errors, hang, break, none)
  curl -X POST 'http://{shop}/faults/payments?kind=slow&ms=300&share=0.3'
  curl -X POST 'http://{shop}/faults/inventory?kind=errors'
  curl -X POST 'http://{shop}/faults/payments?kind=none'
  curl http://{shop}/faults
"
    )
}
