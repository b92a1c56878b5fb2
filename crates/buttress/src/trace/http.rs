//! One HTTP or gRPC exchange: what is kept of it, and the attributes that come of that.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderValue, Method, Response, StatusCode, Uri, Version};

use super::attributes::Attributes;
use super::capture::{Capture, Captured, shown};
use super::forwarded::Forwarded;
use super::grpc;
use super::layer::Config;
use super::repeated::{Repeated, Repetitions};
use super::span::SpanKind;
use crate::classify::GrpcCode;
use crate::clock::Instant;
use crate::context::Value;
use crate::observe::methods::OTHER;
use crate::observe::peer;
use crate::observe::protocol::{METHODS, known_method, version_text};
use crate::observe::{End, Exchange, RequestHead, Route};
use crate::redact;

/// Every part is a reference count or a copy of what the request has.
pub(super) struct HttpExchange {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded: Option<Box<Forwarded>>,
    peer: Option<SocketAddr>,
    is_grpc: bool,
    capture: Arc<Capture>,
    request_length: Option<HeaderValue>,
    captured_request: Vec<Captured>,
    resend_count: u32,

    route: Option<Route>,
    response_version: Option<Version>,
    captured_response: Vec<Captured>,
    status: Option<StatusCode>,
    grpc_code: Option<GrpcCode>,
    body_bytes: u64,
    head_at: Option<Instant>,
    pub(super) kept_late: bool,
}

impl HttpExchange {
    pub(super) fn new(head: &RequestHead<'_>, exchange: &Exchange, capture: &Arc<Capture>, resend_count: u32) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            host: head.headers.get(HOST).cloned(),
            user_agent: head.headers.get(USER_AGENT).cloned(),
            forwarded: Forwarded::of(head.headers, exchange.present),
            peer: head.peer(),
            is_grpc: exchange.is_grpc,
            capture: Arc::clone(capture),
            request_length: capture.body_sizes.then(|| head.headers.get(CONTENT_LENGTH).cloned()).flatten(),
            captured_request: capture.of_request(head.headers),
            resend_count,
            route: Route::of(head.extensions),
            response_version: None,
            captured_response: Vec::new(),
            status: None,
            grpc_code: None,
            body_bytes: 0,
            head_at: None,
            kept_late: false,
        }
    }

    pub(super) fn head<R>(&mut self, response: &Response<R>) {
        self.response_version = Some(response.version());
        if let Some(route) = Route::of(response.extensions()) {
            self.route = Some(route);
        }
        self.captured_response = self.capture.of_response(response.headers());
    }

    pub(super) fn end(&mut self, end: &End<'_>) {
        self.status = end.status;
        self.grpc_code = end.grpc_code;
        self.body_bytes = end.body_bytes;
        self.head_at = end.exchange.head_at;
    }

    /// Adds the attributes of the conventions, and answers with the span's name.
    pub(super) fn describe(
        &self,
        kind: SpanKind,
        config: &Config,
        started: Instant,
        repetitions: &mut Repetitions,
        attributes: &mut Attributes,
    ) -> Cow<'static, str> {
        let is_server = kind == SpanKind::Server;
        let name = if self.is_grpc {
            grpc::describe(&self.uri, self.grpc_code, is_server, config.rpc_names, attributes)
        } else {
            self.describe_http(is_server, config, repetitions, attributes)
        };
        self.describe_peers(is_server, config, &mut repetitions.servers, attributes);
        self.describe_captured(attributes);
        if self.resend_count > 0 {
            attributes.push("http.request.resend_count", self.resend_count);
        }
        if let Some(head_at) = self.head_at {
            let first_byte = head_at.saturating_duration_since(started);
            attributes.push("buttress.time_to_first_byte", first_byte.as_secs_f64());
        }
        if self.kept_late {
            attributes.push("buttress.sampled", "late");
        }
        name
    }

    fn describe_http(
        &self,
        is_server: bool,
        config: &Config,
        repetitions: &mut Repetitions,
        attributes: &mut Attributes,
    ) -> Cow<'static, str> {
        let known = config.known_methods.contains(&self.method);
        let method = known.then(|| match known_method(&self.method) {
            Some(nth) => Cow::Borrowed(METHODS[nth]),
            None => Cow::Owned(self.method.as_str().to_owned()),
        });
        attributes.push("http.request.method", method.clone().unwrap_or(Cow::Borrowed(OTHER)));
        if method.is_none() {
            attributes.push("http.request.method_original", self.method.as_str().to_owned());
        }
        if is_server {
            attributes.push("url.path", Arc::<str>::from(redact::text(self.uri.path())));
            attributes.push("url.scheme", scheme_text(self.scheme(config)));
            let query = self.uri.query().filter(|_| self.capture.query);
            attributes.push_some("url.query", query.map(|query| Arc::<str>::from(redact::query(query))));
        } else {
            attributes.push("url.full", self.full_url(config));
        }
        let route = self.route.as_ref().map(Route::as_str).filter(|_| is_server);
        let routes = &mut repetitions.routes;
        attributes.push_some("http.route", route.map(|route| routes.of(route.as_bytes(), || route.into())));
        attributes.push_some("http.response.status_code", self.status.map(|status| status.as_u16()));
        let agent = self.user_agent.as_ref().filter(|_| is_server).map(|agent| match agent.is_sensitive() {
            true => shown(agent).into(),
            false => repetitions.agents.of(agent.as_bytes(), || shown(agent).into()),
        });
        attributes.push_some("user_agent.original", agent);
        let method = method.unwrap_or(Cow::Borrowed("HTTP"));
        match route {
            Some(route) => [&method, " ", route].concat().into(),
            None => method,
        }
    }

    fn describe_peers(
        &self,
        is_server: bool,
        config: &Config,
        servers: &mut Repeated<(Arc<str>, Option<u16>)>,
        attributes: &mut Attributes,
    ) {
        if let Some(authority) = self.authority(config) {
            let (address, port) = servers.of(authority.as_bytes(), || {
                let (address, port) = peer::split_port(authority);
                (address.into(), port)
            });
            attributes.push("server.address", address);
            attributes.push_some("server.port", port.or_else(|| peer::default_port(self.scheme(config))));
        }
        if is_server {
            let peer = self.peer.map(|peer| Arc::<str>::from(peer.ip().to_string()));
            let forwarded = self.forwarded.as_ref().and_then(|forwarded| forwarded.client());
            attributes.push_some("client.address", forwarded.map(Arc::<str>::from).or_else(|| peer.clone()));
            attributes.push_some("network.peer.address", peer);
            attributes.push_some("network.peer.port", self.peer.map(|peer| peer.port()));
            if self.capture.client_port && forwarded.is_none() {
                attributes.push_some("client.port", self.peer.map(|peer| peer.port()));
            }
        }
        let version = if is_server { Some(self.version) } else { self.response_version };
        attributes.push_some("network.protocol.version", version.and_then(version_text));
    }

    fn describe_captured(&self, attributes: &mut Attributes) {
        for Captured { name, values } in &self.captured_request {
            attributes.push(format!("http.request.header.{name}"), Value::Texts(values.clone()));
        }
        for Captured { name, values } in &self.captured_response {
            attributes.push(format!("http.response.header.{name}"), Value::Texts(values.clone()));
        }
        if self.capture.body_sizes {
            let announced = self.request_length.as_ref().and_then(|length| text(length).parse::<i64>().ok());
            attributes.push_some("http.request.body.size", announced);
            attributes.push("http.response.body.size", self.body_bytes);
        }
    }

    fn scheme<'a>(&'a self, config: &'a Config) -> &'a str {
        let forwarded = self.forwarded.as_ref().and_then(|forwarded| forwarded.scheme());
        forwarded.or_else(|| self.uri.scheme_str()).unwrap_or(config.scheme)
    }

    /// The server's name, with its port where one is named.
    fn authority<'a>(&'a self, config: &'a Config) -> Option<&'a str> {
        let forwarded = self.forwarded.as_ref().and_then(|forwarded| forwarded.host());
        forwarded
            .or_else(|| peer::authority(&self.uri, self.host.as_ref()))
            .or(config.server_authority.as_deref())
            .filter(|authority| !authority.is_empty())
    }

    fn full_url(&self, config: &Config) -> String {
        let scheme = self.uri.scheme_str().unwrap_or(config.scheme);
        let authority = match self.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => peer::authority(&self.uri, self.host.as_ref()).or(config.server_authority.as_deref()),
        };
        let query = self.uri.query().filter(|_| self.capture.query);
        let (mark, query) = query.map_or(("", ""), |query| ("?", query));
        let url = format!("{scheme}://{}{}{mark}{query}", authority.unwrap_or(""), self.uri.path());
        redact::text(&url).into_owned()
    }
}

/// Those that nearly all requests have are not copied.
fn scheme_text(scheme: &str) -> Cow<'static, str> {
    match scheme {
        "http" => Cow::Borrowed("http"),
        "https" => Cow::Borrowed("https"),
        other => Cow::Owned(other.to_owned()),
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
