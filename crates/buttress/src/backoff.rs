//! How long to wait before the next try: exponential growth up to a bound, spread by jitter.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::backoff::{Backoff, Jitter};
//!
//! let backoff = Backoff::exponential(Duration::from_millis(50), 2.0, Duration::from_secs(1))?.jitter(Jitter::Full);
//! let mut delays = backoff.delays();
//! assert!(delays.next_delay() <= Duration::from_millis(50));
//! assert!(delays.next_delay() <= Duration::from_millis(100));
//! # Ok::<(), buttress::backoff::BackoffError>(())
//! ```

use std::fmt;
use std::time::Duration;

use crate::random;

/// Waits that grow by a factor from `initial` to `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    initial: Duration,
    factor: f64,
    max: Duration,
    jitter: Jitter,
}

/// How waits are spread, so that those who failed together do not come again together.
///
/// Full, equal and decorrelated are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// The wait itself.
    None,
    /// Anything from nothing to the wait.
    Full,
    /// Half of the wait, and anything from nothing to the other half.
    Equal,
    /// Anything from `initial` to three times the wait before.
    Decorrelated,
    /// The wait, up to this share of it more or less; 0.2 is 20 %. May exceed `max` by as much.
    Around(f64),
}

impl Backoff {
    /// `initial`, then each time `factor` times as long, up to `max`; with full jitter.
    ///
    /// # Errors
    ///
    /// [`BackoffError`] when `initial` is zero or longer than `max`, or `factor` is less than 1 or no number.
    pub fn exponential(initial: Duration, factor: f64, max: Duration) -> Result<Self, BackoffError> {
        if initial.is_zero() || initial > max {
            return Err(BackoffError::Initial { initial, max });
        }
        if !(factor >= 1.0 && factor.is_finite()) {
            return Err(BackoffError::Factor(factor));
        }
        Ok(Self { initial, factor, max, jitter: Jitter::Full })
    }

    /// Doubles from `initial` to `max`, for constants of this crate.
    pub(crate) const fn doubling(initial: Duration, max: Duration, jitter: Jitter) -> Self {
        Self { initial, factor: 2.0, max, jitter }
    }

    /// Always the same wait, without jitter.
    pub const fn constant(wait: Duration) -> Self {
        Self { initial: wait, factor: 1.0, max: wait, jitter: Jitter::None }
    }

    /// Another jitter.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The first wait.
    pub const fn initial(&self) -> Duration {
        self.initial
    }

    /// What no wait exceeds before jitter.
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The wait before try `nth` + 1, without jitter; the first is number 0.
    pub fn base(&self, nth: u32) -> Duration {
        let longest = self.max.as_secs_f64();
        // Infinity is longer than the longest.
        let exponent = i32::try_from(nth).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.factor.powi(exponent);
        if seconds >= longest { self.max } else { Duration::from_secs_f64(seconds) }
    }

    /// A wait of [`base`](Self::base), spread. Decorrelated jitter takes the base before as the wait before.
    pub fn delay(&self, nth: u32) -> Duration {
        let before = if nth == 0 { self.initial } else { self.base(nth - 1) };
        self.spread(self.base(nth), before)
    }

    /// The waits one after the other.
    pub const fn delays(self) -> Delays {
        Delays { backoff: self, nth: 0, before: self.initial }
    }

    fn spread(&self, base: Duration, before: Duration) -> Duration {
        match self.jitter {
            Jitter::None => base,
            Jitter::Full => base.mul_f64(random::unit()),
            Jitter::Equal => (base / 2) + (base / 2).mul_f64(random::unit()),
            Jitter::Decorrelated => {
                let longest = before.saturating_mul(3).clamp(self.initial, self.max);
                self.initial + (longest - self.initial).mul_f64(random::unit())
            }
            Jitter::Around(share) => {
                let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
                base.mul_f64(1.0 + share * (2.0 * random::unit() - 1.0))
            }
        }
    }
}

impl Default for Backoff {
    /// 50 ms, doubling to 1 s, with full jitter.
    fn default() -> Self {
        Self::doubling(Duration::from_millis(50), Duration::from_secs(1), Jitter::Full)
    }
}

/// The waits of one request; of [`Backoff::delays`].
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    backoff: Backoff,
    nth: u32,
    before: Duration,
}

impl Delays {
    /// The next wait.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.backoff.spread(self.backoff.base(self.nth), self.before);
        self.nth = self.nth.saturating_add(1);
        self.before = delay;
        delay
    }
}

/// A backoff that cannot be.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BackoffError {
    /// The first wait is nothing, or longer than the longest.
    Initial {
        /// The first.
        initial: Duration,
        /// The longest.
        max: Duration,
    },
    /// The factor does not make waits longer.
    Factor(f64),
}

impl fmt::Display for BackoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initial { initial, max } => {
                write!(f, "the first wait of a backoff is above zero and at most the longest, {max:?}, not {initial:?}")
            }
            Self::Factor(factor) => write!(f, "the factor of a backoff is a number from 1 on, not {factor}"),
        }
    }
}

impl std::error::Error for BackoffError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff::doubling(FIRST, LONGEST, jitter)
    }

    #[test]
    fn doubles_from_the_first_wait_to_the_longest() {
        let mut delays = backoff(Jitter::None).delays();
        let waits: Vec<_> = (0..7).map(|_| delays.next_delay().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff(Jitter::None).delay(u32::MAX), LONGEST);
    }

    #[test]
    fn no_two_requests_wait_alike() {
        let waits = |_| {
            let mut delays = Backoff::default().delays();
            std::array::from_fn::<_, 3, _>(|_| delays.next_delay())
        };
        let all: std::collections::HashSet<_> = (0..100).map(waits).collect();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let waits = || {
            random::seed(5);
            let mut delays = backoff(Jitter::Decorrelated).delays();
            std::array::from_fn::<_, 5, _>(|_| delays.next_delay())
        };
        assert_eq!(waits(), waits());
    }

    #[test]
    fn wrong_values_are_told_with_what_is_accepted() {
        let error = Backoff::exponential(Duration::from_secs(2), 2.0, LONGEST).unwrap_err();
        assert_eq!(error.to_string(), "the first wait of a backoff is above zero and at most the longest, 1s, not 2s");
        assert!(Backoff::exponential(Duration::ZERO, 2.0, LONGEST).is_err());
        for factor in [0.5, f64::NAN, f64::INFINITY] {
            assert!(Backoff::exponential(FIRST, factor, LONGEST).is_err(), "{factor}");
        }
    }

    proptest! {
        #[test]
        fn every_jitter_stays_within_what_it_says(nth in 0..40u32, share in 0.0..1.0f64, seed: u64) {
            random::seed(seed);
            let base = backoff(Jitter::None).base(nth);
            prop_assert!(backoff(Jitter::Full).delay(nth) <= base);
            let equal = backoff(Jitter::Equal).delay(nth);
            prop_assert!(equal >= base / 2 && equal <= base);
            let decorrelated = backoff(Jitter::Decorrelated).delay(nth);
            prop_assert!(decorrelated >= FIRST && decorrelated <= LONGEST);
            let around = backoff(Jitter::Around(share)).delay(nth).as_secs_f64();
            let base = base.as_secs_f64();
            prop_assert!((around - base).abs() <= base * share + 1e-9);
        }

        #[test]
        fn full_jitter_uses_the_whole_of_the_wait(seed: u64) {
            random::seed(seed);
            let waits: Vec<_> = (0..200).map(|_| backoff(Jitter::Full).delay(3)).collect();
            let base = backoff(Jitter::None).base(3);
            prop_assert!(waits.iter().any(|wait| *wait < base / 4));
            prop_assert!(waits.iter().any(|wait| *wait > base / 4 * 3));
        }
    }
}
