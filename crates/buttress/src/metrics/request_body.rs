//! How large the bodies of requests are, counted as they are read.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::layer::{Config, RequestMetricsLayer};
use super::registry::Registry;
use super::requests::Key;
use crate::classify::is_grpc_request;
use crate::observe::{CountedBody, KnownMethods, Present, ReadEnd, RequestHead};

/// Records `http.server.request.body.size` or `http.client.request.body.size`: the bytes that were read of each request,
/// whatever it announced.
///
/// It stands apart from [`RequestMetricsLayer`] because it changes the type of the body that the inner service gets. axum
/// and tonic take any; axum boxes it, which is an allocation for each request. Put it inside of layers that replace the
/// body, such as decompression, to count what the handler reads, and outside to count what was sent.
///
/// ```
/// use axum::{Router, routing::post};
/// use buttress::metrics::{Registry, RequestBodySizeLayer, RequestMetricsLayer};
///
/// let registry = Registry::new();
/// let app: Router = Router::new()
///     .route("/uploads", post(async |body: String| body.len().to_string()))
///     // Right around the handlers: what they read is what counts.
///     .layer(RequestBodySizeLayer::server(&registry))
///     .layer(RequestMetricsLayer::server(&registry));
/// # let _ = app;
/// ```
#[derive(Clone)]
pub struct RequestBodySizeLayer {
    config: Arc<Config>,
    enabled: bool,
}

impl RequestBodySizeLayer {
    /// In front of a server's service.
    pub fn server(registry: &Registry) -> Self {
        Self::like(&RequestMetricsLayer::server(registry))
    }

    /// Around a client's transport.
    pub fn client(registry: &Registry) -> Self {
        Self::like(&RequestMetricsLayer::client(registry))
    }

    /// On the side of this layer and with its settings, so that both tell requests by the same scheme, methods and hosts.
    pub fn like(layer: &RequestMetricsLayer) -> Self {
        Self { config: Arc::new(layer.config().clone()), enabled: layer.is_enabled() }
    }

    /// Which methods are told by name.
    #[must_use]
    pub fn known_methods(mut self, known: KnownMethods) -> Self {
        Arc::make_mut(&mut self.config).known_methods = known;
        self
    }

    /// Passes everything through uncounted when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }
}

impl<S> Layer<S> for RequestBodySizeLayer {
    type Service = RequestBodySize<S>;

    fn layer(&self, inner: S) -> RequestBodySize<S> {
        RequestBodySize { inner, config: Arc::clone(&self.config), enabled: self.enabled }
    }
}

/// A service whose requests' bodies are counted; of [`RequestBodySizeLayer`].
#[derive(Clone)]
pub struct RequestBodySize<S> {
    inner: S,
    config: Arc<Config>,
    enabled: bool,
}

impl<S, B> Service<Request<B>> for RequestBodySize<S>
where
    S: Service<Request<CountedBody<B, BodySize>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        // As of answers: sizes of gRPC are those of its messages, which nobody has looked at here.
        let is_counted = self.enabled && !is_grpc_request(request.method(), request.headers());
        let key = || self.config.key_of(&RequestHead::of(&request), Present::UNKNOWN, false);
        let watch = BodySize { config: Arc::clone(&self.config), key: is_counted.then(key) };
        self.inner.call(request.map(|body| CountedBody::new(body, watch)))
    }
}

/// Where a body's size is recorded when it has been read.
pub struct BodySize {
    config: Arc<Config>,
    /// `None` where nothing is counted.
    key: Option<Key>,
}

impl ReadEnd for BodySize {
    fn end(self, bytes: u64) {
        if let Some(key) = &self.key {
            self.config.requests.request_body(key, bytes);
        }
    }
}

impl fmt::Debug for BodySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodySize")
    }
}

impl<S> fmt::Debug for RequestBodySize<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBodySize").field("side", &self.config.requests.side()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RequestBodySizeLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBodySizeLayer").field("side", &self.config.requests.side()).finish_non_exhaustive()
    }
}
