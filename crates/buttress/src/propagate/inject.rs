//! The client side: the current context into outgoing headers.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tower_layer::Layer;

use super::b3::{self, B3};
use super::correlation::{X_REQUEST_ID, X_SESSION_ID, X_TENANT_ID, X_USER_ID};
use super::hosts::{Hosts, host_of};
use crate::context::{self, BAGGAGE, Context, TRACEPARENT, TRACESTATE};
use crate::observe::{Exchange, Observe, ObserveLayer, Observed};

/// Writes the current context into each request that leaves.
///
/// Belongs innermost in a client, next to the transport: inside the tracing layer, so that the callee's parent is the
/// client span. Every host sees everything by default, as OpenTelemetry does; name your own hosts to keep baggage and
/// ids from third parties. Where a host may not see `traceparent`, `tracestate`, `baggage` or B3, one that the request
/// already has is removed; `x-request-id` and its kin are the application's to set, and stay.
///
/// Without a current context nothing is written.
///
/// ```
/// use std::convert::Infallible;
///
/// use buttress::context::Context;
/// use buttress::propagate::{Hosts, InjectLayer};
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let client = ServiceBuilder::new()
///     .layer(InjectLayer::new().baggage(Hosts::only(["*.internal"])))
///     .service(service_fn(async |request: Request<()>| {
///         assert!(request.headers().contains_key("traceparent"));
///         Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
///     }));
/// let request = Request::get("http://stock.internal/items").body(()).unwrap();
/// Context::root().scope(client.oneshot(request)).await.unwrap();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InjectLayer {
    config: Arc<Config>,
    enabled: bool,
}

#[derive(Clone, Debug)]
struct Config {
    trace: Hosts,
    tracestate: Hosts,
    baggage: Hosts,
    fields: Hosts,
    tracecontext: bool,
    b3_single: bool,
    b3_multi: bool,
    host: Option<String>,
}

impl InjectLayer {
    /// `traceparent`, `tracestate` and `baggage` to every host; no other field to any.
    pub fn new() -> Self {
        let any = Hosts::any();
        let config = Config {
            trace: any.clone(),
            tracestate: any.clone(),
            baggage: any,
            fields: Hosts::none(),
            tracecontext: true,
            b3_single: false,
            b3_multi: false,
            host: None,
        };
        Self { config: Arc::new(config), enabled: true }
    }

    /// Which hosts get `traceparent` (and B3).
    #[must_use]
    pub fn trace(self, hosts: Hosts) -> Self {
        self.with(|config| config.trace = hosts)
    }

    /// Which hosts get `tracestate`; only beside a `traceparent`.
    #[must_use]
    pub fn tracestate(self, hosts: Hosts) -> Self {
        self.with(|config| config.tracestate = hosts)
    }

    /// Which hosts get `baggage`.
    #[must_use]
    pub fn baggage(self, hosts: Hosts) -> Self {
        self.with(|config| config.baggage = hosts)
    }

    /// Which hosts get the request, tenant, user and session ids of the context. None by default.
    #[must_use]
    pub fn fields(self, hosts: Hosts) -> Self {
        self.with(|config| config.fields = hosts)
    }

    /// Writes `traceparent` and `tracestate`. On by default; off leaves B3, where it is asked for.
    #[must_use]
    pub fn tracecontext(self, tracecontext: bool) -> Self {
        self.with(|config| config.tracecontext = tracecontext)
    }

    /// Writes B3 headers of this form too; both forms when it is said for both.
    #[must_use]
    pub fn b3(self, form: B3) -> Self {
        self.with(|config| match form {
            B3::Single => config.b3_single = true,
            B3::Multi => config.b3_multi = true,
        })
    }

    /// The host to look up when the request names none, as in front of a tonic channel.
    #[must_use]
    pub fn host(self, host: impl Into<String>) -> Self {
        self.with(|config| config.host = Some(host.into()))
    }

    /// Passes everything through untouched when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// The observer alone, to be fused with others in one [`ObserveLayer`]; it goes after the tracing observer.
    pub fn observer(&self) -> Inject {
        Inject { config: Arc::clone(&self.config) }
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl Default for InjectLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for InjectLayer {
    type Service = Observed<S, Inject>;

    fn layer(&self, inner: S) -> Self::Service {
        ObserveLayer::client(self.observer()).enabled(self.enabled).layer(inner)
    }
}

/// The observer of [`InjectLayer`].
#[derive(Clone, Debug)]
pub struct Inject {
    config: Arc<Config>,
}

impl<B> Observe<B> for Inject {
    type Probe = ();

    fn start(&self, request: &mut Request<B>, exchange: &mut Exchange) {
        let context = exchange.context.clone().or_else(context::active);
        let allowed = self.config.allowed(host_of(request.uri(), request.headers()));
        allowed.clear(request.headers_mut());
        if let Some(context) = context {
            self.config.write(&context.to_send(), &allowed, request.headers_mut());
        }
    }
}

/// What the callee of one request may see.
struct Allowed {
    trace: bool,
    tracestate: bool,
    baggage: bool,
    fields: bool,
}

impl Config {
    fn allowed(&self, host: Option<&str>) -> Allowed {
        let host = host.or(self.host.as_deref());
        let trace = self.trace.allow(host);
        Allowed {
            trace,
            tracestate: trace && self.tracestate.allow(host),
            baggage: self.baggage.allow(host),
            fields: self.fields.allow(host),
        }
    }

    fn write(&self, context: &Context, allowed: &Allowed, headers: &mut HeaderMap) {
        if allowed.trace {
            if self.tracecontext {
                headers.insert(&TRACEPARENT, context.trace().to_header());
                replace(headers, &TRACESTATE, context.tracestate().header().filter(|_| allowed.tracestate));
            }
            for (form, _) in [(B3::Single, self.b3_single), (B3::Multi, self.b3_multi)].iter().filter(|(_, on)| *on) {
                b3::inject(*form, &context.trace(), context.is_decided(), headers);
            }
        }
        if allowed.baggage {
            replace(headers, &BAGGAGE, context.baggage().header());
        }
        if let Some(fields) = context.shared().map(|shared| &shared.fields).filter(|_| allowed.fields) {
            let named: [(HeaderName, _); 4] = [
                (X_REQUEST_ID, &fields.request_id),
                (X_TENANT_ID, &fields.tenant_id),
                (X_USER_ID, &fields.user_id),
                (X_SESSION_ID, &fields.session_id),
            ];
            for (name, value) in named {
                if let Some(value) = value {
                    headers.insert(name, value.clone());
                }
            }
        }
    }
}

impl Allowed {
    /// Removes what the callee may not see, whoever wrote it.
    fn clear(&self, headers: &mut HeaderMap) {
        if !self.trace {
            headers.remove(&TRACEPARENT);
            b3::remove(headers);
        }
        if !self.tracestate {
            headers.remove(&TRACESTATE);
        }
        if !self.baggage {
            headers.remove(&BAGGAGE);
        }
    }
}

fn replace(headers: &mut HeaderMap, name: &'static HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value.clone())),
        None => drop(headers.remove(name)),
    }
}

impl Context {
    /// The context to send: this span if somebody records it, else one of the call's own.
    fn to_send(&self) -> Self {
        if self.is_claimed() { self.clone() } else { self.child() }
    }
}
