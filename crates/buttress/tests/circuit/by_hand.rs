//! By hand: what is forced, and a circuit that only observes.

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, Reason, RejectedBecause, State};
use buttress::signal::{Signal, Signals};
use tokio::time::{Instant, advance};

use crate::{FIRST_WAIT, SECOND, call, calls, circuit, config, half_open, millis, open, slow_call};

#[tokio::test(start_paused = true)]
async fn what_is_forced_open_stays_open_until_it_is_released() {
    let circuit = circuit();
    circuit.force_open("the database is being moved", None);
    advance(Duration::from_secs(100_000)).await;
    let rejected = circuit.admit(Instant::now()).unwrap_err();
    assert_eq!(rejected.because, RejectedBecause::Forced);
    assert_eq!((circuit.state(), circuit.is_available()), (State::ForcedOpen, false));
    circuit.release("it has been moved");
    assert!(call(&circuit, CallResult::Ok));
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_for_a_time_ends_with_it() {
    let circuit = circuit();
    circuit.force_open("a drill", Some(SECOND));
    assert_eq!(circuit.admit(Instant::now()).unwrap_err().retry_after, SECOND);
    advance(SECOND).await;
    assert_eq!(circuit.state(), State::Closed);
    assert_eq!(circuit.snapshot(Instant::now()).transitions[0].transition.reason, Reason::ForceExpired);
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_closed_or_disabled_lets_everything_pass_and_counts_it() {
    let circuit = circuit();
    circuit.force_closed("we have to know", None);
    assert_eq!(calls(&circuit, 100, CallResult::FAILED), 100);
    circuit.disable("in the way", None);
    assert_eq!(calls(&circuit, 100, CallResult::FAILED), 100);
    assert_eq!((circuit.state(), circuit.counts().failed), (State::Disabled, 200));
    circuit.release("enough");
    assert_eq!(calls(&circuit, 19, CallResult::FAILED), 19);
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_passes_by_hand_says_nothing_about_how_long_calls_take() {
    let circuit = circuit();
    circuit.force_closed("we have to know", None);
    for _ in 0..30 {
        slow_call(&circuit, SECOND, CallResult::Ok).await;
    }
    circuit.release("now we do");
    for _ in 0..8 {
        slow_call(&circuit, millis(150), CallResult::Cancelled).await;
    }
    assert_eq!(circuit.state(), State::Open, "a tenth of a second is long while little is known");
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_everything_but_the_counts() {
    let circuit = circuit();
    half_open(&circuit).await.report(CallResult::FAILED, Instant::now());
    circuit.reset("repaired");
    assert_eq!(calls(&circuit, 20, CallResult::FAILED), 20);
    assert_eq!(circuit.admit(Instant::now()).unwrap_err().retry_after, FIRST_WAIT);
    assert_eq!(circuit.counts().failed, 41);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_only_observes_counts_what_it_would_have_rejected() {
    let circuit = Circuit::new("payments", config().observe_only(true));
    open(&circuit);
    let permit = circuit.admit(Instant::now()).unwrap();
    assert!(permit.would_have_been_rejected());
    permit.report(CallResult::Ok, Instant::now());
    assert_eq!(calls(&circuit, 9, CallResult::FAILED), 9);
    let counts = circuit.counts();
    assert_eq!((counts.would_have_rejected, counts.rejected, counts.admitted), (10, 0, 30));
    // It comes back as it would have.
    advance(FIRST_WAIT).await;
    calls(&circuit, 3, CallResult::Ok);
    assert_eq!(circuit.state(), State::Closed);
    circuit.release("the settings are good");
    open(&circuit);
    assert!(!call(&circuit, CallResult::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_only_observes_is_available_unless_it_was_opened_by_hand() {
    let circuit = Circuit::new("payments", config().observe_only(true));
    open(&circuit);
    let health = circuit.health(Instant::now());
    assert_eq!(
        (health.state, health.observe_only.is_some(), health.available, health.retry_after),
        (State::Open, true, true, None)
    );
    assert!(circuit.is_available());
    circuit.force_open("a drill", Some(SECOND));
    let health = circuit.health(Instant::now());
    let observes = health.observe_only.is_some();
    assert_eq!((observes, health.available, health.retry_after), (true, false, Some(SECOND)));
    assert!(!circuit.is_available());
}

#[tokio::test(start_paused = true)]
async fn what_was_to_observe_for_a_time_rejects_again_after_it() {
    let circuit = circuit();
    circuit.observe_only("new settings", Some(SECOND));
    open(&circuit);
    advance(SECOND - millis(1)).await;
    assert!(call(&circuit, CallResult::Ok));
    advance(millis(1)).await;
    assert!(!call(&circuit, CallResult::Ok));
    let counts = circuit.counts();
    assert_eq!((counts.would_have_rejected, counts.rejected), (1, 1));
    let seen = circuit.snapshot(Instant::now());
    assert_eq!((seen.observe_only, seen.transitions.len()), (None, 3));
    let last = &seen.transitions[0].transition;
    assert_eq!((last.from, last.to, &last.reason), (State::Open, State::Open, &Reason::ObserveOnlyExpired));
}

#[tokio::test(start_paused = true)]
async fn a_health_check_notices_that_the_time_to_observe_is_over() {
    let circuit = circuit();
    let mut watch = circuit.watch();
    circuit.observe_only("new settings", Some(SECOND));
    open(&circuit);
    assert!(circuit.is_available());
    advance(SECOND).await;
    assert!(!circuit.is_available());
    let health = circuit.health(Instant::now());
    assert_eq!((health.observe_only, health.available), (None, false));
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(watch.next().await.unwrap().reason.as_str());
    }
    assert_eq!(heard, ["observe_only", "failure_rate", "observe_only_expired"]);
}

#[tokio::test(start_paused = true)]
async fn why_it_only_observes_and_why_no_longer_is_told_and_leaves_what_is_known_of_its_state() {
    let signals = Signals::new();
    let circuit = circuit().with_signals(signals.clone());
    open(&circuit);
    let mut listener = signals.subscribe();
    advance(SECOND).await;
    circuit.observe_only("the store asks for it", None);
    advance(SECOND).await;
    circuit.release("it has had enough");
    let reasons = [Reason::ObserveOnly("the store asks for it".into()), Reason::Enforced("it has had enough".into())];
    for (reason, after) in reasons.into_iter().zip([SECOND, 2 * SECOND]) {
        let Some(Signal::Circuit(told)) = listener.next().await else { panic!("not told") };
        assert_eq!((told.from, told.to, told.reason, told.after), (State::Open, State::Open, reason, after));
    }
    let seen = circuit.snapshot(Instant::now());
    assert_eq!((seen.time_in_state, seen.trips.values().sum::<u64>()), (2 * SECOND, 1));
    let tripped = Some(Reason::FailureRate { failed: 20, calls: 20 });
    assert_eq!((seen.last_trip, circuit.health(Instant::now()).reason), (tripped.clone(), tripped));
}

#[tokio::test(start_paused = true)]
async fn a_page_shows_why_a_circuit_only_observes_and_for_how_long() {
    let circuit = circuit();
    let shown = || serde_json::to_value(circuit.health(Instant::now())).unwrap()["observe_only"].take();
    assert_eq!(shown(), serde_json::Value::Null);
    circuit.observe_only("a trial", Some(2 * SECOND));
    advance(millis(500)).await;
    assert_eq!(shown(), serde_json::json!({ "reason": "a trial", "remaining_ms": 1500 }));
    circuit.observe_only("until further notice", None);
    assert_eq!(shown(), serde_json::json!({ "reason": "until further notice", "remaining_ms": null }));
    let configured = Circuit::new("payments", config().observe_only(true)).health(Instant::now());
    assert_eq!(serde_json::to_value(configured.observe_only).unwrap()["reason"], serde_json::Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_release_ends_what_is_forced_and_only_then_that_it_observes() {
    let circuit = circuit();
    circuit.observe_only("a trial", None);
    circuit.force_open("a drill", None);
    assert!(!call(&circuit, CallResult::Ok));
    let observes = || circuit.snapshot(Instant::now()).observe_only.is_some();
    circuit.release("the drill is over");
    assert!(observes() && circuit.state() == State::Closed);
    // A drill that has ended by itself takes no release.
    circuit.force_open("a drill", Some(SECOND));
    advance(SECOND).await;
    circuit.release("the trial is over");
    assert!(!observes());
    let told = circuit.snapshot(Instant::now()).transitions.len();
    circuit.release("there is nothing left");
    assert_eq!(circuit.snapshot(Instant::now()).transitions.len(), told);
}
