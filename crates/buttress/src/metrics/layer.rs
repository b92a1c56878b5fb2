//! The layer: count when a request begins, record when it has ended.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, FORWARDED, HOST, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer;

use super::registry::Registry;
use super::requests::{Failure, Interned, Key, KnownMethod, Requests, Scheme, Side};
use super::source::{OpenStream, StreamKind, StreamMetrics};
use crate::classify::{GrpcCode, How, HttpClassifier};
use crate::headers;
use crate::observe::peer::{self, X_FORWARDED_PROTO};
use crate::observe::{
    End, Exchange, KnownMethods, Observe, ObserveLayer, Observed, Present, Probe, RequestHead, Route,
};
use crate::shard::{self, Shard};

/// Counts and times each exchange.
///
/// A server layer belongs outside everything whose time it shall count; a client layer inside retries, so that each attempt
/// is counted. Numbers are shared by all layers of a registry.
///
/// See the [module](crate::metrics) for what is recorded.
#[derive(Clone)]
pub struct RequestMetricsLayer {
    config: Config,
    end_with_head: bool,
    enabled: bool,
}

/// On cache lines of its own, because each thread has a copy whose references it counts.
#[derive(Clone)]
#[repr(align(128))]
pub(super) struct Config {
    registry: Registry,
    pub(super) requests: Arc<Requests>,
    scheme: Scheme,
    pub(super) known_methods: KnownMethods,
    /// Whether hosts are told apart: by clients, and by servers that were told of some.
    tells_hosts: bool,
    server_authority: Option<Arc<str>>,
    server_addresses: Arc<[String]>,
}

impl RequestMetricsLayer {
    /// In front of a server's service.
    pub fn server(registry: &Registry) -> Self {
        Self::new(registry, Side::Server)
    }

    /// Around a client's transport.
    pub fn client(registry: &Registry) -> Self {
        Self::new(registry, Side::Client)
    }

    fn new(registry: &Registry, side: Side) -> Self {
        let config = Config {
            registry: registry.clone(),
            requests: Arc::clone(registry.requests(side)),
            scheme: Scheme::Http,
            known_methods: KnownMethods::default(),
            tells_hosts: side == Side::Client,
            server_authority: None,
            server_addresses: Arc::default(),
        };
        Self { config, end_with_head: false, enabled: true }
    }

    /// The scheme to tell when neither a proxy nor the request names one: `http`, which is the default, or `https`.
    #[must_use]
    pub fn scheme(mut self, scheme: &str) -> Self {
        self.config.scheme = Scheme::of(scheme);
        self
    }

    /// Which methods are told by name. Give the layer that traces the same, so that both agree on `_OTHER`.
    #[must_use]
    pub fn known_methods(mut self, known: KnownMethods) -> Self {
        self.config.known_methods = known;
        self
    }

    /// Clients: `host` or `host:port` of the server, for requests that do not name it, as in front of a tonic channel.
    #[must_use]
    pub fn server_authority(mut self, authority: impl Into<Arc<str>>) -> Self {
        self.config.server_authority = Some(authority.into());
        self
    }

    /// Servers: tells requests to these hosts apart by `server.address`; any other is `_OTHER`. None by default, because
    /// callers choose what the `Host` header says.
    #[must_use]
    pub fn server_addresses<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        let Config { requests, server_addresses, tells_hosts, .. } = &mut self.config;
        *server_addresses = addresses.into_iter().map(Into::into).collect();
        *tells_hosts = requests.side() == Side::Client || !server_addresses.is_empty();
        self
    }

    /// Ends exchanges with the head instead of with the body (gRPC ends with its trailers all the same). Off by default.
    #[must_use]
    pub fn end_with_head(mut self, end_with_head: bool) -> Self {
        self.end_with_head = end_with_head;
        self
    }

    /// Passes everything through uncounted when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The observer alone, to be fused with others in one [`ObserveLayer`].
    pub fn observer(&self) -> RequestMetrics {
        RequestMetrics { copies: (0..shard::count()).map(|_| Arc::new(self.config.clone())).collect() }
    }
}

impl<S> Layer<S> for RequestMetricsLayer {
    type Service = Observed<S, RequestMetrics>;

    fn layer(&self, inner: S) -> Self::Service {
        let classifier = match self.config.requests.side() {
            Side::Server => HttpClassifier::server(),
            Side::Client => HttpClassifier::client(),
        };
        ObserveLayer::new(self.observer(), classifier)
            .end_with_head(self.end_with_head)
            .enabled(self.enabled)
            .layer(inner)
    }
}

/// The observer of [`RequestMetricsLayer`].
#[derive(Clone)]
pub struct RequestMetrics {
    // A copy for each thread: every exchange holds one, and threads would wait for each other at a shared count.
    copies: Arc<[Arc<Config>]>,
}

impl<B> Observe<B> for RequestMetrics {
    type Probe = RequestMetricsProbe;

    const CHANGES_HEADERS: bool = false;
    const ASKS_FOR_HEADERS: bool = true;

    fn start(&self, request: &mut Request<B>, exchange: &mut Exchange) -> RequestMetricsProbe {
        let config = Shard::mine().pick(&self.copies);
        RequestMetricsProbe::start(config, &RequestHead::of(request), exchange)
    }
}

/// What [`RequestMetrics`] keeps of an exchange.
pub struct RequestMetricsProbe {
    config: Arc<Config>,
    /// What is known of it so far.
    key: Key,
    /// A gRPC method that nobody has answered yet: a name that the caller may have invented.
    unknown_rpc: Option<Box<str>>,
    /// In a box, because few answers are streams and all would move it along.
    stream: Option<Box<OpenStream>>,
    /// What it is, should it be upgraded.
    upgrade: StreamKind,
}

impl RequestMetricsProbe {
    fn start(config: &Arc<Config>, head: &RequestHead<'_>, exchange: &Exchange) -> Self {
        let key = config.key_of(head, exchange.present, exchange.is_grpc);
        if key.method == KnownMethod::OTHER {
            config.requests.note_unknown_method(head.method);
        }
        config.requests.start_of(&key);
        let is_unknown = key.is_grpc && key.route == Interned::NONE;
        let unknown_rpc = is_unknown.then(|| rpc_method(head)).filter(|method| is_rpc_method(method)).map(Into::into);
        Self { config: Arc::clone(config), key, unknown_rpc, stream: None, upgrade: StreamKind::Upgrade }
    }

    /// A gRPC method is told by name once a server has shown that it knows it.
    fn rpc_route(&mut self, code: Option<GrpcCode>) -> Interned {
        let is_invented = self.config.requests.side() == Side::Server && code == Some(GrpcCode::UNIMPLEMENTED);
        match self.unknown_rpc.take() {
            Some(method) if !is_invented => self.config.requests.rpc_method(&method),
            _ if self.key.route == Interned::NONE => Interned::OTHER,
            _ => self.key.route,
        }
    }
}

impl Probe for RequestMetricsProbe {
    fn head<R>(&mut self, response: &mut Response<R>, _exchange: &mut Exchange) {
        if self.config.requests.side() == Side::Client {
            self.key.version = response.version();
        } else if let Some(template) = Route::text_of(response.extensions()).filter(|_| !self.key.is_grpc) {
            self.key.route = self.config.requests.route(template);
        }
        let content_type = headers::first(response.headers(), &CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_stream = content_type.is_some_and(is_event_stream);
        if is_stream {
            self.stream = Some(Box::new(self.config.streams(StreamKind::Sse, self.key.route).open()));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let protocol = response.headers().get(UPGRADE).map(|protocol| protocol.as_bytes());
            if protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) {
                self.upgrade = StreamKind::Websocket;
            }
        }
    }

    fn data(&mut self, bytes: u64) {
        if let Some(stream) = &self.stream {
            match self.config.requests.side() {
                Side::Server => stream.message_out(bytes as usize),
                Side::Client => stream.message_in(bytes as usize),
            }
        }
    }

    fn end(mut self, end: &End<'_>) {
        if self.key.is_grpc {
            self.key.route = self.rpc_route(end.grpc_code);
        }
        let requests = &self.config.requests;
        self.key.status = end.status;
        self.key.grpc_code = end.grpc_code;
        self.key.failure = requests.failure(end);
        let is_upgraded = matches!(end.how, How::Upgraded);
        if is_upgraded {
            self.config.streams(self.upgrade, self.key.route).upgraded();
        }
        let is_stream = self.stream.is_some() || is_upgraded;
        requests.end(&self.key, end, is_stream);
    }
}

impl Config {
    /// What the head of a request tells.
    pub(super) fn key_of(&self, head: &RequestHead<'_>, present: Present, is_grpc: bool) -> Key {
        let route = match self.requests.side() {
            _ if is_grpc => self.requests.known_rpc_method(rpc_method(head)),
            Side::Server => Route::text_of(head.extensions).map(|template| self.requests.route(template)),
            // What a proxy sends on may still carry the route by which it came.
            Side::Client => None,
        };
        let scheme = self.scheme_of(head, present);
        Key {
            is_grpc,
            method: self.requests.method(head.method, &self.known_methods),
            scheme,
            version: head.version,
            route: route.unwrap_or(Interned::NONE),
            host: self.host_of(head, scheme),
            status: None,
            grpc_code: None,
            failure: Failure::None,
        }
    }

    /// Looked up each time: few streams are opened, each for long.
    fn streams(&self, kind: StreamKind, route: Interned) -> StreamMetrics {
        match self.requests.route_text(route) {
            Some(route) => StreamMetrics::for_route(&self.registry, kind, &route),
            None => StreamMetrics::new(&self.registry, kind),
        }
    }

    fn scheme_of(&self, head: &RequestHead<'_>, present: Present) -> Scheme {
        let is_forwarded = present.may_have(const { Present::names(&["forwarded", "x-forwarded-proto"]) });
        let forwarded = match self.requests.side() {
            Side::Server if is_forwarded => {
                peer::scheme(head.headers.get(FORWARDED), head.headers.get(X_FORWARDED_PROTO))
            }
            _ => None,
        };
        forwarded.or_else(|| head.uri.scheme_str()).map_or(self.scheme, Scheme::of)
    }

    fn host_of(&self, head: &RequestHead<'_>, scheme: Scheme) -> Interned {
        if !self.tells_hosts {
            return Interned::NONE;
        }
        let named = peer::authority(head.uri, head.headers.get(HOST));
        let Some(authority) = named.or(self.server_authority.as_deref()) else {
            return Interned::NONE;
        };
        if self.requests.side() == Side::Client {
            return self.requests.host(&peer::canonical(authority, scheme.as_str()));
        }
        let (address, _) = peer::split_port(authority);
        match self.server_addresses.iter().find(|allowed| allowed.eq_ignore_ascii_case(address)) {
            Some(allowed) => self.requests.host(allowed),
            None => Interned::OTHER,
        }
    }
}

/// The media type of server-sent events, whatever its parameters.
fn is_event_stream(content_type: &[u8]) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    content_type.split_at_checked(EVENT_STREAM.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(EVENT_STREAM) && matches!(rest.first(), None | Some(b';' | b' ' | b'\t'))
    })
}

fn rpc_method<'a>(head: &RequestHead<'a>) -> &'a str {
    head.uri.path().trim_start_matches('/')
}

/// `package.Service/Method`
fn is_rpc_method(path: &str) -> bool {
    path.split_once('/')
        .is_some_and(|(service, method)| !service.is_empty() && !method.is_empty() && !method.contains('/'))
}

impl fmt::Debug for RequestMetricsProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestMetricsProbe")
            .field("method", &self.config.requests.method_text(self.key.method))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestMetrics").field("side", &self.copies[0].requests.side()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RequestMetricsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestMetricsLayer").field("side", &self.config.requests.side()).finish_non_exhaustive()
    }
}
