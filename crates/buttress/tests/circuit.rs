//! What a circuit decides, as those see it who call by it. Time is tokio's and stands still unless a test moves it.
#![cfg(feature = "circuit-breaker")]

use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::circuit_breaker::{
    CallError, CallResult, Cancellation, Circuit, CircuitConfig, Consecutive, Ramp, Reason, RejectedBecause, Share,
    SlowCalls, State, Throttle, Transition, Window,
};
use buttress::signal::{Signal, Signals};
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(10);

/// The defaults, with a wait that can be foretold.
fn config() -> CircuitConfig {
    let waits = Backoff::exponential(FIRST_WAIT, 2.0, Duration::from_secs(60)).expect("they grow");
    CircuitConfig::default().open_for(waits.jitter(buttress::backoff::Jitter::None)).ramp(None)
}

fn circuit() -> Circuit {
    Circuit::new("payments", config())
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A call that takes no time; false if it was rejected.
fn call(circuit: &Circuit, result: CallResult) -> bool {
    let now = Instant::now();
    circuit.admit(now).map(|permit| permit.report(result, now)).is_ok()
}

fn calls(circuit: &Circuit, times: usize, result: CallResult) -> usize {
    (0..times).filter(|_| call(circuit, result)).count()
}

async fn slow_call(circuit: &Circuit, takes: Duration, result: CallResult) {
    let permit = circuit.admit(Instant::now()).expect("let in");
    advance(takes).await;
    permit.report(result, Instant::now());
}

fn open(circuit: &Circuit) {
    assert_eq!(calls(circuit, 20, CallResult::FAILED), 20);
    assert_eq!(circuit.state(), State::Open);
}

async fn half_open(circuit: &Circuit) -> buttress::circuit_breaker::Permit {
    open(circuit);
    advance(FIRST_WAIT).await;
    circuit.admit(Instant::now()).expect("let in")
}

// When it opens.

#[tokio::test(start_paused = true)]
async fn opens_once_half_of_the_last_hundred_calls_failed() {
    let circuit = circuit();
    calls(&circuit, 100, CallResult::Ok);
    assert_eq!(calls(&circuit, 49, CallResult::FAILED), 49);
    assert_eq!(circuit.state(), State::Closed);
    call(&circuit, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Open);
    assert_eq!(circuit.snapshot(Instant::now()).last_trip, Some(Reason::FailureRate { failed: 50, calls: 100 }));
}

/// Defect 1 of others: after a hundred thousand good calls, a hundred thousand bad ones.
#[tokio::test(start_paused = true)]
async fn opens_after_the_same_number_of_failures_whatever_came_before() {
    for healthy in [100, 10_000, 100_000] {
        let circuit = circuit();
        calls(&circuit, healthy, CallResult::Ok);
        assert_eq!(calls(&circuit, 1000, CallResult::FAILED), 50, "after {healthy} good calls");
    }
}

#[tokio::test(start_paused = true)]
async fn stays_closed_below_the_minimum_of_calls() {
    let circuit = circuit();
    calls(&circuit, 19, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Closed);
    call(&circuit, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn failures_older_than_the_window_are_forgotten() {
    let circuit = circuit();
    calls(&circuit, 19, CallResult::FAILED);
    call(&circuit, CallResult::Ok);
    advance(Duration::from_secs(10)).await;
    call(&circuit, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Closed);
    assert_eq!(circuit.snapshot(Instant::now()).window.calls, 1);
}

#[tokio::test(start_paused = true)]
async fn good_calls_older_than_the_window_do_not_hide_an_outage() {
    let circuit = circuit();
    calls(&circuit, 100, CallResult::Ok);
    advance(Duration::from_secs(10)).await;
    assert_eq!(calls(&circuit, 100, CallResult::FAILED), 20);
}

#[tokio::test(start_paused = true)]
async fn what_is_called_rarely_opens_after_five_failures_in_a_row() {
    let circuit = circuit();
    for _ in 0..5 {
        assert_eq!(circuit.state(), State::Closed);
        call(&circuit, CallResult::FAILED);
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(circuit.snapshot(Instant::now()).last_trip, Some(Reason::ConsecutiveFailures(5)));
}

#[tokio::test(start_paused = true)]
async fn one_good_call_ends_a_row_of_failures() {
    let circuit = circuit();
    for _ in 0..3 {
        calls(&circuit, 4, CallResult::FAILED);
        advance(Duration::from_secs(20)).await;
        call(&circuit, CallResult::Ok);
    }
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn failures_at_once_are_no_row_yet() {
    let circuit = circuit();
    calls(&circuit, 19, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn opens_once_enough_calls_are_slow_although_they_succeed() {
    let slow = SlowCalls { threshold: millis(100), rate: Share::percent(50) };
    let circuit = Circuit::new("payments", config().slow_calls(slow).stuck_calls(false));
    calls(&circuit, 20, CallResult::Ok);
    for _ in 0..20 {
        assert_eq!(circuit.state(), State::Closed);
        slow_call(&circuit, millis(100), CallResult::Ok).await;
    }
    assert_eq!(circuit.snapshot(Instant::now()).last_trip, Some(Reason::SlowCallRate { slow: 20, calls: 40 }));
    assert_eq!(circuit.counts().slow, 20);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_time_counts_what_came_in_it() {
    let window = Window::time(Duration::from_secs(10), 10).unwrap();
    let circuit = Circuit::new("payments", config().window(window));
    calls(&circuit, 30, CallResult::Ok);
    advance(Duration::from_secs(5)).await;
    assert_eq!(calls(&circuit, 29, CallResult::FAILED), 29);
    assert_eq!(circuit.state(), State::Closed);
    // The good ones have gone, the bad ones are there still.
    advance(Duration::from_secs(5)).await;
    call(&circuit, CallResult::FAILED);
    assert_eq!(circuit.snapshot(Instant::now()).last_trip, Some(Reason::FailureRate { failed: 30, calls: 30 }));
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_ignored_say_nothing() {
    let circuit = circuit();
    calls(&circuit, 100, CallResult::Ignored);
    calls(&circuit, 100, CallResult::Rejected);
    assert_eq!(calls(&circuit, 100, CallResult::FAILED), 20);
}

#[tokio::test(start_paused = true)]
async fn opens_while_calls_hang_before_any_of_them_has_ended() {
    let circuit = circuit();
    calls(&circuit, 20, CallResult::Ok);
    let mut hanging = Vec::new();
    for made in 0..2000 {
        match circuit.admit(Instant::now()) {
            Ok(permit) => hanging.push(permit),
            Err(rejected) => {
                assert_eq!(rejected.because, RejectedBecause::Open);
                assert!((250..330).contains(&made), "after {made} calls");
                let trip = circuit.snapshot(Instant::now()).last_trip;
                return assert!(matches!(trip, Some(Reason::StuckCalls(20..))), "{trip:?}");
            }
        }
        advance(millis(1)).await;
    }
    panic!("it never opened");
}

#[tokio::test(start_paused = true)]
async fn nobody_knows_what_hangs_before_the_first_calls_have_ended() {
    let circuit = circuit();
    for _ in 0..2000 {
        std::mem::forget(circuit.admit(Instant::now()).unwrap());
        advance(millis(1)).await;
    }
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn calls_that_never_end_open_it_once_and_not_for_ever() {
    let circuit = circuit();
    calls(&circuit, 20, CallResult::Ok);
    let mut hanging = Vec::new();
    while let Ok(permit) = circuit.admit(Instant::now()) {
        hanging.push(permit);
        advance(millis(1)).await;
    }
    advance(FIRST_WAIT).await;
    for _ in 0..5000 {
        assert!(call(&circuit, CallResult::Ok));
        advance(millis(1)).await;
    }
    assert_eq!(circuit.state(), State::Closed);
}

// Cancellation: defect 4 of others.

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_of_the_circuit_opens_it() {
    let circuit = Circuit::new("payments", config().stuck_calls(false));
    for _ in 0..200 {
        slow_call(&circuit, millis(5), CallResult::Ok).await;
    }
    let mut made = 0;
    for _ in 0..1000 {
        let hanging = circuit.run(std::future::pending::<()>, |()| CallResult::Ok);
        made += usize::from(tokio::time::timeout(millis(250), hanging).await.is_err());
    }
    assert!((1..=250).contains(&made), "{made} calls of a thousand were made");
}

#[tokio::test(start_paused = true)]
async fn callers_who_go_away_before_calls_usually_end_are_no_failures() {
    let circuit = circuit();
    for _ in 0..100 {
        slow_call(&circuit, millis(50), CallResult::Ok).await;
    }
    for _ in 0..200 {
        slow_call(&circuit, millis(49), CallResult::Cancelled).await;
    }
    assert_eq!(circuit.state(), State::Closed);
    assert_eq!(circuit.counts().cancelled, 200);
    for _ in 0..200 {
        let Ok(permit) = circuit.admit(Instant::now()) else { break };
        advance(millis(50)).await;
        drop(permit);
    }
    assert_eq!(circuit.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn while_little_is_known_a_tenth_of_a_second_is_long() {
    for (given_up, state) in [(99, State::Closed), (100, State::Open)] {
        let circuit = circuit();
        let permits: Vec<_> = (0..20).map(|_| circuit.admit(Instant::now()).unwrap()).collect();
        advance(millis(given_up)).await;
        drop(permits);
        assert_eq!(circuit.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn cancellations_count_as_one_likes() {
    for (cancellation, state) in [(Cancellation::Ignore, State::Closed), (Cancellation::Failure, State::Open)] {
        let circuit = Circuit::new("payments", config().cancellation(cancellation));
        calls(&circuit, 20, CallResult::Cancelled);
        assert_eq!(circuit.state(), state);
    }
}

// While it is open, and how it closes.

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

#[tokio::test(start_paused = true)]
async fn a_growing_share_passes_after_it_has_closed() {
    buttress::random::seed(1);
    let circuit = Circuit::new("payments", config().ramp(Ramp { from: Share::percent(10), over: 10 * SECOND }));
    half_open(&circuit).await.report(CallResult::Ok, Instant::now());
    calls(&circuit, 2, CallResult::Ok);
    assert_eq!(circuit.state(), State::Closed);
    for share in [100, 550] {
        let passed = calls(&circuit, 1000, CallResult::Ok);
        assert!((share - 60..share + 60).contains(&passed), "{passed} instead of {share}");
        advance(5 * SECOND).await;
    }
    assert_eq!(calls(&circuit, 1000, CallResult::Ok), 1000);
}

#[tokio::test(start_paused = true)]
async fn waits_start_anew_only_after_the_ramp() {
    let ramp = Ramp { from: Share::ALL, over: 10 * SECOND };
    let circuit = Circuit::new("payments", config().ramp(ramp));
    let retry_after = || circuit.admit(Instant::now()).unwrap_err().retry_after;
    half_open(&circuit).await.report(CallResult::Ok, Instant::now());
    calls(&circuit, 2, CallResult::Ok);
    // A relapse within the ramp.
    advance(9 * SECOND).await;
    calls(&circuit, 20, CallResult::FAILED);
    assert_eq!(retry_after(), 2 * FIRST_WAIT);
    advance(2 * FIRST_WAIT).await;
    calls(&circuit, 3, CallResult::Ok);
    advance(10 * SECOND).await;
    call(&circuit, CallResult::Ok);
    calls(&circuit, 20, CallResult::FAILED);
    assert_eq!(retry_after(), FIRST_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_holds_back_what_the_server_would_fail_and_lets_the_rest_pass() {
    buttress::random::seed(2);
    let circuit = Circuit::new("payments", config().throttle(Throttle { k: 1.2 }));
    let (mut sent, mut accepted, mut capacity) = (0, 0, 0);
    for tick in 0..30_000 {
        advance(millis(1)).await;
        // A thousand calls come in a second, half of which the server can serve.
        capacity = (capacity + tick % 2).min(10);
        let now = Instant::now();
        let Ok(permit) = circuit.admit(now) else { continue };
        let result = if capacity > 0 { CallResult::Ok } else { CallResult::FAILED };
        let is_ok = result == CallResult::Ok;
        capacity -= i32::from(is_ok);
        if tick >= 20_000 {
            sent += 1;
            accepted += i32::from(is_ok);
        }
        permit.report(result, now);
    }
    assert_eq!(circuit.state(), State::Closed);
    assert!(sent <= 7000, "{sent} sent of 10000");
    assert!(accepted >= 4500, "{accepted} accepted of 5000");
    // The server is well again: so is the circuit.
    for _ in 0..20_000 {
        advance(millis(1)).await;
        call(&circuit, CallResult::Ok);
    }
    assert_eq!(calls(&circuit, 1000, CallResult::Ok), 1000);
    // It is gone: nothing is thrown after it.
    let wasted: usize = (0..10_000).filter(|_| call(&circuit, CallResult::FAILED)).count();
    assert_eq!(circuit.state(), State::Open);
    assert!(wasted <= 100, "{wasted} calls");
}

#[tokio::test(start_paused = true)]
async fn a_throttle_looks_at_the_last_calls_and_not_at_all_of_the_time_that_they_may_be_old() {
    buttress::random::seed(3);
    let circuit = Circuit::new("payments", config().throttle(Throttle::default()));
    for _ in 0..9000 {
        advance(millis(1)).await;
        call(&circuit, CallResult::Ok);
    }
    // Within the ten seconds nine thousand calls went well, of the last hundred twenty.
    let mut passed = 0;
    for tick in 0..2000 {
        advance(millis(1)).await;
        passed += usize::from(call(&circuit, if tick % 5 == 0 { CallResult::Ok } else { CallResult::FAILED }));
    }
    assert_eq!(circuit.state(), State::Closed);
    assert!(passed <= 1500, "{passed} of 2000");
}

#[tokio::test(start_paused = true)]
async fn a_throttle_takes_calls_that_say_nothing_for_served_and_those_that_never_came_there_for_nothing() {
    buttress::random::seed(4);
    let passed_after = async |said| {
        let config = config().cancellation(Cancellation::Ignore).throttle(Throttle::default());
        let circuit = Circuit::new("payments", config);
        assert_eq!(calls(&circuit, 20, said) + calls(&circuit, 3, CallResult::Ok), 23);
        assert_eq!(calls(&circuit, 19, CallResult::FAILED), 19);
        // How much to hold back is computed now and then.
        advance(millis(10)).await;
        assert!(call(&circuit, CallResult::FAILED));
        calls(&circuit, 100, CallResult::Ok)
    };
    assert_eq!(passed_after(CallResult::Ignored).await, 100, "23 of 43 were served");
    assert!(passed_after(CallResult::Cancelled).await < 100, "3 of 23 were");
}

// By hand.

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

// What is seen of it.

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

#[tokio::test(start_paused = true)]
async fn an_error_is_a_failure_and_comes_back_as_it_was() {
    let circuit = circuit();
    for _ in 0..20 {
        assert_eq!(circuit.call(async || Err::<(), _>("down")).await, Err(CallError::Failed("down")));
    }
    let rejected = circuit.call(async || Ok::<_, &str>(1)).await;
    assert!(matches!(rejected, Err(CallError::Rejected(_))), "{rejected:?}");
}

#[tokio::test(start_paused = true)]
async fn a_permit_outlives_the_handles_of_its_circuit() {
    let circuit = circuit();
    let permit = circuit.admit(Instant::now()).unwrap();
    drop(circuit);
    permit.report(CallResult::FAILED, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_time_from_before_the_circuit_is_its_beginning() {
    let before = Instant::now();
    advance(SECOND).await;
    let circuit = circuit();
    for _ in 0..20 {
        circuit.admit(before).unwrap().report(CallResult::FAILED, before);
    }
    assert_eq!(circuit.admit(before).unwrap_err().retry_after, FIRST_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_of_a_month_ago_goes_on_as_a_new_one_does() {
    let circuit = circuit();
    advance(Duration::from_secs(30 * 24 * 3600)).await;
    half_open(&circuit).await.report(CallResult::FAILED, Instant::now());
    assert_eq!(circuit.admit(Instant::now()).unwrap_err().retry_after, 2 * FIRST_WAIT);
    advance(2 * FIRST_WAIT).await;
    assert_eq!(calls(&circuit, 3, CallResult::Ok), 3);
    assert_eq!(circuit.state(), State::Closed);
}

// What is written down.

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_open_for_the_rest_of_its_wait_after_a_restart() {
    let circuit = circuit();
    half_open(&circuit).await.report(CallResult::FAILED, Instant::now());
    advance(4 * SECOND).await;
    let text = serde_json::to_string(&circuit.export()).unwrap();
    assert_eq!(text, r#"{"version":1,"state":"open","remaining_ms":6000,"opened":2}"#);

    let twin = self::circuit();
    twin.import(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(twin.admit(Instant::now()).unwrap_err().retry_after, 6 * SECOND);
    advance(6 * SECOND).await;
    call(&twin, CallResult::FAILED);
    assert_eq!(twin.admit(Instant::now()).unwrap_err().retry_after, 4 * FIRST_WAIT);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_down_cannot_keep_a_circuit_from_closing() {
    let circuit = circuit();
    let text = r#"{"version":1,"state":"open","remaining_ms":18446744073709551615,"opened":4294967295}"#;
    circuit.import(&serde_json::from_str(text).unwrap()).unwrap();
    advance(Duration::from_secs(60)).await;
    assert_eq!(calls(&circuit, 3, CallResult::Ok), 3);
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_not_taken_over() {
    let circuit = circuit();
    let import = |text: &str| circuit.import(&serde_json::from_str(text).unwrap()).unwrap_err().to_string();
    assert_eq!(import(r#"{"version":2,"state":"open"}"#), "version 2 of a circuit's state; accepted is 1");
    let error = import(r#"{"version":1,"state":"ajar"}"#);
    assert!(error.starts_with(r#"a circuit is never "ajar"; accepted are closed, open, half_open"#), "{error}");
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_is_written_down_as_one_that_may_probe() {
    let circuit = circuit();
    let _probe = half_open(&circuit).await;
    let twin = self::circuit();
    twin.import(&circuit.export()).unwrap();
    assert!(twin.admit(Instant::now()).unwrap().is_probe());
}

#[test]
fn values_that_cannot_be_are_told_with_what_is_accepted() {
    assert_eq!(Share::new(1.5).unwrap_err().to_string(), "a share is a number from 0 to 1, not 1.5");
    assert!(Share::new(f64::NAN).is_err());
    let error = Window::count(0, SECOND).unwrap_err().to_string();
    assert_eq!(error, "a window of 0 calls within 1s; accepted are 1 to 10000 calls within 100ms to 3600s");
    for (length, buckets) in [(SECOND, 0), (SECOND, 101), (millis(99), 1), (Duration::from_secs(3601), 1)] {
        assert!(Window::time(length, buckets).is_err(), "{length:?} in {buckets}");
    }
    assert!(Window::time(SECOND, 100).is_ok());
}

#[tokio::test(start_paused = true)]
async fn nonsense_in_the_settings_is_brought_within_bounds() {
    let config = config().probes(0).minimum_calls(0).consecutive_failures(Consecutive { count: 0, over: SECOND });
    let circuit = Circuit::new("payments", config);
    call(&circuit, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Open);
    advance(FIRST_WAIT).await;
    call(&circuit, CallResult::Ok);
    assert_eq!(circuit.state(), State::Closed);
}
