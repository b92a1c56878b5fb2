//! The server side: extract, make current, answer.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower_layer::Layer;

use super::correlation::{X_REQUEST_ID, X_SPAN_ID, X_TRACE_ID};
use super::extract::extract;
use super::trust::TrustPolicy;
use crate::context::{Context, TraceContext};
use crate::observe::{End, Exchange, Observe, ObserveLayer, Observed, Probe, RequestHead, When};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Reads the caller's trace context and makes it current for the inner service.
///
/// Belongs outermost, so that everything inside knows whose work it does. By default everybody is believed
/// ([`TrustPolicy::internal`]): on a public edge say `.trust(TrustPolicy::public())`.
///
/// See the [module](crate::propagate) for an example.
#[derive(Clone)]
pub struct PropagateLayer {
    config: Arc<Config>,
    enabled: bool,
}

#[derive(Clone)]
pub(super) struct Config {
    policy: TrustPolicy,
    exceptions: Vec<(When, TrustPolicy)>,
    echo: bool,
    pub(super) server_timing: bool,
    pub(super) adopt_trace_id: bool,
    pub(super) tracecontext: bool,
    pub(super) b3: bool,
    pub(super) request_id: bool,
    pub(super) tenant_id: bool,
    pub(super) user_id: bool,
    pub(super) session_id: bool,
}

impl PropagateLayer {
    /// W3C headers and `X-Trace-ID` in; `x-trace-id` and `x-span-id` out.
    pub fn new() -> Self {
        let config = Config {
            policy: TrustPolicy::internal(),
            exceptions: Vec::new(),
            echo: true,
            server_timing: false,
            adopt_trace_id: true,
            tracecontext: true,
            b3: false,
            request_id: false,
            tenant_id: false,
            user_id: false,
            session_id: false,
        };
        Self { config: Arc::new(config), enabled: true }
    }

    /// What is believed of requests that no [`trust_when`](Self::trust_when) names.
    #[must_use]
    pub fn trust(self, policy: TrustPolicy) -> Self {
        self.with(|config| config.policy = policy)
    }

    /// What is believed of the requests for which the condition holds. The first condition that holds counts.
    #[must_use]
    pub fn trust_when(self, when: When, policy: TrustPolicy) -> Self {
        self.with(|config| config.exceptions.push((when, policy)))
    }

    /// Answers with `x-trace-id` and `x-span-id`. On by default.
    #[must_use]
    pub fn echo(self, echo: bool) -> Self {
        self.with(|config| config.echo = echo)
    }

    /// Answers with `server-timing: trace;desc=<traceparent>`, which browsers hand to the page (W3C Trace Context
    /// level 3). Off by default.
    #[must_use]
    pub fn server_timing(self, server_timing: bool) -> Self {
        self.with(|config| config.server_timing = server_timing)
    }

    /// Takes an `X-Trace-ID` of 32 hex digits, or a UUID, as the trace id when no trace context came. On by default.
    #[must_use]
    pub fn adopt_trace_id(self, adopt: bool) -> Self {
        self.with(|config| config.adopt_trace_id = adopt)
    }

    /// Reads `traceparent` and `tracestate`. On by default.
    #[must_use]
    pub fn tracecontext(self, tracecontext: bool) -> Self {
        self.with(|config| config.tracecontext = tracecontext)
    }

    /// Reads B3 headers, single and multiple, when there is no `traceparent`. Off by default.
    #[must_use]
    pub fn b3(self, b3: bool) -> Self {
        self.with(|config| config.b3 = b3)
    }

    /// Keeps `X-Request-ID` as a context field, or makes a UUID v7; the handler and the answer get it. Off by default.
    #[must_use]
    pub fn request_id(self, keep: bool) -> Self {
        self.with(|config| config.request_id = keep)
    }

    /// Keeps `X-Tenant-ID` as a context field. Off by default.
    #[must_use]
    pub fn tenant_id(self, keep: bool) -> Self {
        self.with(|config| config.tenant_id = keep)
    }

    /// Keeps `X-User-ID` as a context field. Off by default.
    #[must_use]
    pub fn user_id(self, keep: bool) -> Self {
        self.with(|config| config.user_id = keep)
    }

    /// Keeps `X-Session-ID` as a context field. Off by default.
    #[must_use]
    pub fn session_id(self, keep: bool) -> Self {
        self.with(|config| config.session_id = keep)
    }

    /// Passes everything through untouched when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// The observer alone, to be fused with others in one [`ObserveLayer`]; it goes first.
    pub fn observer(&self) -> Propagate {
        Propagate { config: Arc::clone(&self.config) }
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl Default for PropagateLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for PropagateLayer {
    type Service = Observed<S, Propagate>;

    fn layer(&self, inner: S) -> Self::Service {
        ObserveLayer::server(self.observer()).enabled(self.enabled).layer(inner)
    }
}

/// The observer of [`PropagateLayer`].
#[derive(Clone)]
pub struct Propagate {
    config: Arc<Config>,
}

impl<B> Observe<B> for Propagate {
    type Probe = PropagateProbe;

    const CHANGES_HEADERS: bool = false;
    const ASKS_FOR_HEADERS: bool = true;

    fn start(&self, request: &mut Request<B>, exchange: &mut Exchange) -> PropagateProbe {
        let config = &*self.config;
        let policy = config.policy_for(&RequestHead::of(request));
        let extracted = extract(config, policy, request.headers(), exchange.present, exchange.started);
        if extracted.has_new_request_id
            && let Some(id) = request_id(&extracted.context)
        {
            request.headers_mut().insert(X_REQUEST_ID, id.clone());
        }
        exchange.context = Some(extracted.context);
        PropagateProbe {
            answered_id: extracted.answered_id,
            echo: config.echo && policy.echo,
            server_timing: config.server_timing && policy.echo,
        }
    }
}

impl Config {
    fn policy_for(&self, head: &RequestHead<'_>) -> &TrustPolicy {
        let exception = self.exceptions.iter().find(|(when, _)| when.holds(head));
        exception.map_or(&self.policy, |(_, policy)| policy)
    }
}

/// Writes the ids into the head of the answer.
#[derive(Debug)]
pub struct PropagateProbe {
    answered_id: Option<Box<HeaderValue>>,
    echo: bool,
    server_timing: bool,
}

impl Probe for PropagateProbe {
    const READS_TIMES: bool = false;

    fn head<R>(&mut self, response: &mut Response<R>, exchange: &mut Exchange) {
        let Some(context) = &exchange.context else {
            return;
        };
        if self.echo {
            self.answer_ids(context, response.headers_mut());
        }
        if self.server_timing {
            response.headers_mut().append(SERVER_TIMING, server_timing(&context.trace()));
        }
    }

    fn end(self, _end: &End<'_>) {}
}

impl PropagateProbe {
    fn answer_ids(&mut self, context: &Context, headers: &mut HeaderMap) {
        // One allocation for both.
        let mut ids = [0; 48];
        ids[..32].copy_from_slice(&context.trace_id().to_hex());
        ids[32..].copy_from_slice(&context.span_id().to_hex());
        let mut trace_id = Bytes::from_owner(ids);
        let span_id = trace_id.split_off(32);
        headers.insert(X_TRACE_ID, self.answered_id.take().map_or_else(|| ascii(trace_id), |id| *id));
        headers.insert(X_SPAN_ID, ascii(span_id));
        if let Some(id) = request_id(context) {
            headers.insert(X_REQUEST_ID, id.clone());
        }
    }
}

fn request_id(context: &Context) -> Option<&HeaderValue> {
    context.shared()?.fields.request_id.as_ref()
}

fn server_timing(trace: &TraceContext) -> HeaderValue {
    let mut value = Vec::with_capacity(66);
    value.extend_from_slice(b"trace;desc=");
    value.extend_from_slice(&trace.encode());
    HeaderValue::from_maybe_shared(Bytes::from(value)).expect("a traceparent is valid in a header")
}

fn ascii(digits: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(digits).expect("hex digits are valid in a header")
}

impl fmt::Debug for PropagateLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.observer().fmt(f)
    }
}

impl fmt::Debug for Propagate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { policy, exceptions, .. } = &*self.config;
        f.debug_struct("Propagate").field("policy", policy).field("exceptions", exceptions).finish_non_exhaustive()
    }
}
