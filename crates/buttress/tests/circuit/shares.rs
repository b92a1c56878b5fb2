//! When only a share of the calls passes: the ramp, and the throttle.

use buttress::circuit_breaker::{CallResult, Cancellation, Circuit, Ramp, Share, State, Throttle};
use tokio::time::{Instant, advance};

use crate::{FIRST_WAIT, SECOND, call, calls, config, half_open, millis};

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
