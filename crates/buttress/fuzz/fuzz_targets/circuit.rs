//! The written state of a circuit, as a file or another instance may hand it over: any bytes.
#![no_main]

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, CircuitConfig, CircuitState, State};
use libfuzzer_sys::fuzz_target;
use tokio::time::Instant;

/// The longest wait of the defaults, its jitter, and a ramp.
const LONGEST: Duration = Duration::from_secs(72);

fuzz_target!(|input: &[u8]| {
    let Ok(state) = serde_json::from_slice::<CircuitState>(input) else { return };
    let circuit = Circuit::new("fuzzed", CircuitConfig::default().ramp(None));
    match circuit.import(&state) {
        Ok(()) => takes_over(&circuit, &state),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(circuit.state(), State::Closed);
        }
    }
});

fn takes_over(circuit: &Circuit, state: &CircuitState) {
    // What ends at once may have ended by now.
    let expected = match state.state() {
        Some(State::HalfOpen) => Some(State::Open),
        other => other,
    };
    let is_over = state.remaining().is_some_and(|left| left < Duration::from_secs(10));
    assert!(is_over || Some(circuit.state()) == expected);
    let written = serde_json::to_vec(&circuit.export()).expect("plain data");
    let read = serde_json::from_slice::<CircuitState>(&written).expect("as it was written");
    circuit.import(&read).expect("as it was written");

    // Whatever was written: once nothing is forced, the longest wait and three good calls close it.
    circuit.release("the end");
    let later = Instant::now() + LONGEST;
    for _ in 0..3 {
        circuit.admit(later).expect("the longest wait is over").report(CallResult::Ok, later);
    }
    assert_eq!(circuit.snapshot(later).state, State::Closed);
    // And the wait that it was told to have grown to stays within bounds.
    circuit.reset("again");
    for _ in 0..20 {
        let Ok(permit) = circuit.admit(later) else { break };
        permit.report(CallResult::FAILED, later);
    }
    let rejected = circuit.admit(later).expect_err("twenty failures");
    assert!(rejected.retry_after <= LONGEST);
}
