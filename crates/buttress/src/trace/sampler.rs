//! Which requests are traced: decided before anything is built.

mod ratio;

use std::fmt;
use std::sync::Arc;

use super::{SpanKind, Spans};
use crate::clock::Instant;
use crate::context::{Context, TraceId, TraceState};
use crate::observe::{RequestHead, When};
use crate::rate::RateLimit;

pub use ratio::{Ratio, RatioError};

/// Decides whether a span is recorded.
///
/// The default is [`Sampler::parent_based`] over [`Sampler::always_on`]; in production put a [`Ratio`] of 10 % in its
/// place.
///
/// ```
/// use buttress::observe::When;
/// use buttress::trace::{Ratio, Sampler};
///
/// let sampler = Sampler::parent_based(Sampler::rules(
///     [(When::path("/healthz"), Sampler::always_off()), (When::path("/checkout"), Sampler::always_on())],
///     Sampler::ratio(Ratio::new(0.1)?),
/// ));
/// # let _ = sampler;
/// # Ok::<(), buttress::trace::RatioError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler(Kind);

#[derive(Clone)]
enum Kind {
    AlwaysOn,
    AlwaysOff,
    Ratio(Ratio),
    PerSecond(RateLimit),
    ParentBased(Arc<ParentBased>),
    Rules(Arc<Rules>),
    Closure(Arc<dyn Fn(&SampleInput<'_>) -> bool + Send + Sync>),
}

/// What a sampler may look at. Everything in it is known when the span starts.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SampleInput<'a> {
    /// The trace.
    pub trace_id: TraceId,
    /// Whether the parent is sampled; none for a root, and where the caller's decision is not trusted.
    pub parent_sampled: Option<bool>,
    /// Whether the parent is in another process.
    pub parent_is_remote: bool,
    /// Server, client or internal.
    pub kind: SpanKind,
    /// The request, for spans of an exchange.
    pub request: Option<RequestHead<'a>>,
    pub(super) random: bool,
    pub(super) tracestate: &'a TraceState,
    pub(super) at: Instant,
}

/// What a sampler decided.
pub(super) struct Decision {
    pub(super) sampled: bool,
    /// The trace state to send on, when it has to tell the decision.
    pub(super) tracestate: Option<TraceState>,
    /// It would have been sampled, had there not been so many others.
    pub(super) rate_limited: bool,
}

impl Decision {
    pub(super) const fn plain(sampled: bool) -> Self {
        Self { sampled, tracestate: None, rate_limited: false }
    }

    const fn limited(admitted: bool) -> Self {
        Self { sampled: admitted, tracestate: None, rate_limited: !admitted }
    }
}

#[derive(Debug)]
struct ParentBased {
    root: Sampler,
    remote_sampled: Sampler,
    remote_not_sampled: Sampler,
    local_sampled: Sampler,
    local_not_sampled: Sampler,
}

#[derive(Debug)]
struct Rules {
    rules: Vec<(When, Sampler)>,
    otherwise: Sampler,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::parent_based(Self::always_on())
    }
}

impl Sampler {
    /// Every span.
    pub const fn always_on() -> Self {
        Self(Kind::AlwaysOn)
    }

    /// No span.
    pub const fn always_off() -> Self {
        Self(Kind::AlwaysOff)
    }

    /// This share of the traces, the same ones in every service (OpenTelemetry, "TraceState: Probability Sampling");
    /// the share travels as `ot=th:..` in `tracestate`.
    pub const fn ratio(ratio: Ratio) -> Self {
        Self(Kind::Ratio(ratio))
    }

    /// At most this many spans a second, with a burst of one second's worth.
    pub fn per_second(spans: u32) -> Self {
        Self(Kind::PerSecond(RateLimit::per_second(spans)))
    }

    /// What the parent decided, here or remote; `root` decides where there is no parent.
    pub fn parent_based(root: Self) -> Self {
        Self::parent_based_with(root, Self::always_on(), Self::always_off(), Self::always_on(), Self::always_off())
    }

    /// OpenTelemetry's five branches: root, remote parent sampled or not, local parent sampled or not.
    pub fn parent_based_with(
        root: Self,
        remote_sampled: Self,
        remote_not_sampled: Self,
        local_sampled: Self,
        local_not_sampled: Self,
    ) -> Self {
        let branches = ParentBased { root, remote_sampled, remote_not_sampled, local_sampled, local_not_sampled };
        Self(Kind::ParentBased(Arc::new(branches)))
    }

    /// The sampler of the first condition that holds, else `otherwise`.
    pub fn rules(rules: impl IntoIterator<Item = (When, Self)>, otherwise: Self) -> Self {
        Self(Kind::Rules(Arc::new(Rules { rules: rules.into_iter().collect(), otherwise })))
    }

    /// Whatever the closure says.
    pub fn closure(sampler: impl Fn(&SampleInput<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Kind::Closure(Arc::new(sampler)))
    }

    /// Decides about the span of this context. What the decision changes about the trace state is changed, and who was
    /// one too many is counted.
    pub(super) fn settle(
        &self,
        context: &mut Context,
        kind: SpanKind,
        request: Option<RequestHead<'_>>,
        at: Instant,
        spans: &Spans,
    ) -> bool {
        if let Some(sampled) = self.foregone(context) {
            return sampled;
        }
        let decision = self.decide(&SampleInput::new(context, kind, request, at));
        if decision.rate_limited {
            spans.count_rate_limited();
        }
        if let Some(tracestate) = decision.tracestate {
            context.set_tracestate(tracestate);
        }
        decision.sampled
    }

    /// What is decided whatever the request, as most is.
    #[inline]
    fn foregone(&self, context: &Context) -> Option<bool> {
        let kind = match &self.0 {
            Kind::ParentBased(branches) => {
                &branches.of_parent(parent_sampled(context), context.origin().remote_parent).0
            }
            kind => kind,
        };
        match kind {
            Kind::AlwaysOn => Some(true),
            Kind::AlwaysOff => Some(false),
            _ => None,
        }
    }

    fn decide(&self, input: &SampleInput<'_>) -> Decision {
        match &self.0 {
            Kind::AlwaysOn => Decision::plain(true),
            Kind::AlwaysOff => Decision::plain(false),
            Kind::Ratio(ratio) => ratio.decide(input),
            Kind::PerSecond(limit) => Decision::limited(limit.admit(input.at)),
            Kind::ParentBased(branches) => {
                branches.of_parent(input.parent_sampled, input.parent_is_remote).decide(input)
            }
            Kind::Rules(rules) => rules.of(input).decide(input),
            Kind::Closure(sampler) => Decision::plain(sampler(input)),
        }
    }
}

impl ParentBased {
    #[inline]
    fn of_parent(&self, sampled: Option<bool>, is_remote: bool) -> &Sampler {
        match (sampled, is_remote) {
            (None, _) => &self.root,
            (Some(true), true) => &self.remote_sampled,
            (Some(false), true) => &self.remote_not_sampled,
            (Some(true), false) => &self.local_sampled,
            (Some(false), false) => &self.local_not_sampled,
        }
    }
}

impl Rules {
    fn of(&self, input: &SampleInput<'_>) -> &Sampler {
        let rule = input.request.and_then(|head| self.rules.iter().find(|(when, _)| when.holds(&head)));
        rule.map_or(&self.otherwise, |(_, sampler)| sampler)
    }
}

#[inline]
fn parent_sampled(context: &Context) -> Option<bool> {
    context.origin().decided.then(|| context.is_sampled())
}

impl<'a> SampleInput<'a> {
    pub(super) fn new(context: &'a Context, kind: SpanKind, request: Option<RequestHead<'a>>, at: Instant) -> Self {
        Self {
            trace_id: context.trace_id(),
            parent_sampled: parent_sampled(context),
            parent_is_remote: context.origin().remote_parent,
            kind,
            request,
            random: context.trace().flags.is_random(),
            tracestate: context.tracestate(),
            at,
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlwaysOn => f.write_str("always_on"),
            Self::AlwaysOff => f.write_str("always_off"),
            Self::Ratio(ratio) => write!(f, "ratio({})", ratio.get()),
            Self::PerSecond(limit) => write!(f, "per_second({limit:?})"),
            Self::ParentBased(branches) => write!(f, "parent_based({:?})", branches.root),
            Self::Rules(rules) => write!(f, "rules({:?})", rules),
            Self::Closure(_) => f.write_str("closure"),
        }
    }
}
