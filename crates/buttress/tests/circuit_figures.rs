//! The figures that are promised: those of the defaults, of the presets, and of what dashboards show.
#![cfg(feature = "circuit-breaker")]

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, CircuitConfig, Share, SlowCalls, State, preset};
use tokio::time::{Instant, advance};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn call(circuit: &Circuit, result: CallResult) -> bool {
    let now = Instant::now();
    circuit.admit(now).map(|permit| permit.report(result, now)).is_ok()
}

fn calls(circuit: &Circuit, times: usize, result: CallResult) -> usize {
    (0..times).filter(|_| call(circuit, result)).count()
}

fn retry_after(circuit: &Circuit) -> Duration {
    circuit.admit(Instant::now()).expect_err("it is open").retry_after
}

fn is_about(wait: Duration, expected: Duration) -> bool {
    (expected.mul_f64(0.8)..=expected.mul_f64(1.2)).contains(&wait)
}

#[tokio::test(start_paused = true)]
async fn waits_double_from_five_seconds_to_a_minute_a_fifth_more_or_less() {
    let mut seen = Vec::new();
    for _ in 0..50 {
        let circuit = Circuit::new("payments", CircuitConfig::default());
        calls(&circuit, 20, CallResult::FAILED);
        for expected in [5, 10, 20, 40, 60, 60] {
            let wait = retry_after(&circuit);
            assert!(is_about(wait, seconds(expected)), "{wait:?} instead of {expected} s");
            seen.push(wait.as_secs_f64() / seconds(expected).as_secs_f64());
            advance(wait).await;
            assert!(call(&circuit, CallResult::FAILED), "a probe");
        }
    }
    // All of the range is used.
    assert!(seen.iter().any(|share| *share < 0.85) && seen.iter().any(|share| *share > 1.15));
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_probe_is_ten_seconds_or_twice_what_is_slow() {
    for (slow, lease) in [(1, 10), (5, 10), (8, 16)] {
        let slow = SlowCalls { threshold: seconds(slow), rate: Share::percent(80) };
        let circuit = Circuit::new("payments", CircuitConfig::default().slow_calls(slow));
        calls(&circuit, 20, CallResult::FAILED);
        advance(retry_after(&circuit)).await;
        let _probe = circuit.admit(Instant::now()).unwrap();
        advance(seconds(lease) - Duration::from_millis(1)).await;
        assert_eq!(circuit.state(), State::HalfOpen, "{lease}");
        advance(Duration::from_millis(1)).await;
        assert_eq!(circuit.state(), State::Open, "{lease}");
    }
}

/// Timeout, percentage, wait, minimum, window, and a part of it.
const PRESETS: [(preset::Preset, [u64; 6]); 3] = [
    (preset::PAYMENT_API, [15, 50, 30, 5, 60, 10]),
    (preset::WEBHOOK_DELIVERY, [5, 75, 15, 10, 30, 5]),
    (preset::CRITICAL_API, [30, 25, 60, 3, 120, 10]),
];

#[tokio::test(start_paused = true)]
async fn a_preset_opens_at_its_rate_from_its_minimum_of_calls_on_for_its_wait() {
    for (preset, [timeout, percent, wait, minimum, ..]) in PRESETS {
        assert_eq!(preset.timeout(), seconds(timeout));
        let circuit = Circuit::new("payments", preset.config());
        calls(&circuit, minimum as usize - 1, CallResult::FAILED);
        assert_eq!(circuit.state(), State::Closed, "{preset:?}");
        call(&circuit, CallResult::FAILED);
        assert_eq!(circuit.state(), State::Open, "{preset:?}");
        assert!(is_about(retry_after(&circuit), seconds(wait)), "{preset:?}");

        circuit.reset("once more");
        calls(&circuit, 100 - percent as usize, CallResult::Ok);
        calls(&circuit, percent as usize - 1, CallResult::FAILED);
        assert_eq!(circuit.state(), State::Closed, "{preset:?}");
        call(&circuit, CallResult::FAILED);
        assert_eq!(circuit.state(), State::Open, "{preset:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preset_forgets_what_is_older_than_its_window_a_part_at_a_time() {
    for (preset, [_, _, _, minimum, window, part]) in PRESETS {
        for (after, state) in [(window - part, State::Closed), (window, State::Open)] {
            let circuit = Circuit::new("payments", preset.config());
            calls(&circuit, 100, CallResult::Ok);
            advance(seconds(after)).await;
            calls(&circuit, minimum as usize, CallResult::FAILED);
            assert_eq!(circuit.state(), state, "{preset:?} after {after} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn opossums_circuit_opens_above_its_threshold_for_a_fixed_time_and_closes_with_one_probe() {
    let opossum = preset::opossum().volume_threshold(10);
    assert_eq!(opossum.call_timeout(), Some(seconds(10)));
    let circuit = Circuit::new("payments", opossum.config().unwrap());
    calls(&circuit, 5, CallResult::Ok);
    calls(&circuit, 5, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Closed, "half is not above half");
    call(&circuit, CallResult::FAILED);
    for _ in 0..3 {
        assert_eq!(retry_after(&circuit), seconds(30));
        advance(seconds(30)).await;
        assert!(call(&circuit, CallResult::FAILED), "a probe");
    }
    advance(seconds(30)).await;
    assert_eq!(calls(&circuit, 100, CallResult::Ok), 100, "no ramp");
    assert_eq!(circuit.state(), State::Closed);
    // Failures of before have left the window a tenth at a time.
    calls(&circuit, 50, CallResult::FAILED);
    advance(seconds(10)).await;
    calls(&circuit, 9, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn opossums_circuit_opens_with_the_first_failure_and_for_nothing_that_opossum_does_not_know() {
    let circuit = Circuit::new("payments", preset::opossum().config().unwrap());
    call(&circuit, CallResult::FAILED);
    assert_eq!(circuit.state(), State::Open);

    let circuit = Circuit::new("payments", preset::opossum().volume_threshold(10).config().unwrap());
    calls(&circuit, 30, CallResult::Ok);
    // Little traffic that fails, calls that hang, and callers who go away.
    for _ in 0..9 {
        call(&circuit, CallResult::FAILED);
        advance(seconds(2)).await;
    }
    let mut hanging = Vec::new();
    for _ in 0..200 {
        hanging.push(circuit.admit(Instant::now()).unwrap());
        advance(Duration::from_millis(20)).await;
    }
    drop(hanging);
    assert_eq!(circuit.state(), State::Closed);
}

#[test]
fn a_dashboard_shows_0_while_calls_pass_1_while_they_are_rejected_and_a_half_between() {
    let numbers = State::ALL.map(|state| (state.as_str(), state.as_number()));
    let expected = [
        ("closed", 0.0),
        ("open", 1.0),
        ("half_open", 0.5),
        ("forced_open", 1.0),
        ("forced_closed", 0.0),
        ("disabled", 0.0),
    ];
    assert_eq!(numbers, expected);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn half_open_time_in_state_stale_results_and_what_would_have_been_rejected_are_among_the_metrics() {
    use buttress::metrics::Registry;
    let registry = Registry::new();
    let circuit = Circuit::new("payments", CircuitConfig::default());
    circuit.report(&registry);
    let late = circuit.admit(Instant::now()).unwrap();
    calls(&circuit, 20, CallResult::FAILED);
    late.report(CallResult::Ok, Instant::now());
    circuit.observe_only("a trial", None);
    calls(&circuit, 7, CallResult::Ok);
    circuit.release("it is over");
    advance(retry_after(&circuit)).await;
    let _probe = circuit.admit(Instant::now()).unwrap();
    advance(seconds(2)).await;
    drop(registry.snapshot());
    let labels = [("buttress.circuit_breaker.name", "payments"), ("buttress.circuit_breaker.key", "")];
    let gauge = |name| registry.gauge(name).with(labels).value();
    assert_eq!(gauge("buttress.circuit_breaker.state"), 0.5);
    assert_eq!(gauge("buttress.circuit_breaker.time_in_state"), 2.0);
    let counted = |result| {
        let labels = [labels[0], labels[1], ("buttress.circuit_breaker.result", result)];
        registry.counter("buttress.circuit_breaker.calls").with(labels).value()
    };
    assert_eq!((counted("stale"), counted("would_have_rejected")), (1, 7));
}
