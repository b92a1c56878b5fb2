//! The layer: decide, record, hand over.

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, Response};
use tower_layer::Layer;

use super::capture::Capture;
#[cfg(feature = "debug-header")]
use super::debug_header::DebugHeader;
use super::http::HttpExchange;
use super::late::LateDecision;
use super::recording::{Finish, Recording, Subject};
use super::sampler::Sampler;
use super::span::{SpanKind, SpanLink};
use super::spans::Spans;
use super::started::SamplingResult;
use crate::classify::HttpClassifier;
use crate::clock::Instant;
use crate::context::{self, Annotations, Context, TraceContext};
use crate::observe::{End, Exchange, KnownMethods, Observe, ObserveLayer, Observed, Probe, RequestHead, When};

const X_TRACE_SAMPLED: HeaderName = HeaderName::from_static("x-trace-sampled");

/// Records a span for each exchange.
///
/// A server layer belongs right inside the propagation layer, and outside everything whose time it shall count. A client
/// layer belongs inside retries, so that each attempt is a span, and outside the injecting layer.
///
/// See the [module](crate::trace) for an example.
#[derive(Clone)]
pub struct TraceLayer {
    config: Arc<Config>,
    end_with_head: bool,
    enabled: bool,
}

#[derive(Clone)]
pub(super) struct Config {
    kind: SpanKind,
    pub(super) spans: Spans,
    sampler: Sampler,
    late: Option<LateDecision>,
    #[cfg(feature = "debug-header")]
    debug_header: Option<DebugHeader>,
    capture: Arc<Capture>,
    profiles: Vec<(When, Arc<Capture>)>,
    pub(super) rpc_names: RpcNames,
    pub(super) scheme: &'static str,
    pub(super) known_methods: KnownMethods,
    pub(super) server_authority: Option<String>,
}

/// Which names gRPC attributes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpcNames {
    /// Of the release candidate: `rpc.system.name`, `rpc.method` with its service, `rpc.status_code` as text.
    #[default]
    Current,
    /// Of the years before: `rpc.system`, `rpc.service`, `rpc.method`, `rpc.grpc.status_code` as a number.
    Old,
}

/// Put into the extensions of a request that repeats an earlier one: the span tells the count and links the attempt
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    /// 1 for the first repeat.
    pub count: u32,
    /// The span of the attempt before.
    pub previous: Option<TraceContext>,
}

impl TraceLayer {
    /// In front of a server's service.
    pub fn server(spans: Spans) -> Self {
        Self::new(SpanKind::Server, spans)
    }

    /// Around a client's transport. Spans end with the response body; see [`end_with_head`](Self::end_with_head).
    pub fn client(spans: Spans) -> Self {
        Self::new(SpanKind::Client, spans)
    }

    fn new(kind: SpanKind, spans: Spans) -> Self {
        let config = Config {
            kind,
            spans,
            sampler: Sampler::default(),
            late: None,
            #[cfg(feature = "debug-header")]
            debug_header: None,
            capture: Arc::default(),
            profiles: Vec::new(),
            rpc_names: RpcNames::Current,
            scheme: "http",
            known_methods: KnownMethods::default(),
            server_authority: None,
        };
        Self { config: Arc::new(config), end_with_head: false, enabled: true }
    }

    /// Which requests are recorded. [`Sampler::default`] by default: what the caller samples, and every root.
    #[must_use]
    pub fn sampler(self, sampler: Sampler) -> Self {
        self.with(|config| config.sampler = sampler)
    }

    /// Keeps some requests that were not sampled. None by default.
    #[must_use]
    pub fn late_decision(self, late: LateDecision) -> Self {
        self.with(|config| config.late = Some(late))
    }

    /// Records every request that carries this signed header.
    #[cfg(feature = "debug-header")]
    #[must_use]
    pub fn debug_header(self, header: DebugHeader) -> Self {
        self.with(|config| config.debug_header = Some(header))
    }

    /// What is captured of requests that no [`capture_when`](Self::capture_when) names.
    #[must_use]
    pub fn capture(self, capture: Capture) -> Self {
        self.with(|config| config.capture = Arc::new(capture))
    }

    /// What is captured of requests for which the condition holds (of a route, of a role). The first that holds counts.
    #[must_use]
    pub fn capture_when(self, when: When, capture: Capture) -> Self {
        self.with(|config| config.profiles.push((when, Arc::new(capture))))
    }

    /// Which names gRPC attributes have.
    #[must_use]
    pub fn rpc_names(self, names: RpcNames) -> Self {
        self.with(|config| config.rpc_names = names)
    }

    /// The scheme to tell when neither a proxy nor the request names one. `http` by default.
    #[must_use]
    pub fn scheme(self, scheme: &'static str) -> Self {
        self.with(|config| config.scheme = scheme)
    }

    /// Which methods are told by name. Give the layer that measures the same, so that both agree on `_OTHER`.
    #[must_use]
    pub fn known_methods(self, known: KnownMethods) -> Self {
        self.with(|config| config.known_methods = known)
    }

    /// `host` or `host:port` of the server, for requests that do not name it, as in front of a tonic channel.
    #[must_use]
    pub fn server_authority(self, authority: impl Into<String>) -> Self {
        self.with(|config| config.server_authority = Some(authority.into()))
    }

    /// Ends spans with the head instead of with the body (gRPC ends with its trailers all the same). Off by default.
    #[must_use]
    pub fn end_with_head(mut self, end_with_head: bool) -> Self {
        self.end_with_head = end_with_head;
        self
    }

    /// Passes everything through untouched when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// The observer alone, to be fused with others in one [`ObserveLayer`].
    pub fn observer(&self) -> Trace {
        Trace { config: Arc::clone(&self.config) }
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Observed<S, Trace>;

    fn layer(&self, inner: S) -> Self::Service {
        let classifier = match self.config.kind {
            SpanKind::Client => HttpClassifier::client(),
            _ => HttpClassifier::server(),
        };
        ObserveLayer::new(self.observer(), classifier)
            .end_with_head(self.end_with_head)
            .enabled(self.enabled)
            .layer(inner)
    }
}

/// The observer of [`TraceLayer`].
#[derive(Clone)]
pub struct Trace {
    config: Arc<Config>,
}

impl<B> Observe<B> for Trace {
    type Probe = TraceProbe;

    const CHANGES_HEADERS: bool = false;
    const ASKS_FOR_HEADERS: bool = true;

    fn start(&self, request: &mut Request<B>, exchange: &mut Exchange) -> TraceProbe {
        let config = &*self.config;
        let head = RequestHead::of(request);
        // In its place: it is as large as all else here.
        let is_fused = exchange.context.is_some();
        let context = config.context_in(&mut exchange.context);
        let sampled = config.sample(context, head, exchange.started);
        context.claim(sampled);
        if !is_fused {
            context::tell_sampled(context);
        }
        let result = match sampled {
            true => SamplingResult::RecordAndSample,
            false if config.late.is_some() => SamplingResult::RecordOnly,
            false => SamplingResult::Drop,
        };
        config.spans.count_started(context, result);
        let is_recorded = result != SamplingResult::Drop;
        TraceProbe { recording: is_recorded.then(|| self.record(&head, exchange)).flatten() }
    }
}

impl Trace {
    fn record(&self, head: &RequestHead<'_>, exchange: &mut Exchange) -> Option<Box<Recording>> {
        let context = exchange.context.as_mut()?;
        let annotations = Arc::<Annotations>::default();
        let mut links = Vec::new();
        // Children share what came with the request; only the restarted root left a trace behind.
        let shared = context.shared().filter(|_| context.parent_span_id().is_none());
        if let Some(left) = shared.and_then(|shared| shared.restarted_from) {
            links.push(SpanLink::new(left, "restarted"));
        }
        let resend: Option<&Resend> = head.extensions.get();
        links.extend(
            resend.and_then(|resend| resend.previous).map(|previous| SpanLink::new(previous, "previous_attempt")),
        );
        context.set_annotations(Arc::clone(&annotations));
        #[cfg(feature = "retry")]
        crate::context::note_recorded(context.trace());
        let context = context.clone();
        // Made in its place: it is large.
        Some(Box::new(Recording {
            context,
            annotations,
            kind: self.config.kind,
            subject: Subject::Http(
                HttpExchange::new(
                    head,
                    exchange,
                    self.config.capture_for(head),
                    resend.map_or(0, |resend| resend.count),
                ),
                Arc::clone(&self.config),
            ),
            links,
            started: exchange.started,
            ended: exchange.started,
            verdict: Finish::OK,
        }))
    }
}

impl Config {
    /// The span to record: the one that propagation has prepared, a child of the current one, or a root.
    fn context_in<'a>(&self, slot: &'a mut Option<Context>) -> &'a mut Context {
        let is_prepared = |context: &Context| self.kind == SpanKind::Server && !context.origin().claimed;
        if !slot.as_ref().is_some_and(is_prepared) {
            *slot = Some(match slot.take().or_else(context::active) {
                Some(context) if is_prepared(&context) => context,
                Some(context) => context.below_recorded(),
                None => Context::root(),
            });
        }
        slot.get_or_insert_with(Context::root)
    }

    fn sample(&self, context: &mut Context, head: RequestHead<'_>, at: Instant) -> bool {
        #[cfg(feature = "debug-header")]
        if self.debug_header.as_ref().is_some_and(|header| header.is_signed(head.headers)) {
            return true;
        }
        self.sampler.settle(context, self.kind, Some(head), at, &self.spans)
    }

    fn capture_for(&self, head: &RequestHead<'_>) -> &Arc<Capture> {
        let profile = self.profiles.iter().find(|(when, _)| when.holds(head));
        profile.map_or(&self.capture, |(_, capture)| capture)
    }
}

/// What [`Trace`] keeps of an exchange: nothing, unless it is recorded.
pub struct TraceProbe {
    recording: Option<Box<Recording>>,
}

impl Probe for TraceProbe {
    fn head<R>(&mut self, response: &mut Response<R>, exchange: &mut Exchange) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let Subject::Http(http, config) = &mut recording.subject else {
            return;
        };
        http.head(response);
        let Some(late) = config.late.as_ref().filter(|_| !recording.context.is_sampled()) else {
            return;
        };
        let at = exchange.head_at.unwrap_or(exchange.started);
        if late.keeps(at - exchange.started, response.status().is_server_error(), at) {
            config.spans.count_kept_late();
            http.kept_late = true;
            recording.context.claim(true);
            if let Some(context) = &mut exchange.context {
                context.claim(true);
                context::tell_sampled(context);
            }
            if recording.kind == SpanKind::Server {
                response.headers_mut().insert(X_TRACE_SAMPLED, HeaderValue::from_static("late"));
            }
        }
    }

    fn end(self, end: &End<'_>) {
        let Some(mut recording) = self.recording else {
            return;
        };
        let Subject::Http(http, config) = &mut recording.subject else {
            return;
        };
        if !recording.context.is_sampled() {
            let took = end.at - end.exchange.started;
            let kept = config.late.as_ref().is_some_and(|late| late.keeps(took, end.outcome.is_error(), end.at));
            if !kept {
                return;
            }
            config.spans.count_kept_late();
            http.kept_late = true;
            recording.context.claim(true);
        }
        http.end(end);
        recording.verdict = Finish { outcome: end.outcome, ending: Some(end.how.ending()), error_type: end.error_type };
        recording.ended = end.at;
        let spans = config.spans.clone();
        spans.hand_over(recording);
    }
}

impl fmt::Debug for TraceProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceProbe").field("recorded", &self.recording.is_some()).finish()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { kind, sampler, .. } = &*self.config;
        f.debug_struct("Trace").field("kind", kind).field("sampler", sampler).finish_non_exhaustive()
    }
}

impl fmt::Debug for TraceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.observer().fmt(f)
    }
}
