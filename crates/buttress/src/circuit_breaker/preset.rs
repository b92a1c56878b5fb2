//! Settings that others have found to work, and those of opossum for people who come from there.

use std::time::Duration;

use super::config::{Cancellation, CircuitConfig, Share, Window, WindowError};
use crate::backoff::{Backoff, Jitter};

/// For a kind of dependency: when its circuit opens, and how long one call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    timeout: u32,
    failure_percent: u32,
    first_wait: u32,
    minimum_calls: u32,
    window: u32,
    buckets: u32,
}

/// Payments: 15 s a call; opens when half of the calls of a minute failed, of at least 5, for 30 s.
pub const PAYMENT_API: Preset =
    Preset { timeout: 15, failure_percent: 50, first_wait: 30, minimum_calls: 5, window: 60, buckets: 6 };

/// Webhooks, whose receivers are many and often broken: 5 s a call; opens when three quarters of the calls of half a
/// minute failed, of at least 10, for 15 s.
pub const WEBHOOK_DELIVERY: Preset =
    Preset { timeout: 5, failure_percent: 75, first_wait: 15, minimum_calls: 10, window: 30, buckets: 6 };

/// What nothing works without: 30 s a call; opens when a quarter of the calls of two minutes failed, of at least 3, for
/// a minute.
pub const CRITICAL_API: Preset =
    Preset { timeout: 30, failure_percent: 25, first_wait: 60, minimum_calls: 3, window: 120, buckets: 12 };

impl Preset {
    /// How long one call may take. The circuit does not look after it: that is the timeout's, which belongs inside.
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout as u64)
    }

    /// The circuit. Waits double up to four times the first while probes fail; what is not said here is the default.
    pub fn config(&self) -> CircuitConfig {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let first = seconds(self.first_wait);
        CircuitConfig::default()
            .window(Window::Time { length: seconds(self.window), buckets: self.buckets })
            .failure_rate(Share::percent(self.failure_percent))
            .minimum_calls(self.minimum_calls)
            .open_for(Backoff::doubling(first, 4 * first, Jitter::Around(0.2)))
    }
}

/// The options of opossum, by their names there.
///
/// What stays different: a timeout ends the call; a call rejected on this side is no failure; an outcome that comes
/// after the state has changed decides nothing; cache hits and rejected calls are not among those that the percentage
/// is of; and a probe that is never heard of again opens the circuit once more after 10 s, instead of blocking it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opossum {
    timeout: Option<Duration>,
    error_threshold_percentage: u32,
    reset_timeout: Duration,
    volume_threshold: u32,
    rolling_count_timeout: Duration,
    rolling_count_buckets: u32,
}

/// opossum's defaults: opens above 50 % of the calls of 10 s, for 30 s, and closes with the first that succeeds.
pub const fn opossum() -> Opossum {
    Opossum {
        timeout: Some(Duration::from_secs(10)),
        error_threshold_percentage: 50,
        reset_timeout: Duration::from_secs(30),
        volume_threshold: 0,
        rolling_count_timeout: Duration::from_secs(10),
        rolling_count_buckets: 10,
    }
}

impl Opossum {
    /// How long one call may take; 10 s, `None` for ever.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Opens above this percentage of failures; 50.
    #[must_use]
    pub const fn error_threshold_percentage(mut self, percentage: u32) -> Self {
        self.error_threshold_percentage = percentage;
        self
    }

    /// How long it stays open; 30 s.
    #[must_use]
    pub const fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.reset_timeout = timeout;
        self
    }

    /// Does not open with fewer calls in the window; 0.
    #[must_use]
    pub const fn volume_threshold(mut self, calls: u32) -> Self {
        self.volume_threshold = calls;
        self
    }

    /// The window; 10 s.
    #[must_use]
    pub const fn rolling_count_timeout(mut self, timeout: Duration) -> Self {
        self.rolling_count_timeout = timeout;
        self
    }

    /// The parts that the window moves by; 10.
    #[must_use]
    pub const fn rolling_count_buckets(mut self, buckets: u32) -> Self {
        self.rolling_count_buckets = buckets;
        self
    }

    /// How long one call may take. The circuit does not look after it: that is the timeout's, which belongs inside.
    pub const fn call_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The circuit: one probe, no ramp, a fixed wait, no failures in a row, no stuck calls.
    ///
    /// # Errors
    ///
    /// [`WindowError`] when the rolling count cannot be a [`Window`].
    pub fn config(&self) -> Result<CircuitConfig, WindowError> {
        Ok(CircuitConfig::default()
            .window(Window::time(self.rolling_count_timeout, self.rolling_count_buckets)?)
            .failure_rate(Share::percent(self.error_threshold_percentage))
            .strictly_above(true)
            .minimum_calls(self.volume_threshold)
            .open_for(Backoff::constant(self.reset_timeout))
            .cancellation(Cancellation::Ignore)
            .consecutive_failures(None)
            .stuck_calls(false)
            .probes(1)
            .ramp(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_the_presets_are_ones_that_could_be_asked_for() {
        for preset in [PAYMENT_API, WEBHOOK_DELIVERY, CRITICAL_API] {
            let Window::Time { length, buckets } = preset.config().window else { panic!("a window of time") };
            assert_eq!(Window::time(length, buckets), Ok(preset.config().window));
        }
    }

    #[test]
    fn what_opossum_takes_and_this_does_not_is_told() {
        let error = opossum().rolling_count_buckets(0).config().unwrap_err().to_string();
        assert_eq!(
            error,
            "a window of 10s in 0 buckets; accepted are 100ms to 3600s in 1 to 120 buckets of at least 10 ms"
        );
    }
}
