use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tower_layer::Layer;

use super::stats::Stats;
use super::{Hedge, Retry, RetryBudget, RetryPolicy, RetryStats};
use crate::backoff::Backoff;
use crate::signal::Signals;

/// Repeats requests that failed by chance.
///
/// Clones, and the services of all of them, share one budget and one set of numbers.
#[derive(Clone)]
pub struct RetryLayer(pub(super) Arc<Config>);

#[derive(Clone)]
pub(super) struct Config {
    pub(super) policy: RetryPolicy,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) deadline_header: Option<HeaderName>,
    pub(super) replay_limit: usize,
    pub(super) hedge: Option<Hedge>,
    pub(super) name: Arc<str>,
    pub(super) signals: Option<Signals>,
    pub(super) stats: Arc<Stats>,
}

impl RetryLayer {
    /// Three attempts, [`Backoff::default`] between them, no deadline but the caller's, no hedges, and a
    /// [`RetryBudget`] of its own.
    pub fn new() -> Self {
        Self(Arc::new(Config {
            policy: RetryPolicy::new(),
            attempt_timeout: None,
            deadline: None,
            deadline_header: None,
            replay_limit: 64 * 1024,
            hedge: None,
            name: "client".into(),
            signals: None,
            stats: Arc::default(),
        }))
    }

    /// How often a request is sent at most, the first time included; 1 is never again. 3 by default.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        self.with(|config| config.policy.attempts = attempts)
    }

    /// How long to wait between attempts, where the server does not say. [`Backoff::default`] by default.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|config| config.policy.backoff = backoff)
    }

    /// A budget that others share. One of its own by default.
    #[must_use]
    pub fn budget(self, budget: RetryBudget) -> Self {
        self.with(|config| config.policy.budget = budget)
    }

    /// Other rules, with their number of attempts, their backoff and their budget.
    #[must_use]
    pub fn policy(self, policy: RetryPolicy) -> Self {
        self.with(|config| config.policy = policy)
    }

    /// Drops an attempt that has no answer in this time; requests that may be sent twice are tried again. None by default.
    ///
    /// Where something has to stand between the retry and the timeout, use
    /// [`AttemptTimeoutLayer`](super::AttemptTimeoutLayer).
    #[must_use]
    pub fn attempt_timeout(self, after: Duration) -> Self {
        self.with(|config| config.attempt_timeout = Some(after))
    }

    /// All attempts and waits together take at most this long, else the call fails with
    /// [`TimedOut::Deadline`](super::TimedOut::Deadline). None by default.
    ///
    /// Whatever is nearest holds: this, the request's own `grpc-timeout`, the deadline of the request that is being served
    /// here ([`TierLayer`](super::TierLayer)). The time that is left is told to the server in `grpc-timeout`, for gRPC.
    #[must_use]
    pub fn deadline(self, after: Duration) -> Self {
        self.with(|config| config.deadline = Some(after))
    }

    /// A header that tells the server the time left in milliseconds, for what is not gRPC. None by default.
    #[must_use]
    pub fn deadline_header(self, name: HeaderName) -> Self {
        self.with(|config| config.deadline_header = Some(name))
    }

    /// How many bytes of a request's body are kept for a repeat. 64 KiB by default.
    ///
    /// A body that is longer goes its way, and the request is not repeated.
    #[must_use]
    pub fn replay_limit(self, bytes: usize) -> Self {
        self.with(|config| config.replay_limit = bytes)
    }

    /// Sends a safe request a second time when its answer takes long. Off by default.
    #[must_use]
    pub fn hedge(self, hedge: Hedge) -> Self {
        self.with(|config| config.hedge = Some(hedge))
    }

    /// The name of the client in signals. `client` by default.
    #[must_use]
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|config| config.name = name.into())
    }

    /// Where it is told when attempts are exhausted or the budget is spent. Nowhere by default.
    #[must_use]
    pub fn signals(self, signals: Signals) -> Self {
        self.with(|config| config.signals = Some(signals))
    }

    /// What was done so far, by all services of this layer and its clones.
    pub fn stats(&self) -> RetryStats {
        self.0.stats.read(self.0.policy.budget.counts())
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(inner, self)
    }
}

impl fmt::Debug for RetryLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("name", &self.0.name).field("policy", &self.0.policy).finish_non_exhaustive()
    }
}
