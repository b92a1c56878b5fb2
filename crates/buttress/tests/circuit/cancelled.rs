//! Calls that nobody waits for any longer: defect 4 of others.

use buttress::circuit_breaker::{CallResult, Cancellation, Circuit, State};
use tokio::time::{Instant, advance};

use crate::{calls, circuit, config, millis, slow_call};

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
