//! Pages for the curious: recent traces, one trace, the latest spans, metrics; and at `/`, where to find them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use buttress::Telemetry;
use buttress::classify::Outcome;
use buttress::context::TraceId;
use buttress::trace::SpanKind;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::report;
use crate::traces::{STOREFRONT, Told, Traces};

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) shop: SocketAddr,
    pub(crate) traces: Traces,
    /// Each with its service.
    pub(crate) telemetries: [(&'static str, Telemetry); 3],
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default = "some")]
    limit: usize,
    /// `ok`, `error`, `cancelled` or `panicked`.
    outcome: Option<String>,
}

fn some() -> usize {
    20
}

/// A trace on one line.
#[derive(Serialize)]
struct Summary {
    trace_id: String,
    name: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
    duration_ms: f64,
    services: BTreeSet<&'static str>,
    spans: usize,
}

impl Pages {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(async |State(pages): State<Self>| report::welcome(pages.shop)))
            .route("/debug/traces", get(traces))
            .route("/debug/traces/{trace_id}", get(trace))
            .route("/debug/spans", get(spans))
            .merge(self.metrics())
            .with_state(self)
    }

    /// The metrics of the storefront, and below their names those of the others: a Prometheus would ask each by itself.
    fn metrics(&self) -> Router<Self> {
        self.telemetries.iter().fold(Router::new(), |router, (service, telemetry)| {
            let pages = telemetry.metrics_endpoint();
            if *service == STOREFRONT {
                return router.merge(pages.router());
            }
            router.nest_service(&format!("/{service}"), pages)
        })
    }

    /// Spans reach their sinks a little later than they end; who looks should see what is there.
    async fn flush(&self) {
        for (_, telemetry) in &self.telemetries {
            // What is late will be on the page the next time.
            let _ = telemetry.spans().flush(Duration::from_secs(1)).await;
        }
    }
}

async fn traces(State(pages): State<Pages>, Query(wanted): Query<Wanted>) -> Json<Vec<Summary>> {
    pages.flush().await;
    let collected = pages.traces.lock();
    let summaries = collected.latest().map(|(id, spans)| summary(id, &spans));
    let wanted_outcome = |summary: &Summary| wanted.outcome.as_deref().is_none_or(|outcome| outcome == summary.outcome);
    Json(summaries.filter(wanted_outcome).take(wanted.limit).collect())
}

async fn trace(State(pages): State<Pages>, Path(id): Path<String>) -> Response {
    let Ok(id) = TraceId::from_hex(id.as_bytes()) else {
        let error = json!({ "error": "a trace id is 32 lower-case hex digits, not all of them 0" });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    };
    pages.flush().await;
    match pages.traces.lock().spans(id) {
        Some(spans) => Json(spans).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({ "error": "no such trace is kept" }))).into_response(),
    }
}

async fn spans(State(pages): State<Pages>, Query(wanted): Query<Wanted>) -> Json<Vec<Told>> {
    // From the ring that each `Telemetry` keeps by itself; no sink is needed for this page.
    let of = |(service, telemetry): &(&'static str, Telemetry)| {
        let service = *service;
        telemetry.latest_spans(wanted.limit).into_iter().map(move |span| Told { service, span })
    };
    let mut spans: Vec<_> = pages.telemetries.iter().flat_map(of).collect();
    spans.retain(|told| wanted.outcome.as_deref().is_none_or(|outcome| outcome == told.span.outcome.as_str()));
    spans.sort_by_key(|told| std::cmp::Reverse(told.span.end_unix_nanos));
    spans.truncate(wanted.limit);
    Json(spans)
}

fn summary(id: TraceId, spans: &[Told]) -> Summary {
    let start = spans.iter().map(|told| told.span.start_unix_nanos).min().unwrap_or(0);
    let end = spans.iter().map(|told| told.span.end_unix_nanos).max().unwrap_or(0);
    // Until it has ended, the first of what it has called speaks for it.
    let root = spans.iter().find(|told| told.service == STOREFRONT && told.span.kind == SpanKind::Server);
    let root = root.or_else(|| spans.first()).map(|told| &told.span);
    Summary {
        trace_id: id.to_string(),
        name: root.map_or_else(String::new, |root| root.name.to_string()),
        outcome: root.map_or(Outcome::Ok, |root| root.outcome).as_str(),
        error_type: root.and_then(|root| root.error_type).map(|error| error.to_string()),
        duration_ms: millis(end.saturating_sub(start)),
        services: spans.iter().map(|told| told.service).collect(),
        spans: spans.len(),
    }
}

/// With as many digits as anybody reads.
fn millis(nanos: u64) -> f64 {
    (nanos / 10_000) as f64 / 100.0
}
