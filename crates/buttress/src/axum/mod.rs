//! What only axum needs: which route has answered, and extractors of the context.
//!
//! [`Context`](crate::context::Context), [`TraceContext`](crate::context::TraceContext) and
//! [`Baggage`](crate::context::Baggage) are extractors. The first two answer 500 with [`NoContext`] where no layer of this
//! crate is around the handler; as an `Option` they never fail, and baggage is empty there.
//!
//! ```
//! use axum::{Router, routing::get};
//! use buttress::context::{Baggage, TraceContext};
//! use buttress::propagate::PropagateLayer;
//!
//! async fn item(trace: TraceContext, baggage: Baggage) -> String {
//!     format!("{} for {}", trace.trace_id, baggage.get("tenant").unwrap_or_default())
//! }
//!
//! let router: Router = Router::new().route("/items/{id}", get(item)).layer(PropagateLayer::new());
//! # let _ = router;
//! ```

mod extract;
#[cfg(all(feature = "websocket", feature = "trace"))]
mod websocket;

use http::{Request, Response};
use tower_layer::Layer;

pub use extract::NoContext;
#[cfg(all(feature = "websocket", feature = "trace"))]
pub use websocket::Websockets;

use crate::observe::{End, Exchange, Observe, ObserveLayer, Observed, Probe, Route};

/// Tells layers outside the router which route has answered.
///
/// Layers given to [`axum::Router::layer`] see the route by themselves. A layer around the whole router sees it only if
/// this one is inside:
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress::axum::RouteLayer;
/// use buttress::trace::{Spans, TraceLayer};
/// use tower::ServiceBuilder;
///
/// let router: Router = Router::new().route("/items/{id}", get(async || "item")).layer(RouteLayer);
/// let service = ServiceBuilder::new().layer(TraceLayer::server(Spans::new())).service(router);
/// # let _ = service;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteLayer;

impl<S> Layer<S> for RouteLayer {
    type Service = Observed<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        ObserveLayer::server(Self).end_with_head(true).layer(inner)
    }
}

impl<B> Observe<B> for RouteLayer {
    type Probe = RouteProbe;

    fn start(&self, request: &mut Request<B>, _exchange: &mut Exchange) -> RouteProbe {
        RouteProbe(Route::of(request.extensions()))
    }
}

/// The route, on its way to the answer.
#[derive(Debug)]
pub struct RouteProbe(Option<Route>);

impl Probe for RouteProbe {
    fn head<R>(&mut self, response: &mut Response<R>, _exchange: &mut Exchange) {
        if let Some(route) = self.0.take() {
            response.extensions_mut().insert(route);
        }
    }

    fn end(self, _end: &End<'_>) {}
}

#[cfg(feature = "metrics")]
impl crate::metrics::MetricsEndpoint {
    /// Its pages as routes, to be merged after the layers, so that who looks at the metrics does not change them.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use buttress::Telemetry;
    ///
    /// let telemetry = Telemetry::from_env("storefront")?;
    /// let app: Router = Router::new()
    ///     .route("/items/{id}", get(async || "an item"))
    ///     .layer(telemetry.server())
    ///     .merge(telemetry.metrics_endpoint().router());
    /// # Ok::<(), buttress::settings::SettingsError>(())
    /// ```
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> ::axum::Router<S> {
        let route = |router: ::axum::Router<S>, path| router.route_service(path, self.clone());
        Self::PATHS.into_iter().fold(::axum::Router::new(), route)
    }
}
