use tower_layer::Layer;

use crate::metrics::{RequestMetrics, RequestMetricsLayer};
use crate::observe::{ObserveLayer, Observed};
use crate::propagate::{Inject, InjectLayer};
use crate::stack::{self, ClientStack, Observers};
use crate::trace::{Trace, TraceLayer};

/// Tracing, metrics and injection of a client, without breaker or retry; of
/// [`Telemetry::watched_client`](super::Telemetry::watched_client).
#[derive(Clone, Debug)]
pub struct ClientLayer {
    pub(super) trace: TraceLayer,
    pub(super) metrics: Option<RequestMetricsLayer>,
    pub(super) inject: InjectLayer,
    pub(super) enabled: bool,
}

/// The observers of a [`ClientLayer`]; none where telemetry is off.
pub type ClientObserver = Option<(Trace, Option<RequestMetrics>, Inject)>;

/// A client that is watched; of [`ClientLayer`].
pub type WatchedClient<S> = Observed<S, ClientObserver>;

/// A client that is watched, retries, and has a circuit; of [`Telemetry::client`](super::Telemetry::client).
pub type ClientService<S> = stack::ClientService<S, ClientLayer>;

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
    pub fn service<S>(&self, client: S) -> WatchedClient<S> {
        self.layer(client)
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = WatchedClient<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ObserveLayer::client(self.observer()).enabled(self.enabled).layer(inner)
    }
}

impl Observers for ClientLayer {
    type Observer = ClientObserver;

    fn observer(&self) -> ClientObserver {
        let metrics = self.metrics.as_ref().map(RequestMetricsLayer::observer);
        self.enabled.then(|| (self.trace.observer(), metrics, self.inject.observer()))
    }
}

impl<K> ClientStack<ClientLayer, K> {
    /// Changes how its attempts are traced, measured, and told their callees.
    #[must_use]
    pub fn watched(self, change: impl FnOnce(ClientLayer) -> ClientLayer) -> Self {
        self.change_observers(change)
    }
}
