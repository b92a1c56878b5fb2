use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tower_service::Service;

use super::Registry;
use super::export::json::{Report, Summary};
use super::export::{Exposition, Format};

/// A service that answers with the metrics of a registry, each asker in the [`Format`] that it wants.
///
/// | Path | Answer |
/// |---|---|
/// | `/metrics` | the metrics for Prometheus |
/// | `/internal/metrics` | the same, where that is [turned on](Self::internal); of a `Telemetry` by `BUTTRESS_METRICS_INTERNAL` |
/// | `/diagnostics/metrics` | a summary as JSON: requests, latencies, cache, event loop, websockets |
/// | `/diagnostics/performance` | every route, the process and its runtime, as JSON |
///
/// In JSON, counts are since the start; latencies, rates, error rates and lag are of the sliding window.
///
/// Other paths are not found, other methods than `GET` and `HEAD` not allowed. It goes by the path that it is shown: at
/// axum merge its `router()` (feature `axum`), or use it as `fallback_service`, or as `nest_service("/ops", ..)`, which
/// makes it answer to `/ops/metrics`. What it tells is for operators; put it where the public cannot reach.
///
/// ```
/// use buttress::metrics::{MetricsEndpoint, Registry};
/// use http::Request;
/// use http::header::CONTENT_TYPE;
/// use tower::ServiceExt;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let registry = Registry::new();
/// let endpoint = MetricsEndpoint::new(&registry).resource([("service.name", "shop")]);
/// let answer = endpoint.oneshot(Request::get("/metrics").body(()).unwrap()).await.unwrap();
/// assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct MetricsEndpoint {
    registry: Registry,
    resource: Arc<[(String, String)]>,
    prometheus: bool,
    internal: bool,
}

const METRICS: &str = "/metrics";
const INTERNAL: &str = "/internal/metrics";
const SUMMARY: &str = "/diagnostics/metrics";
const PERFORMANCE: &str = "/diagnostics/performance";

/// What there is to see.
#[derive(Clone, Copy)]
enum Page {
    Exposition,
    Summary,
    Performance,
}

impl MetricsEndpoint {
    /// The paths of its pages, for servers that tell by the path who answers.
    pub const PATHS: [&'static str; 4] = [METRICS, INTERNAL, SUMMARY, PERFORMANCE];

    /// Of this registry.
    pub fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), resource: Arc::new([]), prometheus: true, internal: false }
    }

    /// What the numbers are of, for `target_info`: the attributes of OpenTelemetry's resource. None by default.
    #[must_use]
    pub fn resource<K: Into<String>, V: Into<String>>(mut self, attributes: impl IntoIterator<Item = (K, V)>) -> Self {
        self.resource = attributes.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// Whether Prometheus is answered at all. It is by default.
    #[must_use]
    pub fn prometheus(mut self, prometheus: bool) -> Self {
        self.prometheus = prometheus;
        self
    }

    /// Whether Prometheus is answered at `/internal/metrics`, too. It is not by default.
    #[must_use]
    pub fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    fn page(&self, path: &str) -> Option<Page> {
        match path {
            METRICS if self.prometheus => Some(Page::Exposition),
            INTERNAL if self.prometheus && self.internal => Some(Page::Exposition),
            SUMMARY => Some(Page::Summary),
            PERFORMANCE => Some(Page::Performance),
            _ => None,
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Some(page) = self.page(request.uri().path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = status(StatusCode::METHOD_NOT_ALLOWED);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let (content_type, body) = match page {
            Page::Exposition => {
                let format = Format::accepted_by(request.headers());
                let snapshot = self.registry.snapshot();
                let exposition = Exposition::new(&snapshot).resource(&self.resource);
                (format.content_type(), exposition.render(format))
            }
            Page::Summary => json(&Summary::of(&self.registry)),
            Page::Performance => json(&Report::of(&self.registry)),
        };
        let length = body.len();
        let body = if request.method() == Method::HEAD { Bytes::new() } else { body };
        let mut answer = Response::new(Full::new(body));
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        // Said here because a body that is left out for `HEAD` could not tell it.
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        answer
    }
}

fn json(page: &impl Serialize) -> (HeaderValue, Bytes) {
    let page = serde_json::to_vec(page).expect("the page has text keys only");
    (HeaderValue::from_static("application/json"), page.into())
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

impl<B> Service<Request<B>> for MetricsEndpoint {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(&request)))
    }
}
