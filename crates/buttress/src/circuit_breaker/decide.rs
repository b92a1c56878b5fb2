//! Whether what was seen is enough to open a circuit, or to hold back a part of the calls. Pure.

use super::config::{CircuitConfig, Throttle};
use super::outcomes::{Demand, Seen};
use super::transition::Reason;

/// However few are accepted, a part of the calls passes, so that an end of the trouble is seen.
const MOST_HELD_BACK: f64 = 0.9;

/// Why the circuit opens, if it does.
pub(super) fn trip(config: &CircuitConfig, seen: &Seen) -> Option<Reason> {
    let Seen { calls, failed, slow, row, row_span } = *seen;
    if calls >= config.minimum() {
        if config.opens_at().is_reached(failed, calls, config.strict) {
            return Some(Reason::FailureRate { failed, calls });
        }
        let rate = config.slow_calls?.rate;
        return rate.is_reached(slow, calls, config.strict).then_some(Reason::SlowCallRate { slow, calls });
    }
    let needed = config.row()?;
    let is_long = u128::from(row_span) >= needed.over.as_millis();
    (is_long && row >= u64::from(needed.count)).then(|| Reason::ConsecutiveFailures(row.min(u32::MAX.into()) as u32))
}

/// The share of calls to hold back: client-side throttling of the SRE book, chapter "Handling Overload".
pub(super) fn hold_back(throttle: Throttle, demand: Demand) -> f64 {
    let (requests, accepts) = (demand.requests as f64, demand.accepts as f64);
    // No number is as good as 1.
    ((requests - throttle.k.max(1.0) * accepts) / (requests + 1.0)).clamp(0.0, MOST_HELD_BACK)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::circuit_breaker::{Share, SlowCalls, Window};

    fn seen(calls: u64, failed: u64, slow: u64) -> Seen {
        Seen { calls, failed, slow, ..Seen::default() }
    }

    fn row(calls: u64, row: u64, row_span: u64) -> Seen {
        Seen { calls, failed: row, row, row_span, ..Seen::default() }
    }

    #[test]
    fn opens_at_the_rate_and_not_below_it() {
        let config = CircuitConfig::default();
        assert_eq!(trip(&config, &seen(100, 50, 0)), Some(Reason::FailureRate { failed: 50, calls: 100 }));
        assert_eq!(trip(&config, &seen(100, 49, 0)), None);
    }

    #[test]
    fn opens_above_the_rate_and_not_at_it_where_that_is_asked_for() {
        let config = CircuitConfig::default().strictly_above(true);
        assert_eq!(trip(&config, &seen(100, 50, 0)), None);
        assert!(trip(&config, &seen(100, 51, 0)).is_some());
    }

    #[test]
    fn seven_of_a_hundred_are_seven_percent() {
        let config = CircuitConfig::default().failure_rate(Share::new(0.07).unwrap());
        assert!(trip(&config, &seen(100, 7, 0)).is_some());
        assert!(trip(&config.strictly_above(true), &seen(100, 7, 0)).is_none());
    }

    #[test]
    fn a_rate_says_nothing_below_the_minimum() {
        let config = CircuitConfig::default();
        assert_eq!(trip(&config, &seen(19, 19, 0)), None);
        assert!(trip(&config, &seen(20, 20, 0)).is_some());
    }

    #[test]
    fn the_minimum_is_no_more_than_the_window_holds() {
        let config = CircuitConfig::default().window(Window::count(10, Duration::from_secs(10)).unwrap());
        assert!(trip(&config, &seen(10, 5, 0)).is_some());
        assert_eq!(trip(&config, &seen(9, 9, 0)), None);
    }

    #[test]
    fn slow_calls_open_only_where_they_are_asked_for() {
        let slow = SlowCalls { threshold: Duration::from_secs(1), rate: Share::percent(80) };
        let config = CircuitConfig::default().slow_calls(slow);
        assert_eq!(trip(&config, &seen(100, 0, 80)), Some(Reason::SlowCallRate { slow: 80, calls: 100 }));
        assert_eq!(trip(&config, &seen(100, 0, 79)), None);
        assert_eq!(trip(&CircuitConfig::default(), &seen(100, 0, 100)), None);
        assert_eq!(trip(&config.strictly_above(true), &seen(100, 0, 80)), None);
    }

    #[test]
    fn failures_in_a_row_open_below_the_minimum_once_they_span_a_second() {
        let config = CircuitConfig::default();
        assert_eq!(trip(&config, &row(5, 5, 1000)), Some(Reason::ConsecutiveFailures(5)));
        assert_eq!(trip(&config, &row(5, 5, 999)), None);
        assert_eq!(trip(&config, &row(4, 4, 9000)), None);
        assert_eq!(trip(&config, &row(100, 5, 9000)), None, "there are calls enough for the rate");
        assert_eq!(trip(&config.consecutive_failures(None), &row(5, 5, 1000)), None);
    }

    #[test]
    fn with_a_throttle_the_rate_opens_at_total_loss_only() {
        let config = CircuitConfig::default().throttle(Throttle::default());
        assert_eq!(trip(&config, &seen(100, 94, 0)), None);
        assert!(trip(&config, &seen(100, 95, 0)).is_some());
    }

    #[test]
    fn holds_back_what_goes_beyond_k_times_what_is_accepted() {
        let share = |requests, accepts| hold_back(Throttle::default(), Demand { requests, accepts });
        assert_eq!(share(100, 50), 0.0);
        assert_eq!(share(100, 100), 0.0);
        assert_eq!(share(99, 0), 0.9);
        assert_eq!(share(8, 0), 8.0 / 9.0);
        assert_eq!(share(0, 0), 0.0);
        assert_eq!(share(99, 25), 0.49);
        let nonsense = Throttle { k: f64::NAN };
        assert_eq!(hold_back(nonsense, Demand { requests: 99, accepts: 50 }), 0.49);
    }
}
