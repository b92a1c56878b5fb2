//! From the headers of a request to a context.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::b3;
use super::correlation::{self, X_REQUEST_ID, X_SESSION_ID, X_TENANT_ID, X_TRACE_ID, X_USER_ID};
use super::layer::Config;
use super::trust::{Trust, TrustPolicy};
use crate::clock::Instant;
use crate::context::{Baggage, Context, Fields, Origin, Shared, SpanId, TraceContext, TraceFlags, TraceId, TraceState};
use crate::observe::Present;

/// What came in, and what the answer tells of it.
pub(super) struct Extracted {
    pub(super) context: Context,
    /// The caller's own `X-Trace-ID`, when it is answered as it came. In a box, because few requests have one and all
    /// would move it along.
    pub(super) answered_id: Option<Box<HeaderValue>>,
    /// Whether the request id was made here.
    pub(super) has_new_request_id: bool,
}

pub(super) fn extract(
    config: &Config,
    policy: &TrustPolicy,
    headers: &HeaderMap,
    present: Present,
    at: Instant,
) -> Extracted {
    let mut inbound = inbound(config, headers, present);
    let has_notes = policy.trace != Trust::Adopt || config.keeps_fields() || present.may_have(NOTED);
    let noted = if has_notes { note(config, policy, headers, &inbound) } else { Noted::default() };
    if policy.trace != Trust::Adopt {
        inbound.trace = None;
        inbound.sampled = None;
    }
    let sampled = inbound.sampled.filter(|sampled| policy.sampled.stands(*sampled, at));
    let mut trace = match (inbound.trace, noted.adopted_id) {
        (Some(caller), _) => TraceContext { span_id: SpanId::random(), ..caller },
        (None, Some(trace_id)) => TraceContext { trace_id, span_id: SpanId::random(), flags: TraceFlags::NONE },
        (None, None) => TraceContext::random(),
    };
    trace.flags = trace.flags.with_sampled(sampled == Some(true));
    let parent = inbound.trace.map(|caller| caller.span_id);
    let remote_parent = parent.is_some() || sampled.is_some();
    let origin = Origin { decided: sampled.is_some(), remote_parent, ..Origin::default() };
    let Noted { shared, answered_id, has_new_request_id, .. } = noted;
    Extracted { context: Context::received(trace, parent, origin, shared), answered_id, has_new_request_id }
}

/// Headers that few requests have, and that are looked at only where one of them may be.
const NOTED: Present = Present::names(&["tracestate", "baggage", "x-trace-id"]);

/// What came besides the trace.
#[derive(Default)]
struct Noted {
    shared: Option<Arc<Shared>>,
    adopted_id: Option<TraceId>,
    answered_id: Option<Box<HeaderValue>>,
    has_new_request_id: bool,
}

#[inline(never)]
fn note(config: &Config, policy: &TrustPolicy, headers: &HeaderMap, inbound: &Inbound) -> Noted {
    let mut noted = Noted::default();
    let mut shared = Shared::default();
    match policy.trace {
        // A malformed trace state is dropped alone.
        Trust::Adopt if inbound.trace.is_some() && policy.tracestate => {
            shared.tracestate = TraceState::from_headers(headers).unwrap_or_default();
        }
        Trust::RestartAndLink => shared.restarted_from = inbound.trace,
        Trust::Adopt | Trust::RestartAndDrop => {}
    }
    shared.baggage = policy.baggage.apply(Baggage::from_headers(headers));
    if let Some(id) = correlation::id_of(headers, &X_TRACE_ID).filter(|_| policy.correlation) {
        let trace_id = correlation::as_trace_id(id);
        noted.adopted_id = trace_id.filter(|_| inbound.is_absent && config.adopt_trace_id);
        if noted.adopted_id.is_some() || trace_id.is_none() {
            noted.answered_id = Some(Box::new(id.clone()));
        }
        if noted.adopted_id.is_none() {
            shared.fields.correlation_id = Some(id.clone());
        }
    }
    noted.has_new_request_id = read_fields(config, policy, headers, &mut shared.fields);
    noted.shared = (!shared.is_empty()).then(|| Arc::new(shared));
    noted
}

/// What the caller says, before anybody asks whether to believe it.
struct Inbound {
    trace: Option<TraceContext>,
    sampled: Option<bool>,
    /// No trace came at all, not even a malformed one.
    is_absent: bool,
}

fn inbound(config: &Config, headers: &HeaderMap, present: Present) -> Inbound {
    let is_w3c = config.tracecontext && present.may_have(const { Present::names(&["traceparent"]) });
    let w3c = if is_w3c { TraceContext::from_headers(headers) } else { Ok(None) };
    match w3c {
        Ok(Some(trace)) => Inbound { trace: Some(trace), sampled: Some(trace.flags.is_sampled()), is_absent: false },
        Err(_) => Inbound { trace: None, sampled: None, is_absent: false },
        Ok(None) => match config.b3.then(|| b3::extract(headers)).flatten() {
            Some(b3) => Inbound { trace: b3.trace, sampled: b3.sampled, is_absent: b3.trace.is_none() },
            None => Inbound { trace: None, sampled: None, is_absent: true },
        },
    }
}

/// Fills the configured fields; true if a request id had to be made.
fn read_fields(config: &Config, policy: &TrustPolicy, headers: &HeaderMap, fields: &mut Fields) -> bool {
    let read = |wanted: bool, name: HeaderName| {
        let wanted = wanted && policy.correlation;
        wanted.then(|| correlation::id_of(headers, &name).cloned()).flatten()
    };
    fields.tenant_id = read(config.tenant_id, X_TENANT_ID);
    fields.user_id = read(config.user_id, X_USER_ID);
    fields.session_id = read(config.session_id, X_SESSION_ID);
    fields.request_id = read(config.request_id, X_REQUEST_ID);
    if !config.request_id || fields.request_id.is_some() {
        return false;
    }
    fields.request_id = Some(correlation::new_request_id());
    true
}

impl Config {
    /// Whether more than the trace is to be kept of requests that bring none of [`NOTED`].
    fn keeps_fields(&self) -> bool {
        self.request_id || self.tenant_id || self.user_id || self.session_id
    }
}

impl Shared {
    fn is_empty(&self) -> bool {
        let Fields { correlation_id, request_id, tenant_id, user_id, session_id } = &self.fields;
        let no_field = [correlation_id, request_id, tenant_id, user_id, session_id].iter().all(|field| field.is_none());
        no_field && self.tracestate.is_empty() && self.baggage.is_empty() && self.restarted_from.is_none()
    }
}
