//! Requests of servers that are no tower services.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, Version};

use super::registry::Registry;
use super::requests::{Failure, Interned, Key, KnownMethod, Requests, Scheme, Side};
use crate::classify::{Ending, Outcome};
use crate::clock::{self, Instant};

/// Counts the requests of one route as [`RequestMetricsLayer`](super::RequestMetricsLayer) would, for servers that no
/// tower layer can be put around. The numbers go into the same series.
///
/// ```
/// use buttress::metrics::{Registry, RouteMetrics};
/// use http::{Method, StatusCode};
///
/// let registry = Registry::new();
/// let items = RouteMetrics::server(&registry, "/items/{id}");
/// let request = items.start(&Method::GET);
/// // .. answer it ..
/// request.end(StatusCode::OK);
/// assert_eq!(registry.performance().total_requests, 1);
/// ```
#[derive(Clone)]
pub struct RouteMetrics {
    requests: Arc<Requests>,
    route: Interned,
}

impl RouteMetrics {
    /// Of this route, by its template.
    pub fn server(registry: &Registry, template: &str) -> Self {
        let requests = registry.requests(Side::Server);
        Self { route: requests.route(template), requests: Arc::clone(requests) }
    }

    /// A request has arrived. It is under way until it is [ended](RouteRequest::end) or dropped.
    pub fn start(&self, method: &Method) -> RouteRequest<'_> {
        self.start_at(method, clock::now())
    }

    /// As [`start`](Self::start), by a clock that was read already.
    pub fn start_at(&self, method: &Method, started: Instant) -> RouteRequest<'_> {
        let key = Key {
            is_grpc: false,
            method: KnownMethod::of(method),
            scheme: Scheme::Http,
            version: Version::HTTP_11,
            route: self.route,
            host: Interned::NONE,
            status: None,
            grpc_code: None,
            failure: Failure::None,
        };
        self.requests.start(key.method, key.scheme);
        RouteRequest { route: self, key, started, is_over: false }
    }
}

/// A request under way; of [`RouteMetrics::start`]. When it is dropped its caller has gone away.
#[must_use = "a request that is dropped counts as cancelled"]
pub struct RouteRequest<'a> {
    route: &'a RouteMetrics,
    key: Key,
    started: Instant,
    is_over: bool,
}

impl RouteRequest<'_> {
    /// It was answered, to the last byte.
    pub fn end(self, status: StatusCode) {
        let took = clock::now().saturating_duration_since(self.started);
        self.end_after(status, took);
    }

    /// As [`end`](Self::end), by a clock that was read already.
    pub fn end_after(mut self, status: StatusCode, took: Duration) {
        let is_error = status.is_server_error();
        let failure = if is_error { Failure::Status } else { Failure::None };
        let outcome = if is_error { Outcome::Error } else { Outcome::Ok };
        self.key = Key { status: Some(status), failure, ..self.key };
        self.is_over = true;
        self.route.requests.end_of_route(&self.key, Ending::Complete, outcome, took);
    }
}

impl Drop for RouteRequest<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (ending, outcome, failure) = match std::thread::panicking() {
            true => (Ending::Panicked, Outcome::Panicked, self.route.requests.failure_named("panic")),
            false => (Ending::DroppedBeforeHead, Outcome::Cancelled, Failure::None),
        };
        self.key.failure = failure;
        let took = clock::now().saturating_duration_since(self.started);
        self.route.requests.end_of_route(&self.key, ending, outcome, took);
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteMetrics").field("template", &self.requests.route_text(self.route)).finish()
    }
}

impl fmt::Debug for RouteRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteRequest").field("method", &self.key.method.as_str()).finish_non_exhaustive()
    }
}
