use tower_layer::Layer;

use crate::metrics::{RequestMetrics, RequestMetricsLayer};
use crate::observe::{ObserveLayer, Observed};
use crate::propagate::{Inject, InjectLayer};
use crate::trace::{Trace, TraceLayer};

/// A client that is watched; of [`ClientLayer`].
pub type ClientService<S> = Observed<S, (Trace, Option<RequestMetrics>, Inject)>;

/// Tracing, metrics and injection of a client; of [`Telemetry::client`](super::Telemetry::client).
#[derive(Clone, Debug)]
pub struct ClientLayer {
    pub(super) trace: TraceLayer,
    pub(super) metrics: Option<RequestMetricsLayer>,
    pub(super) inject: InjectLayer,
    pub(super) enabled: bool,
}

impl ClientLayer {
    /// Changes the tracing part.
    #[must_use]
    pub fn trace(mut self, change: impl FnOnce(TraceLayer) -> TraceLayer) -> Self {
        self.trace = change(self.trace);
        self
    }

    /// Changes the measuring part, where there is one.
    #[must_use]
    pub fn metrics(mut self, change: impl FnOnce(RequestMetricsLayer) -> RequestMetricsLayer) -> Self {
        self.metrics = self.metrics.map(change);
        self
    }

    /// Changes the injecting part: which hosts see what.
    #[must_use]
    pub fn inject(mut self, change: impl FnOnce(InjectLayer) -> InjectLayer) -> Self {
        self.inject = change(self.inject);
        self
    }

    /// Wraps a client.
    pub fn service<S>(&self, client: S) -> ClientService<S> {
        self.layer(client)
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let metrics = self.metrics.as_ref().map(RequestMetricsLayer::observer);
        let observers = (self.trace.observer(), metrics, self.inject.observer());
        ObserveLayer::client(observers).enabled(self.enabled).layer(inner)
    }
}
