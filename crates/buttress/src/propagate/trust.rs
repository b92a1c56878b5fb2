//! Whom to believe, and how far.

use std::sync::Arc;

use crate::clock::Instant;
use crate::context::Baggage;
use crate::rate::RateLimit;

/// What to do with the trace of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Go on with it.
    #[default]
    Adopt,
    /// Start a new trace and link the caller's; its trace state is cleared.
    RestartAndLink,
    /// Start a new trace and forget the caller's.
    RestartAndDrop,
}

/// What to do with the caller's sampled flag. A restarted trace never shows it to a sampler.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum SampledTrust {
    /// Sample what the caller samples.
    #[default]
    Honour,
    /// Let our sampler decide as for a new trace.
    Ignore,
    /// Sample what the caller samples up to a limit; beyond it our sampler decides.
    HonourUpTo(RateLimit),
}

/// Which members of the caller's baggage are kept.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum BaggageTrust {
    /// All of them.
    #[default]
    All,
    /// None.
    Nothing,
    /// Those with one of these keys.
    Only(Arc<[String]>),
}

impl BaggageTrust {
    /// Keeps the members with these keys.
    pub fn only(keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Only(keys.into_iter().map(Into::into).collect())
    }

    pub(super) fn apply(&self, mut baggage: Baggage) -> Baggage {
        match self {
            Self::All => baggage,
            Self::Nothing => Baggage::EMPTY,
            Self::Only(keys) => {
                baggage.retain(|key| keys.iter().any(|allowed| allowed == key));
                baggage
            }
        }
    }
}

impl SampledTrust {
    /// Whether the caller's flag stands.
    pub(super) fn stands(&self, sampled: bool, at: Instant) -> bool {
        match self {
            Self::Honour => true,
            Self::Ignore => false,
            Self::HonourUpTo(limit) => !sampled || limit.admit(at),
        }
    }
}

/// What is believed of a request. The default believes everything, as inside one's own network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrustPolicy {
    /// The trace itself.
    pub trace: Trust,
    /// Its sampled flag.
    pub sampled: SampledTrust,
    /// Its trace state.
    pub tracestate: bool,
    /// Its baggage.
    pub baggage: BaggageTrust,
    /// `X-Trace-ID`, `X-Request-ID` and the other fields of correlation.
    pub correlation: bool,
    /// Whether the answer tells our ids.
    pub echo: bool,
}

impl Default for TrustPolicy {
    fn default() -> Self {
        Self::internal()
    }
}

impl TrustPolicy {
    /// Everything is believed.
    pub fn internal() -> Self {
        Self {
            trace: Trust::Adopt,
            sampled: SampledTrust::Honour,
            tracestate: true,
            baggage: BaggageTrust::All,
            correlation: true,
            echo: true,
        }
    }

    /// For a public edge: a new trace with a link to the caller's, no baggage; ids of correlation are still kept and
    /// answered.
    pub fn public() -> Self {
        Self {
            trace: Trust::RestartAndLink,
            sampled: SampledTrust::Ignore,
            tracestate: false,
            baggage: BaggageTrust::Nothing,
            ..Self::internal()
        }
    }

    /// With another treatment of the trace.
    #[must_use]
    pub fn trace(mut self, trace: Trust) -> Self {
        self.trace = trace;
        self
    }

    /// With another treatment of the sampled flag.
    #[must_use]
    pub fn sampled(mut self, sampled: SampledTrust) -> Self {
        self.sampled = sampled;
        self
    }

    /// Keeps the caller's trace state or not.
    #[must_use]
    pub fn tracestate(mut self, keep: bool) -> Self {
        self.tracestate = keep;
        self
    }

    /// With another treatment of the baggage.
    #[must_use]
    pub fn baggage(mut self, baggage: BaggageTrust) -> Self {
        self.baggage = baggage;
        self
    }

    /// Keeps the caller's ids of correlation or not; without, an `X-Trace-ID` is neither adopted nor answered.
    #[must_use]
    pub fn correlation(mut self, keep: bool) -> Self {
        self.correlation = keep;
        self
    }

    /// Tells our ids in the answer or not.
    #[must_use]
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }
}
