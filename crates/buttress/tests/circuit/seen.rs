//! What is seen of it.

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Reason, State, Transition};
use buttress::signal::{Signal, Signals};
use tokio::time::{Instant, advance};

use crate::{FIRST_WAIT, SECOND, call, circuit, half_open, millis, open};

#[tokio::test(start_paused = true)]
async fn each_transition_is_told_with_its_reason() {
    let signals = Signals::new();
    let circuit = circuit().with_signals(signals.clone());
    let (mut listener, mut watch) = (signals.subscribe(), circuit.watch());
    advance(SECOND).await;
    half_open(&circuit).await.report(CallResult::FAILED, Instant::now());
    let mut heard = Vec::new();
    for _ in 0..3 {
        let told = watch.next().await.unwrap();
        assert_eq!(listener.next().await, Some(Signal::Circuit(told.clone())));
        assert_eq!(&*told.name, "payments");
        heard.push(told);
    }
    let steps: Vec<_> = heard.iter().map(|Transition { from, to, after, .. }| (*from, *to, *after)).collect();
    let expected = [
        (State::Closed, State::Open, SECOND),
        (State::Open, State::HalfOpen, FIRST_WAIT),
        (State::HalfOpen, State::Open, Duration::ZERO),
    ];
    assert_eq!(steps, expected);
    let reasons: Vec<_> = heard.into_iter().map(|told| told.reason).collect();
    let expected = [Reason::FailureRate { failed: 20, calls: 20 }, Reason::WaitOver, Reason::ProbeFailed];
    assert_eq!(reasons, expected);
}

#[tokio::test(start_paused = true)]
async fn the_last_sixteen_transitions_are_remembered_newest_first() {
    let circuit = circuit();
    for number in 0..10 {
        advance(SECOND).await;
        circuit.force_open(format!("{number}"), None);
        circuit.release("again");
    }
    advance(SECOND).await;
    let past = circuit.snapshot(Instant::now()).transitions;
    assert_eq!(past.len(), 16);
    assert_eq!(past[1].transition.reason, Reason::Forced("9".into()));
    assert_eq!(past[15].transition.reason, Reason::Forced("2".into()));
    assert_eq!((past[1].ago, past[15].ago), (SECOND, 8 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_how_long_and_until_when() {
    let circuit = circuit();
    open(&circuit);
    advance(2 * SECOND).await;
    let seen = circuit.snapshot(Instant::now());
    assert_eq!((seen.state, seen.time_in_state, seen.retry_after), (State::Open, 2 * SECOND, Some(3 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn how_often_it_opened_is_counted_by_why() {
    let circuit = circuit();
    assert!(circuit.snapshot(Instant::now()).trips.is_empty());
    open(&circuit);
    for _ in 0..2 {
        advance(Duration::from_secs(60)).await;
        assert!(call(&circuit, CallResult::FAILED), "a probe");
    }
    circuit.force_open("the store moves", None);
    circuit.release("it has moved");
    let trips: Vec<_> = circuit.snapshot(Instant::now()).trips.into_iter().collect();
    assert_eq!(trips, [("failure_rate", 1), ("forced", 1), ("probe_failed", 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_health_page_shows_a_snapshot_as_it_is() {
    let circuit = circuit();
    advance(SECOND).await;
    open(&circuit);
    advance(millis(1500)).await;
    let page = serde_json::to_value(circuit.snapshot(Instant::now())).unwrap();
    let (reason, text) = ("failure_rate", "20 of the last 20 calls failed");
    let expected = serde_json::json!({
        "state": "open",
        "observe_only": null,
        "time_in_state_ms": 1500,
        "last_trip": { "reason": reason, "text": text },
        "trips": { "failure_rate": 1 },
        "retry_after_ms": 3500,
        "window": { "calls": 0, "failed": 0, "slow": 0 },
        "transitions": [{
            "ago_ms": 1500,
            "name": "payments",
            "from": "closed",
            "to": "open",
            "reason": reason,
            "text": text,
            "after_ms": 1000,
        }],
        "counts": {
            "admitted": 20, "ok": 0, "failed": 20, "slow": 0, "ignored": 0, "cancelled": 0, "rejected_inside": 0,
            "stale": 0, "rejected": 0, "would_have_rejected": 0, "probes": 0,
        },
    });
    assert_eq!(page, expected);
}

#[tokio::test(start_paused = true)]
async fn a_health_check_is_told_the_state_since_when_why_and_when_to_come_again() {
    let circuit = circuit();
    let health = || serde_json::to_value(circuit.health(Instant::now())).unwrap();
    let expected = serde_json::json!({
        "name": "payments",
        "state": "closed",
        "observe_only": null,
        "available": true,
        "time_in_state_ms": 0,
        "reason": null,
        "retry_after_ms": null,
    });
    assert_eq!(health(), expected);
    open(&circuit);
    advance(millis(1500)).await;
    let expected = serde_json::json!({
        "name": "payments",
        "state": "open",
        "observe_only": null,
        "available": false,
        "time_in_state_ms": 1500,
        "reason": { "reason": "failure_rate", "text": "20 of the last 20 calls failed" },
        "retry_after_ms": 3500,
    });
    assert_eq!(health(), expected);
    advance(millis(3500)).await;
    let health = circuit.health(Instant::now());
    assert_eq!((health.state, health.available, health.retry_after), (State::Open, true, None), "a probe may pass");
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_open_is_not_available_and_tells_when_it_ends_if_that_is_known() {
    let circuit = circuit();
    circuit.force_open("a drill", Some(2 * SECOND));
    advance(millis(500)).await;
    let health = circuit.health(Instant::now());
    assert_eq!((health.available, health.retry_after), (false, Some(millis(1500))));
    assert_eq!(health.reason, Some(Reason::Forced("a drill".into())));
    assert_eq!(circuit.snapshot(Instant::now()).retry_after, Some(millis(1500)));
    circuit.force_open("until further notice", None);
    let health = circuit.health(Instant::now());
    assert_eq!((health.available, health.retry_after), (false, None));
}
