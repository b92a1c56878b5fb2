//! The circuits of the storefront's clients: a page that shows them, a switch for each, and who hears them change.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use buttress::circuit_breaker::{Circuit, CircuitCounts, CircuitSnapshot, PastTransition};
use buttress::retry::{BudgetCounts, RetryLayer, RetryStats};
use buttress::signal::{Signal, Signals};
use serde::Deserialize;
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

async fn show(State(circuits): State<Circuits>) -> Json<Vec<Value>> {
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

fn page(Upstream { circuit, retries }: &Upstream) -> Value {
    let CircuitSnapshot { state, time_in_state, last_trip, retry_after, window, transitions, counts, .. } =
        circuit.snapshot(Instant::now());
    let RetryStats { exhausted, budget, .. } = retries.stats();
    let BudgetCounts { balance, withdrawn, denied, .. } = budget;
    let past = |PastTransition { ago, transition, .. }: &PastTransition| {
        json!({
            "from": transition.from.as_str(),
            "to": transition.to.as_str(),
            "reason": transition.reason.to_string(),
            "ago_ms": millis(*ago),
        })
    };
    json!({
        "name": &**circuit.name(),
        "state": state.as_str(),
        "since_unix_ms": millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(time_in_state)),
        "in_state_ms": millis(time_in_state),
        "retry_after_ms": retry_after.map(millis),
        "last_trip": last_trip.map(|reason| reason.to_string()),
        "window": { "calls": window.calls, "failed": window.failed, "slow": window.slow },
        "counts": counts_of(&counts),
        "retry": {
            "repeats": retries.stats().all_repeats(),
            "exhausted": exhausted,
            "budget": { "balance": balance, "withdrawn": withdrawn, "denied": denied },
        },
        "transitions": transitions.iter().map(past).collect::<Vec<_>>(),
    })
}

fn counts_of(counts: &CircuitCounts) -> Value {
    let CircuitCounts {
        admitted, ok, failed, slow, ignored, cancelled, rejected_inside, stale, rejected, probes, ..
    } = *counts;
    let ended = ok + failed + slow + ignored + cancelled + rejected_inside + stale;
    json!({
        "admitted": admitted,
        "in_flight": admitted.saturating_sub(ended),
        "ok": ok,
        "failed": failed,
        "slow": slow,
        "ignored": ignored,
        "cancelled": cancelled,
        "stale": stale,
        "rejected": rejected,
        "probes": probes,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
