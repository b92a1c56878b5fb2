//! What a circuit is told: when it opens, for how long, and how it closes again.

use std::fmt;
use std::time::Duration;

use crate::backoff::{Backoff, Jitter};

/// Probes that the state word can count.
const MOST_PROBES: u32 = 15;
/// Outcomes that a window may remember one by one.
const MOST_CALLS: u32 = 10_000;
const MOST_BUCKETS: u32 = 120;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);
/// With throttling on, the rate opens a circuit only at what is nearly a total loss.
const TOTAL_LOSS: Share = Share { millionths: 950_000 };

/// How a circuit decides. The [module's table](crate::circuit_breaker#defaults) lists the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitConfig {
    pub(super) window: Window,
    pub(super) failure_rate: Share,
    pub(super) strict: bool,
    pub(super) minimum_calls: u32,
    pub(super) slow_calls: Option<SlowCalls>,
    pub(super) consecutive_failures: Option<Consecutive>,
    pub(super) open_for: Backoff,
    pub(super) probes: u32,
    pub(super) probe_lease: Option<Duration>,
    pub(super) ramp: Option<Ramp>,
    pub(super) cancellation: Cancellation,
    pub(super) stuck_calls: bool,
    pub(super) throttle: Option<Throttle>,
    pub(super) observe_only: bool,
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self {
            window: Window::Count { calls: 100, within: Duration::from_secs(10) },
            failure_rate: Share { millionths: 500_000 },
            strict: false,
            minimum_calls: 20,
            slow_calls: None,
            consecutive_failures: Some(Consecutive { count: 5, over: Duration::from_secs(1) }),
            open_for: Backoff::doubling(Duration::from_secs(5), Duration::from_secs(60), Jitter::Around(0.2)),
            probes: 3,
            probe_lease: None,
            ramp: Some(Ramp { from: Share { millionths: 100_000 }, over: Duration::from_secs(10) }),
            cancellation: Cancellation::FailureIfSlow,
            stuck_calls: true,
            throttle: None,
            observe_only: false,
        }
    }
}

impl CircuitConfig {
    /// The outcomes to look at; the last 100 that are no older than 10 s.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// The share of failures from which on the circuit opens; 50 %.
    #[must_use]
    pub fn failure_rate(mut self, share: Share) -> Self {
        self.failure_rate = share;
        self
    }

    /// Opens above the rates, and not yet at them, as opossum does; off.
    #[must_use]
    pub fn strictly_above(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// With fewer outcomes in the window no rate is looked at; 20. At least 1, and no more than the window holds.
    #[must_use]
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// Opens for slow calls too; off. A probe that is slow is a probe that failed.
    #[must_use]
    pub fn slow_calls(mut self, slow: impl Into<Option<SlowCalls>>) -> Self {
        self.slow_calls = slow.into();
        self
    }

    /// Below the minimum of calls: opens after so many failures in a row; 5, over at least a second.
    ///
    /// The span keeps a blip of a millisecond on a busy circuit from opening it. How old they are does not matter, so
    /// that what is rarely called is protected too.
    #[must_use]
    pub fn consecutive_failures(mut self, consecutive: impl Into<Option<Consecutive>>) -> Self {
        self.consecutive_failures = consecutive.into();
        self
    }

    /// How long calls are rejected; 5 s, doubling to 60 s while probes fail, 20 % more or less.
    ///
    /// It starts again with the first wait when the circuit is closed for good: after the [ramp](Self::ramp). A server
    /// that says when to come again is believed, between the first and the longest wait.
    #[must_use]
    pub fn open_for(mut self, wait: Backoff) -> Self {
        self.open_for = wait;
        self
    }

    /// How many probes in a row, one at a time, have to succeed before the circuit closes; 3, from 1 to 15.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// A probe that is not heard of for so long has failed; 10 s or twice what is slow, whichever is longer.
    #[must_use]
    pub fn probe_lease(mut self, lease: Duration) -> Self {
        self.probe_lease = Some(lease);
        self
    }

    /// Once closed again, lets a growing share of the calls pass; from 10 % to all of them over 10 s.
    #[must_use]
    pub fn ramp(mut self, ramp: impl Into<Option<Ramp>>) -> Self {
        self.ramp = ramp.into();
        self
    }

    /// What a call counts as that was given up.
    #[must_use]
    pub fn cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// Opens while as many calls as the minimum have been under way for longer than calls take; on.
    ///
    /// Longer than calls take is what counts as [slow](Self::slow_calls), or four times the 95th percentile and at
    /// least 250 ms, once 20 calls have gone well. Calls that have lasted for ten seconds or more are taken for streams;
    /// turn this off where many streams begin at a time, or report them when they begin.
    #[must_use]
    pub fn stuck_calls(mut self, look: bool) -> Self {
        self.stuck_calls = look;
        self
    }

    /// Rejects as many calls as the server would fail, and opens at total loss only (95 % of the calls); off.
    #[must_use]
    pub fn throttle(mut self, throttle: impl Into<Option<Throttle>>) -> Self {
        self.throttle = throttle.into();
        self
    }

    /// Decides, and rejects nothing, until it is [released](super::Circuit::release); off. What would have been rejected is
    /// counted. [`Circuit::observe_only`](super::Circuit::observe_only) does it for a time.
    #[must_use]
    pub fn observe_only(mut self, only: bool) -> Self {
        self.observe_only = only;
        self
    }

    pub(super) fn minimum(&self) -> u64 {
        let most = match self.window {
            Window::Count { calls, .. } => calls,
            Window::Time { .. } => u32::MAX,
        };
        u64::from(self.minimum_calls.clamp(1, most))
    }

    pub(super) fn probes_needed(&self) -> u8 {
        self.probes.clamp(1, MOST_PROBES) as u8
    }

    pub(super) fn lease(&self) -> Duration {
        let slow = self.slow_calls.map_or(Duration::ZERO, |slow| slow.threshold);
        let lease = self.probe_lease.unwrap_or_else(|| slow.saturating_mul(2).max(Duration::from_secs(10)));
        lease.max(Duration::from_millis(1))
    }

    /// The failures in a row that are remembered, and that open the circuit.
    pub(super) fn row(&self) -> Option<Consecutive> {
        let Consecutive { count, over } = self.consecutive_failures?;
        Some(Consecutive { count: count.clamp(1, MOST_CALLS), over })
    }

    pub(super) fn opens_at(&self) -> Share {
        if self.throttle.is_some() { self.failure_rate.max(TOTAL_LOSS) } else { self.failure_rate }
    }
}

/// A part of a whole, from nothing to all of it; to the millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    millionths: u32,
}

impl Share {
    /// All of it.
    pub const ALL: Self = Self { millionths: 1_000_000 };

    /// 0.5 is half.
    ///
    /// # Errors
    ///
    /// [`ShareError`] unless `part` is from 0 to 1.
    pub fn new(part: f64) -> Result<Self, ShareError> {
        if (0.0..=1.0).contains(&part) {
            Ok(Self { millionths: (part * 1e6).round() as u32 })
        } else {
            Err(ShareError(part))
        }
    }

    /// 50 is half; more than 100 is all of it.
    pub const fn percent(percent: u32) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self { millionths: percent * 10_000 }
    }

    /// 0.5 is half.
    pub fn as_f64(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }

    /// Whether `part` of `whole` is as much as this, or more than it where it has to be `strictly` above. In whole
    /// numbers: 7 of 100 are 7 %.
    pub(super) fn is_reached(self, part: u64, whole: u64, strictly: bool) -> bool {
        let (part, bound) = (u128::from(part) * 1_000_000, u128::from(whole) * u128::from(self.millionths));
        if strictly { part > bound } else { part >= bound && part > 0 }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.millionths) / 1e4)
    }
}

/// What is no [`Share`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareError(f64);

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a share is a number from 0 to 1, not {}", self.0)
    }
}

impl std::error::Error for ShareError {}

/// The outcomes that a circuit looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// The last so many, as far as they are not too old. Opens after the same number of failures whatever came before.
    ///
    /// The age of failures and slow calls is exact; that of other calls to a sixteenth of `within`.
    #[non_exhaustive]
    Count {
        /// How many.
        calls: u32,
        /// How old.
        within: Duration,
    },
    /// Those of a time, which moves on by a bucket at a time.
    #[non_exhaustive]
    Time {
        /// The time.
        length: Duration,
        /// The parts that it moves by.
        buckets: u32,
    },
}

impl Window {
    /// The last `calls` that are no older than `within`.
    ///
    /// # Errors
    ///
    /// [`WindowError`] unless `calls` is from 1 to 10,000 and `within` from 100 ms to an hour.
    pub fn count(calls: u32, within: Duration) -> Result<Self, WindowError> {
        let window = Self::Count { calls, within };
        if (1..=MOST_CALLS).contains(&calls) && (SHORTEST..=LONGEST).contains(&within) {
            Ok(window)
        } else {
            Err(WindowError(window))
        }
    }

    /// Everything of the last `length`, which moves on by a part of `buckets` at a time.
    ///
    /// # Errors
    ///
    /// [`WindowError`] unless `length` is from 100 ms to an hour and `buckets` from 1 to 120, of at least 10 ms each.
    pub fn time(length: Duration, buckets: u32) -> Result<Self, WindowError> {
        let window = Self::Time { length, buckets };
        let is_bounded = (SHORTEST..=LONGEST).contains(&length) && (1..=MOST_BUCKETS).contains(&buckets);
        if is_bounded && length / buckets >= Duration::from_millis(10) { Ok(window) } else { Err(WindowError(window)) }
    }
}

/// What is no [`Window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowError(Window);

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Window::Count { calls, within } => write!(
                f,
                "a window of {calls} calls within {within:?}; accepted are 1 to {MOST_CALLS} calls within {SHORTEST:?} to {LONGEST:?}"
            ),
            Window::Time { length, buckets } => write!(
                f,
                "a window of {length:?} in {buckets} buckets; accepted are {SHORTEST:?} to {LONGEST:?} in 1 to {MOST_BUCKETS} buckets of at least 10 ms"
            ),
        }
    }
}

impl std::error::Error for WindowError {}

/// When slow calls open a circuit. Complete: plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowCalls {
    /// From here on a call is slow.
    pub threshold: Duration,
    /// The share of slow calls from which on the circuit opens.
    pub rate: Share,
}

/// Failures in a row. Complete: plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    /// How many; at least 1, at most 10,000.
    pub count: u32,
    /// The time from the first to the last that there has to be at least.
    pub over: Duration,
}

/// A share of the calls that grows to all of them. Complete: plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// The share in the beginning.
    pub from: Share,
    /// How long it takes to come to all of them.
    pub over: Duration,
}

/// Client-side throttling. Complete: plain data.
///
/// A call is held back with the probability `(requests - k * accepts) / (requests + 1)`, over the last requests, those
/// held back among them: as many as the [window](CircuitConfig::window) counts calls, rounded up by up to a sixteenth of
/// its time; all of its time if it does not count.
///
/// `k` decides how much is sent to a server that refuses a part of the calls: `k` times what it accepts. With 2, a server
/// that can do half of what comes still gets everything, and is found to be well as soon as it is. With less it is spared
/// what it would refuse, and calls come back to it more slowly. Ten runs of 1,000 calls a second against a server that can
/// do 500 a second for six seconds, with the defaults otherwise and in brackets with a window that is 2 s long:
///
/// | `k` | sent meanwhile, at most | succeeded, at least | all is well again after, at most |
/// |---|---|---|---|
/// | 2 | 99 % | 49 % | 0 s |
/// | 1.5 | 79 % (78 %) | 49 % (49 %) | 0.5 s (0.25 s) |
/// | 1.2 | 64 % (63 %) | 49 % (49 %) | 0.75 s (0.5 s) |
/// | 1.1 | 59 % (58 %) | 49 % (48 %) | 2.25 s (1.25 s) |
/// | 1.05 | 56 % (55 %) | 48 % (40 %) | 3.75 s (2.75 s) |
///
/// Where half of the calls fail however few there are, anything below 2 makes the calls dwindle to about the tenth that
/// always passes: 13 to 17 % are sent with 1.1. The formula takes all failures for refusals. There, open the circuit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    /// How many requests are made for each that is accepted; 2, at least 1. Less rejects earlier; with 1 calls that have
    /// been held back hardly ever come back.
    pub k: f64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { k: 2.0 }
    }
}

/// What a call counts as whose caller gave it up before it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancellation {
    /// Nothing.
    Ignore,
    /// A failure.
    Failure,
    /// A failure if it had taken longer than calls take: than what counts as slow, or else than the 95th percentile
    /// (100 ms while fewer than 20 calls have been seen). A timeout outside of the circuit is seen by this.
    #[default]
    FailureIfSlow,
}
