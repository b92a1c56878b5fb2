//! While it is open, and how it closes.

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, Reason, RejectedBecause, Share, SlowCalls, State, Window};
use tokio::time::{Instant, advance};

use crate::{FIRST_WAIT, SECOND, call, calls, circuit, config, half_open, millis, open};

const LEASE: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn rejects_every_call_until_the_wait_is_over() {
    let circuit = circuit();
    let since = Instant::now();
    open(&circuit);
    advance(millis(4999)).await;
    let rejected = circuit.admit(Instant::now()).unwrap_err();
    assert_eq!((rejected.because, rejected.since, rejected.retry_after), (RejectedBecause::Open, since, millis(1)));
    assert!(!circuit.is_available());
    advance(millis(1)).await;
    assert!(circuit.is_available());
    assert!(circuit.admit(Instant::now()).unwrap().is_probe());
}

/// Defect 9 of others.
#[tokio::test(start_paused = true)]
async fn a_rejection_names_the_circuit() {
    let circuit = circuit();
    open(&circuit);
    let rejected = circuit.admit(Instant::now()).unwrap_err();
    assert_eq!(rejected.to_string(), "the circuit payments is open; come again in 5s");
}

/// Defect 5 of others: all of them pass.
#[tokio::test(start_paused = true)]
async fn one_of_a_thousand_who_wait_is_let_in_as_a_probe() {
    let circuit = circuit();
    open(&circuit);
    advance(FIRST_WAIT).await;
    let admitted: Vec<_> = (0..1000).map(|_| circuit.admit(Instant::now())).collect();
    assert_eq!(admitted.iter().filter(|admission| admission.is_ok()).count(), 1);
    let rejected = admitted.into_iter().find_map(Result::err).unwrap();
    assert_eq!((rejected.because, rejected.retry_after), (RejectedBecause::Probing, SECOND));
}

#[tokio::test(start_paused = true)]
async fn closes_after_three_probes_one_after_the_other() {
    let circuit = circuit();
    let probe = half_open(&circuit).await;
    probe.report(CallResult::Ok, Instant::now());
    for _ in 0..2 {
        assert_eq!(circuit.state(), State::HalfOpen);
        assert!(call(&circuit, CallResult::Ok));
    }
    assert_eq!(circuit.state(), State::Closed);
    assert_eq!(circuit.counts().probes, 3);
}

#[tokio::test(start_paused = true)]
async fn one_probe_that_fails_opens_it_again_for_twice_as_long() {
    let circuit = circuit();
    let probe = half_open(&circuit).await;
    probe.report(CallResult::Ok, Instant::now());
    call(&circuit, CallResult::FAILED);
    assert_eq!(circuit.admit(Instant::now()).unwrap_err().retry_after, 2 * FIRST_WAIT);
    for wait in [10, 20, 40, 60, 60] {
        advance(Duration::from_secs(wait) - millis(1)).await;
        assert!(!call(&circuit, CallResult::FAILED));
        advance(millis(1)).await;
        assert!(call(&circuit, CallResult::FAILED));
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_slow_has_failed() {
    let slow = SlowCalls { threshold: SECOND, rate: Share::ALL };
    let circuit = Circuit::new("payments", config().slow_calls(slow));
    let probe = half_open(&circuit).await;
    advance(SECOND).await;
    probe.report(CallResult::Ok, Instant::now());
    assert_eq!(circuit.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_is_followed_by_another() {
    let circuit = circuit();
    half_open(&circuit).await.report(CallResult::Ignored, Instant::now());
    drop(circuit.admit(Instant::now()).unwrap());
    assert_eq!(circuit.state(), State::HalfOpen);
    assert_eq!(calls(&circuit, 3, CallResult::Ok), 3);
    assert_eq!(circuit.state(), State::Closed);
}

/// Defect 2 of others: half-open for ever.
#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_has_failed_when_its_lease_is_over() {
    let circuit = circuit();
    let hanging = half_open(&circuit).await;
    advance(LEASE - millis(1)).await;
    assert!(!call(&circuit, CallResult::Ok));
    advance(millis(1)).await;
    assert_eq!(circuit.state(), State::Open);
    assert_eq!(circuit.snapshot(Instant::now()).last_trip, Some(Reason::ProbeFailed));
    advance(2 * FIRST_WAIT).await;
    assert_eq!(calls(&circuit, 3, CallResult::Ok), 3);
    assert_eq!(circuit.state(), State::Closed);
    drop(hanging);
}

/// Defect 2 of others: probes so rare that a window forgets one before the next.
#[tokio::test(start_paused = true)]
async fn probes_count_however_rare_they_are() {
    let window = Window::time(millis(100), 2).unwrap();
    let circuit = Circuit::new("payments", config().window(window));
    open(&circuit);
    for _ in 0..3 {
        advance(Duration::from_secs(3600)).await;
        assert!(call(&circuit, CallResult::Ok));
    }
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_wait_after_a_lease_counts_from_its_end_whenever_somebody_notices() {
    let circuit = circuit();
    let _hanging = half_open(&circuit).await;
    advance(LEASE + 2 * FIRST_WAIT).await;
    assert!(circuit.admit(Instant::now()).unwrap().is_probe());
}

/// Defect 3 of others: a call of before closes it.
#[tokio::test(start_paused = true)]
async fn a_success_from_before_it_opened_does_not_close_it() {
    let circuit = Circuit::new("payments", config().probes(1));
    let old = circuit.admit(Instant::now()).unwrap();
    let probe = half_open(&circuit).await;
    old.report(CallResult::Ok, Instant::now());
    assert_eq!(circuit.state(), State::HalfOpen);
    assert_eq!(circuit.counts().stale, 1);
    probe.report(CallResult::Ok, Instant::now());
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn failures_from_before_it_opened_do_not_open_it_again() {
    let circuit = circuit();
    let old: Vec<_> = (0..50).map(|_| circuit.admit(Instant::now()).unwrap()).collect();
    half_open(&circuit).await.report(CallResult::Ok, Instant::now());
    calls(&circuit, 2, CallResult::Ok);
    old.into_iter().for_each(|permit| permit.report(CallResult::FAILED, Instant::now()));
    assert_eq!(circuit.state(), State::Closed);
    assert_eq!(circuit.counts().stale, 50);
    assert_eq!(circuit.snapshot(Instant::now()).window.calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_circuit_begins_with_an_empty_window() {
    let window = Window::time(Duration::from_secs(60), 6).unwrap();
    for config in [config(), config().window(window)] {
        let circuit = Circuit::new("payments", config);
        half_open(&circuit).await.report(CallResult::Ok, Instant::now());
        calls(&circuit, 2, CallResult::Ok);
        assert_eq!(calls(&circuit, 19, CallResult::FAILED), 19);
        assert_eq!(circuit.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_when_to_come_again_is_believed_within_bounds() {
    for (hint, wait) in [(20, 20), (1, 5), (3600, 60)] {
        let circuit = circuit();
        calls(&circuit, 19, CallResult::FAILED);
        call(&circuit, CallResult::Failed { retry_after: Some(Duration::from_secs(hint)) });
        let rejected = circuit.admit(Instant::now()).unwrap_err();
        assert_eq!(rejected.retry_after, Duration::from_secs(wait), "a hint of {hint} s");
    }
}
