//! Who is this request? Trace context, trace state, baggage and the fields of correlation, carried from the layer that
//! reads them to every place that asks.
//!
//! ```
//! use buttress::context::{self, Context};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let context = Context::root();
//! let trace_id = context.trace_id();
//! context.scope(async move {
//!     assert_eq!(context::current().map(|c| c.trace_id()), Some(trace_id));
//!     // A task that `tokio::spawn` starts would not know the context; this one does.
//!     let inner = context::spawn(async { context::current().map(|c| c.trace_id()) });
//!     assert_eq!(inner.await.ok().flatten(), Some(trace_id));
//! })
//! .await;
//! # }
//! ```
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `id` | [`TraceId`], [`SpanId`], their generator |
//! | `traceparent` | [`TraceContext`], [`TraceFlags`] and the header |
//! | `tracestate`, `baggage` | the two lists, kept as the bytes that came |
//! | `carrier` | the task-local, [`Scope`], [`spawn`], [`InContext`] |
//! | `bridge` | [`ContextBridge`]: other tracing libraries follow along |
//! | `annotation` | attributes and events added to the current span |
//! | `log` | trace ids on log lines |

mod annotation;
mod baggage;
mod bridge;
mod carrier;
mod hex;
mod id;
mod list;
mod log;
mod text;
mod traceparent;
mod tracestate;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

pub use annotation::{Key, Value};
pub use baggage::{Baggage, BaggageError, BaggageMember};
pub use bridge::{BridgeInstalled, ContextBridge, active, install_bridge};
pub use carrier::{InContext, Scope, current, spawn, spawn_blocking, with_current};
pub use id::{ParseIdError, SpanId, TraceId};
#[cfg(feature = "tracing-subscriber")]
pub use log::ContextFormat;
#[cfg(feature = "log")]
pub use log::Correlated;
pub use log::{LogFields, log_fields};
pub use text::Text;
pub use traceparent::{TraceContext, TraceFlags, TraceparentError};
pub use tracestate::{TraceState, TraceStateError};

pub(crate) use annotation::Annotations;
#[cfg(feature = "trace")]
pub(crate) use annotation::{Event, MAX_ATTRIBUTES};
#[cfg(feature = "trace")]
pub(crate) use carrier::tell_sampled;
pub(crate) use carrier::{enter, swap_in, swap_out};
#[cfg(feature = "metrics")]
pub(crate) use carrier::{is_sampled, sampled_trace};
#[cfg(all(feature = "trace", feature = "retry"))]
pub(crate) use carrier::{note_recorded, take_recorded};
#[cfg(feature = "propagate")]
pub(crate) use {baggage::BAGGAGE, traceparent::TRACEPARENT, tracestate::TRACESTATE};

/// Everything that is known about where the current work belongs.
///
/// Cheap to clone: two reference counts at most, none when there is only a trace.
#[derive(Clone)]
pub struct Context {
    trace: TraceContext,
    parent: Option<SpanId>,
    origin: Origin,
    shared: Option<Arc<Shared>>,
    annotations: Option<Arc<Annotations>>,
}

/// How the trace context came to be, which a tracing layer must know before it decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// A recorder has taken the span id for a span of its own: whoever comes next starts a child.
    pub(crate) claimed: bool,
    /// The sampled flag is a decision (the caller's, or our sampler's); otherwise a sampler decides as for a root.
    pub(crate) decided: bool,
    /// The parent is in another process.
    pub(crate) remote_parent: bool,
}

/// What few requests have, behind one pointer.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) tracestate: TraceState,
    pub(crate) baggage: Baggage,
    pub(crate) fields: Fields,
    /// The trace that was left at a trust boundary.
    #[cfg_attr(not(feature = "trace"), allow(dead_code, reason = "becomes a link where spans start"))]
    pub(crate) restarted_from: Option<TraceContext>,
}

/// Fields of correlation that came as headers, checked.
#[derive(Clone, Default)]
pub(crate) struct Fields {
    /// An inbound `X-Trace-ID` that is no trace id.
    pub(crate) correlation_id: Option<HeaderValue>,
    pub(crate) request_id: Option<HeaderValue>,
    pub(crate) tenant_id: Option<HeaderValue>,
    pub(crate) user_id: Option<HeaderValue>,
    pub(crate) session_id: Option<HeaderValue>,
}

impl Context {
    /// A new trace, undecided whether it is sampled.
    pub fn root() -> Self {
        Self::from_trace(TraceContext::random())
    }

    /// A context of exactly these ids.
    pub fn from_trace(trace: TraceContext) -> Self {
        Self { trace, parent: None, origin: Origin::default(), shared: None, annotations: None }
    }

    /// A child of a span of another process: the same trace, sampled as that is, a new span id. For carriers that are no HTTP.
    pub fn below_remote(parent: TraceContext) -> Self {
        let origin = Origin { decided: true, remote_parent: true, ..Origin::default() };
        let trace = TraceContext { span_id: SpanId::random(), ..parent };
        Self { parent: Some(parent.span_id), origin, ..Self::from_trace(trace) }
    }

    /// A child of this span: the same trace, flags, trace state, baggage and fields, a new span id.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            trace: TraceContext { span_id: SpanId::random(), ..self.trace },
            parent: Some(self.trace.span_id),
            origin: Origin { remote_parent: false, claimed: false, ..self.origin },
            shared: self.shared.clone(),
            annotations: None,
        }
    }

    /// The part that is sent on as `traceparent`.
    pub fn trace(&self) -> TraceContext {
        self.trace
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace.trace_id
    }

    /// The id of the current span.
    pub fn span_id(&self) -> SpanId {
        self.trace.span_id
    }

    /// The id of the span that caused this one, here or in another process.
    pub fn parent_span_id(&self) -> Option<SpanId> {
        self.parent
    }

    /// The nearest span that somebody records: this one, or its parent when no layer has taken this one; none for a root
    /// that nobody records.
    ///
    /// Work that is recorded belongs under it; under a span that nobody records it would hang in the air.
    pub fn recorded(&self) -> Option<TraceContext> {
        match (self.origin.claimed, self.parent) {
            (true, _) => Some(self.trace),
            (false, parent) => parent.map(|span_id| TraceContext { span_id, ..self.trace }),
        }
    }

    /// Whether this trace is sampled, as far as that has been decided.
    pub fn is_sampled(&self) -> bool {
        self.trace.flags.is_sampled()
    }

    /// What other tracing systems say about this trace.
    pub fn tracestate(&self) -> &TraceState {
        self.shared.as_ref().map_or(&TraceState::EMPTY, |shared| &shared.tracestate)
    }

    /// What the application says along this trace.
    pub fn baggage(&self) -> &Baggage {
        self.shared.as_ref().map_or(&Baggage::EMPTY, |shared| &shared.baggage)
    }

    /// The same context with another baggage.
    #[must_use]
    pub fn with_baggage(mut self, baggage: Baggage) -> Self {
        if self.shared.is_some() || !baggage.is_empty() {
            self.shared_mut().baggage = baggage;
        }
        self
    }

    /// The same context with another trace state.
    #[must_use]
    pub fn with_tracestate(mut self, tracestate: TraceState) -> Self {
        if self.shared.is_some() || !tracestate.is_empty() {
            self.shared_mut().tracestate = tracestate;
        }
        self
    }

    /// The inbound `X-Trace-ID` where it was text of the caller's own and no trace id.
    pub fn correlation_id(&self) -> Option<&str> {
        self.field(|fields| &fields.correlation_id)
    }

    /// The request id, when the propagation layer was told to keep or make one.
    pub fn request_id(&self) -> Option<&str> {
        self.field(|fields| &fields.request_id)
    }

    /// The tenant id, when the propagation layer was told to read it.
    pub fn tenant_id(&self) -> Option<&str> {
        self.field(|fields| &fields.tenant_id)
    }

    /// The user id, when the propagation layer was told to read it.
    pub fn user_id(&self) -> Option<&str> {
        self.field(|fields| &fields.user_id)
    }

    /// The session id, when the propagation layer was told to read it.
    pub fn session_id(&self) -> Option<&str> {
        self.field(|fields| &fields.session_id)
    }

    /// Sets an attribute of the span that is being recorded; of none when the request is not sampled.
    ///
    /// A later value of the same key replaces the earlier one; 64 keys are kept.
    pub fn set_attribute(&self, key: impl Into<Key>, value: impl Into<Value>) {
        if let Some(annotations) = &self.annotations {
            annotations.set_attribute(key.into(), value.into());
        }
    }

    /// Adds an event to the span that is being recorded; to none when the request is not sampled. 128 are kept.
    pub fn add_event<K: Into<Key>, V: Into<Value>>(
        &self,
        name: impl Into<Cow<'static, str>>,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) {
        if let Some(annotations) = &self.annotations {
            let attributes = attributes.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            annotations.add_event(annotation::Event { name: name.into(), at: crate::clock::now(), attributes });
        }
    }

    /// Gives the span that is being recorded another name. Low cardinality is up to the caller.
    pub fn set_name(&self, name: impl Into<Cow<'static, str>>) {
        if let Some(annotations) = &self.annotations {
            annotations.set_name(name.into());
        }
    }

    /// Runs `work` with this context as the current one.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        enter(&mut Some(self.clone()), work)
    }

    /// A future that has this context as the current one each time it is polled.
    pub fn scope<F>(self, future: F) -> Scope<F> {
        Scope::new(Some(self), future)
    }

    fn field(&self, pick: impl FnOnce(&Fields) -> &Option<HeaderValue>) -> Option<&str> {
        pick(&self.shared.as_ref()?.fields).as_ref()?.to_str().ok()
    }

    fn shared_mut(&mut self) -> &mut Shared {
        Arc::make_mut(self.shared.get_or_insert_default())
    }
}

/// What only the layers of this crate do to a context.
#[cfg(any(feature = "propagate", feature = "trace"))]
impl Context {
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_deref()
    }
}

#[cfg(feature = "propagate")]
impl Context {
    /// Whether somebody records the span of this context.
    pub(crate) fn is_claimed(&self) -> bool {
        self.origin.claimed
    }

    /// Whether the sampled flag is a decision.
    pub(crate) fn is_decided(&self) -> bool {
        self.origin.decided
    }

    pub(crate) fn received(
        trace: TraceContext,
        parent: Option<SpanId>,
        origin: Origin,
        shared: Option<Arc<Shared>>,
    ) -> Self {
        Self { trace, parent, origin, shared, annotations: None }
    }
}

#[cfg(feature = "trace")]
impl Context {
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// A span below the nearest one that is recorded.
    pub(crate) fn below_recorded(&self) -> Self {
        if self.origin.claimed {
            return self.child();
        }
        let trace = TraceContext { span_id: SpanId::random(), ..self.trace };
        Self { trace, annotations: None, ..self.clone() }
    }

    /// Takes the span id for a recorded span, with the sampling decision.
    pub(crate) fn claim(&mut self, sampled: bool) {
        self.trace.flags = self.trace.flags.with_sampled(sampled);
        self.origin.claimed = true;
        self.origin.decided = true;
    }

    pub(crate) fn set_tracestate(&mut self, tracestate: TraceState) {
        self.shared_mut().tracestate = tracestate;
    }

    pub(crate) fn set_annotations(&mut self, annotations: Arc<Annotations>) {
        self.annotations = Some(annotations);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("trace", &self.trace)
            .field("parent", &self.parent)
            .field("tracestate", self.tracestate())
            .field("baggage", self.baggage())
            .finish_non_exhaustive()
    }
}
