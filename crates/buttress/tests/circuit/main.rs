//! What a circuit decides, as those see it who call by it. Time is tokio's and stands still unless a test moves it.
#![cfg(feature = "circuit-breaker")]

mod by_hand;
mod cancelled;
mod closes;
mod edges;
mod opens;
mod restart;
mod seen;
mod shares;

use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::circuit_breaker::{CallResult, Circuit, CircuitConfig, State};
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_secs(5);

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
