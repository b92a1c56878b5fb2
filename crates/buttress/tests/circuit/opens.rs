//! When it opens.

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, Reason, RejectedBecause, Share, SlowCalls, State, Window};
use tokio::time::{Instant, advance};

use crate::{FIRST_WAIT, call, calls, circuit, config, millis, slow_call};

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
