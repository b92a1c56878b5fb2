//! Requests of servers that are no tower services.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode, Version};

use super::buckets::nanos;
use super::registry::Registry;
use super::requests::{ExchangeSeries, Failure, Interned, Key, KnownMethod, Requests, RouteEnd, Scheme, Side};
use crate::classify::{Ending, Outcome};
use crate::clock::{self, Instant};
use crate::observe::KnownMethods;

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
    known_methods: KnownMethods,
    /// The series of the usual statuses, for each usual method.
    usual: Arc<[[OnceLock<Arc<ExchangeSeries>>; USUAL]]>,
}

/// How many statuses are usual.
const USUAL: usize = 8;

impl RouteMetrics {
    /// Of this route, by its template.
    pub fn server(registry: &Registry, template: &str) -> Self {
        let requests = Arc::clone(registry.requests(Side::Server));
        let usual = (0..KnownMethod::USUAL).map(|_| Default::default()).collect();
        Self { route: requests.route(template), requests, known_methods: KnownMethods::default(), usual }
    }

    /// Which methods are told by name.
    #[must_use]
    pub fn known_methods(mut self, known: KnownMethods) -> Self {
        self.known_methods = known;
        self
    }

    /// A request has arrived. It is under way until it is [ended](RouteRequest::end) or dropped.
    pub fn start(&self, method: &Method) -> RouteRequest<'_> {
        self.start_at(method, clock::now())
    }

    /// As [`start`](Self::start), by a clock that was read already.
    pub fn start_at(&self, method: &Method, started: Instant) -> RouteRequest<'_> {
        match self.requests.start_own(method, &self.known_methods, Scheme::Http) {
            Some(method) => RouteRequest { route: self, method, started },
            None => self.start_first(method, started),
        }
    }

    /// On a thread that has not counted before, or by an unusual method.
    #[cold]
    #[inline(never)]
    fn start_first(&self, method: &Method, started: Instant) -> RouteRequest<'_> {
        let method = self.requests.method(method, &self.known_methods);
        self.requests.start(method, Scheme::Http);
        RouteRequest { route: self, method, started }
    }

    fn key(&self, method: KnownMethod, status: Option<StatusCode>, failure: Failure) -> Key {
        Key {
            is_grpc: false,
            method,
            scheme: Scheme::Http,
            version: Version::HTTP_11,
            route: self.route,
            host: Interned::NONE,
            status,
            grpc_code: None,
            failure,
        }
    }

    /// Where the series of a usual method and status is kept.
    #[inline]
    fn usual(&self, method: KnownMethod, status: StatusCode) -> Option<&OnceLock<Arc<ExchangeSeries>>> {
        let place = PLACES.get(usize::from(status.as_u16()))?;
        self.usual.get(method.index())?.get(usize::from(*place))
    }

    /// Of a status that has not been before, or is unusual.
    #[cold]
    #[inline(never)]
    fn end_first(&self, method: KnownMethod, status: StatusCode, outcome: Outcome, took: u64) {
        let failure = if outcome == Outcome::Error { Failure::Status } else { Failure::None };
        let series = || self.requests.exchange(&self.key(method, Some(status), failure));
        let series = match self.usual(method, status) {
            Some(usual) => usual.get_or_init(|| Arc::clone(series())),
            None => series(),
        };
        self.requests.end_of_route(series, method, RouteEnd { ending: Ending::Complete, outcome }, took);
    }
}

/// A request under way; of [`RouteMetrics::start`]. When it is dropped its caller has gone away.
#[must_use = "a request that is dropped counts as cancelled"]
pub struct RouteRequest<'a> {
    route: &'a RouteMetrics,
    method: KnownMethod,
    started: Instant,
}

impl RouteRequest<'_> {
    /// It was answered, to the last byte.
    pub fn end(self, status: StatusCode) {
        let took = clock::now().saturating_duration_since(self.started);
        self.end_after(status, took);
    }

    /// As [`end`](Self::end), by a clock that was read already.
    pub fn end_after(self, status: StatusCode, took: Duration) {
        let Self { route, method, .. } = self;
        // Borrows and copies only: nothing is left to drop, and the request is not cancelled.
        std::mem::forget(self);
        let outcome = if status.is_server_error() { Outcome::Error } else { Outcome::Ok };
        let took = nanos(took);
        match route.usual(method, status).and_then(OnceLock::get) {
            Some(series) => {
                let end = RouteEnd { ending: Ending::Complete, outcome };
                route.requests.end_of_route(series, method, end, took);
            }
            None => route.end_first(method, status, outcome, took),
        }
    }
}

impl Drop for RouteRequest<'_> {
    fn drop(&mut self) {
        let Self { route, method, started } = *self;
        let (ending, outcome, failure) = match std::thread::panicking() {
            true => (Ending::Panicked, Outcome::Panicked, route.requests.failure_named("panic")),
            false => (Ending::DroppedBeforeHead, Outcome::Cancelled, Failure::None),
        };
        let took = nanos(clock::now().saturating_duration_since(started));
        let series = route.requests.exchange(&route.key(method, None, failure));
        route.requests.end_of_route(series, method, RouteEnd { ending, outcome }, took);
    }
}

/// The place of each status that most answers have; of the others none.
static PLACES: [u8; 512] = {
    const USUALLY: [usize; USUAL] = [200, 201, 204, 302, 304, 400, 404, 500];
    let (mut places, mut nth) = ([USUAL as u8; 512], 0);
    while nth < USUAL {
        places[USUALLY[nth]] = nth as u8;
        nth += 1;
    }
    places
};

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteMetrics").field("template", &self.requests.route_text(self.route)).finish()
    }
}

impl fmt::Debug for RouteRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteRequest")
            .field("method", &self.route.requests.method_text(self.method))
            .finish_non_exhaustive()
    }
}
