//! Calls, times and settings out of the ordinary.

use std::time::Duration;

use buttress::circuit_breaker::{CallError, CallResult, Circuit, Consecutive, Share, State, Window};
use tokio::time::{Instant, advance};

use crate::{FIRST_WAIT, SECOND, call, calls, circuit, config, half_open, millis};

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
