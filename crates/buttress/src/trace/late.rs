//! The late decision: keep what turned out slow or failed, although nobody had sampled it.

use std::time::Duration;

use crate::clock::Instant;
use crate::rate::RateLimit;

/// Keeps unsampled requests that took too long or failed, up to a number a second.
///
/// Costs an unsampled request the recording of a sampled one, so it is off by default. An answer whose head already
/// showed the reason says so: `x-trace-sampled: late`, and the sampled flag in `server-timing`.
#[derive(Clone, Debug)]
pub struct LateDecision {
    slow: Option<Duration>,
    errors: bool,
    limit: RateLimit,
}

impl LateDecision {
    /// Keeps failed requests, at most this many a second.
    pub fn errors(per_second: u32) -> Self {
        Self { slow: None, errors: true, limit: RateLimit::per_second(per_second) }
    }

    /// Keeps requests that took longer than this too.
    #[must_use]
    pub fn slower_than(mut self, slow: Duration) -> Self {
        self.slow = Some(slow);
        self
    }

    pub(super) fn keeps(&self, took: Duration, is_error: bool, at: Instant) -> bool {
        let worth_it = (self.errors && is_error) || self.slow.is_some_and(|slow| took > slow);
        worth_it && self.limit.admit(at)
    }
}
