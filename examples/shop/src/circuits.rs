//! The circuits of the storefront's clients: a page that shows them, a switch for each, and who hears them change.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use buttress::circuit_breaker::{Circuit, CircuitCounts, CircuitSnapshot};
use buttress::retry::{BudgetCounts, RetryLayer, RetryStats};
use buttress::signal::{Signal, Signals};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::args;

/// What a client does beside calling: handles of its circuit and its retries.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) circuit: Circuit,
    pub(crate) retries: RetryLayer,
}

/// Those of all clients of the storefront.
#[derive(Clone, Debug)]
pub(crate) struct Circuits(pub(crate) [Upstream; 2]);

impl Circuits {
    pub(crate) fn router(self) -> Router {
        Router::new().route("/circuits", get(show)).route("/circuits/{name}", post(force)).with_state(self)
    }

    /// Calls that were not made, because a circuit was not closed.
    pub(crate) fn rejected(&self) -> u64 {
        self.0.iter().map(|upstream| upstream.circuit.counts().rejected).sum()
    }

    /// Requests that were sent again.
    pub(crate) fn retried(&self) -> u64 {
        self.0.iter().map(|upstream| upstream.retries.stats().all_repeats()).sum()
    }
}

async fn show(State(circuits): State<Circuits>) -> Json<Vec<Page>> {
    Json(circuits.0.iter().map(page).collect())
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Force {
    Open,
    Closed,
    Release,
    Reset,
}

#[derive(Deserialize)]
struct Wanted {
    force: Force,
    #[serde(rename = "for")]
    lasts: Option<String>,
}

async fn force(State(circuits): State<Circuits>, Path(name): Path<String>, Query(wanted): Query<Wanted>) -> Response {
    let refuse = |status, why: String| (status, Json(json!({ "error": why }))).into_response();
    let Some(upstream) = circuits.0.iter().find(|upstream| **upstream.circuit.name() == name) else {
        return refuse(StatusCode::NOT_FOUND, "the circuits are inventory and payments".to_owned());
    };
    let Wanted { force, lasts } = wanted;
    let lasts = match lasts.as_deref().map(|text| args::duration(text).ok_or(text)) {
        Some(Err(text)) => {
            return refuse(StatusCode::BAD_REQUEST, format!("for is \"{text}\"; accepted is {}", args::DURATIONS));
        }
        Some(Ok(lasts)) => Some(lasts),
        None => None,
    };
    let (circuit, why) = (&upstream.circuit, "POST /circuits");
    match force {
        Force::Open => circuit.force_open(why, lasts),
        Force::Closed => circuit.force_closed(why, lasts),
        Force::Release => circuit.release(why),
        Force::Reset => circuit.reset(why),
    }
    Json(page(upstream)).into_response()
}

/// A circuit and the retries in front of it.
#[derive(Serialize)]
struct Page {
    name: Arc<str>,
    since_unix_ms: u64,
    in_flight: u64,
    #[serde(flatten)]
    circuit: CircuitSnapshot,
    retry: Value,
}

fn page(Upstream { circuit, retries }: &Upstream) -> Page {
    let snapshot = circuit.snapshot(Instant::now());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(snapshot.time_in_state);
    let stats = retries.stats();
    let RetryStats { exhausted, budget: BudgetCounts { balance, withdrawn, denied, .. }, .. } = stats;
    Page {
        name: Arc::clone(circuit.name()),
        since_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        in_flight: in_flight(&snapshot.counts),
        circuit: snapshot,
        retry: json!({
            "repeats": stats.all_repeats(),
            "exhausted": exhausted,
            "budget": { "balance": balance, "withdrawn": withdrawn, "denied": denied },
        }),
    }
}

fn in_flight(counts: &CircuitCounts) -> u64 {
    let CircuitCounts { admitted, ok, failed, slow, ignored, cancelled, rejected_inside, stale, .. } = *counts;
    admitted.saturating_sub(ok + failed + slow + ignored + cancelled + rejected_inside + stale)
}

/// Prints what circuits and retries signal, and counts the transitions.
pub(crate) struct Heard {
    stop: oneshot::Sender<()>,
    listening: JoinHandle<u64>,
}

impl Heard {
    pub(crate) fn listen(signals: &Signals, began: Instant) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let mut heard = signals.subscribe();
        let listening = tokio::spawn(async move {
            let mut transitions = 0;
            loop {
                // What has been told already comes before the stop.
                let signal = tokio::select! {
                    biased;
                    Some(signal) = heard.next() => signal,
                    _ = &mut stopped => return transitions,
                };
                if matches!(signal, Signal::Circuit(_)) {
                    transitions += 1;
                }
                if let Some(line) = line(&signal) {
                    println!("{:>6.1} s  {line}", began.elapsed().as_secs_f64());
                }
            }
        });
        Self { stop, listening }
    }

    /// How often a circuit has changed its state.
    pub(crate) async fn transitions(self) -> u64 {
        // A listener that is gone needs no telling, and has counted nothing.
        let _ = self.stop.send(());
        self.listening.await.unwrap_or_default()
    }
}

fn line(signal: &Signal) -> Option<String> {
    Some(match signal {
        Signal::Circuit(transition) => {
            let (name, from, to, reason) = (&transition.name, transition.from, transition.to, &transition.reason);
            format!("circuit {name}: {from} -> {to} ({reason})")
        }
        Signal::RetryBudgetSpent { client } => format!("retries of {client}: the budget is spent"),
        // One for each request of a brown-out is no news.
        _ => return None,
    })
}
