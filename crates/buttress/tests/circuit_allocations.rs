//! What a circuit costs in heap allocations: nothing, whatever it does with a call.
#![cfg(feature = "circuit-breaker")]

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, CircuitConfig, Share, SlowCalls, State, Throttle};
use tokio::time::Instant;

/// Allocations of a thousand calls, 1 ms apart, after a thousand that made what is made when it is first needed.
fn allocations(circuit: &Circuit, result: CallResult, takes: Duration) -> u64 {
    let mut now = Instant::now();
    let mut calls = || {
        for _ in 0..1000 {
            now += Duration::from_millis(1);
            if let Ok(permit) = circuit.admit(now) {
                permit.report(result, now + takes);
            }
        }
    };
    calls();
    allocation_counter::measure(calls).count_total
}

fn circuit(config: CircuitConfig) -> Circuit {
    Circuit::new("payments", config)
}

/// Whatever happens it stays closed.
fn patient() -> CircuitConfig {
    CircuitConfig::default().failure_rate(Share::ALL).strictly_above(true).consecutive_failures(None)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}

#[test]
fn a_call_that_passes_allocates_nothing() {
    let circuit = circuit(CircuitConfig::default());
    assert_eq!(allocations(&circuit, CallResult::Ok, Duration::from_millis(1)), 0);
    assert_eq!(circuit.counts().ok, 2000);
}

#[test]
fn a_call_that_fails_or_is_slow_or_given_up_allocates_nothing() {
    let slow = SlowCalls { threshold: Duration::from_millis(500), rate: Share::ALL };
    for result in [CallResult::Ok, CallResult::FAILED, CallResult::Cancelled] {
        let circuit = circuit(patient().slow_calls(slow).stuck_calls(false));
        assert_eq!(allocations(&circuit, result, Duration::from_millis(600)), 0, "{result:?}");
        assert_eq!((circuit.state(), circuit.counts().admitted), (State::Closed, 2000));
    }
}

#[test]
fn a_call_that_is_rejected_allocates_nothing() {
    let circuit = circuit(CircuitConfig::default());
    circuit.force_open("a test", None);
    assert_eq!(allocations(&circuit, CallResult::Ok, Duration::ZERO), 0);
    assert_eq!(circuit.counts().rejected, 2000);
}

#[test]
fn a_call_that_a_throttle_decides_about_allocates_nothing() {
    let circuit = circuit(patient().throttle(Throttle::default()));
    assert_eq!(allocations(&circuit, CallResult::FAILED, Duration::ZERO), 0);
    let counts = circuit.counts();
    assert!(counts.rejected > 0 && counts.failed > 0, "{counts:?}");
}
