use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;
use tower_layer::Layer;

use super::refuse::{Answer, Fail};
use super::{Circuit, CircuitBreaker, CircuitConfig, Circuits, Keyed};
use crate::classify::HttpClassifier;
use crate::observe::{ObserveLayer, RequestHead};

/// Rejects calls that would fail; see the [module](super).
///
/// The circuit is made here and shared by everything that this layer, or a clone of it, is put around.
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer<K = Circuit, A = Fail, O = (), C = HttpClassifier> {
    pub(super) choose: K,
    pub(super) refuse: A,
    pub(super) watch: ObserveLayer<O, C>,
}

impl CircuitBreakerLayer {
    /// One circuit of this name for all calls, with the defaults of [`CircuitConfig`].
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::with_circuit(Circuit::new(name, CircuitConfig::default()))
    }

    /// One circuit of this name for all calls.
    pub fn with_config(name: impl Into<Arc<str>>, config: CircuitConfig) -> Self {
        Self::with_circuit(Circuit::new(name, config))
    }

    /// A circuit that others may have too.
    pub fn with_circuit(circuit: Circuit) -> Self {
        Self { choose: circuit, refuse: Fail, watch: ObserveLayer::client(()) }
    }
}

impl<A, O, C> CircuitBreakerLayer<Circuit, A, O, C> {
    /// Its circuit: to look at, to force, to export.
    pub const fn circuit(&self) -> &Circuit {
        &self.choose
    }
}

impl<F> CircuitBreakerLayer<Keyed<F>>
where
    F: for<'a> Fn(&RequestHead<'a>) -> Cow<'a, str> + Clone,
{
    /// A circuit for each key: a host, a route, a tenant.
    ///
    /// ```
    /// use std::borrow::Cow;
    ///
    /// use buttress::circuit_breaker::{CircuitBreakerLayer, CircuitConfig, Circuits};
    ///
    /// let circuits = Circuits::new("backends", CircuitConfig::default());
    /// let layer = CircuitBreakerLayer::keyed(circuits, |head| Cow::Borrowed(head.uri.host().unwrap_or_default()));
    /// # let _ = layer;
    /// ```
    pub fn keyed(circuits: Circuits, key: F) -> Self {
        Self { choose: Keyed { circuits, key }, refuse: Fail, watch: ObserveLayer::client(()) }
    }
}

impl<F, A, O, C> CircuitBreakerLayer<Keyed<F>, A, O, C> {
    /// Its circuits.
    pub const fn circuits(&self) -> &Circuits {
        &self.choose.circuits
    }
}

#[cfg(feature = "stack")]
impl<K: super::Choose, A, O, C> CircuitBreakerLayer<K, A, O, C> {
    pub(crate) fn chosen(&self) -> super::Chosen<'_> {
        self.choose.chosen()
    }
}

impl<K, A, O, C> CircuitBreakerLayer<K, A, O, C> {
    /// Answers a rejected call with this status and `Retry-After` (gRPC: UNAVAILABLE and a pushback) in place of an error,
    /// so that the service stays infallible.
    #[must_use]
    pub fn reject_with(self, status: StatusCode) -> CircuitBreakerLayer<K, Answer, O, C> {
        let Self { choose, watch, .. } = self;
        CircuitBreakerLayer { choose, refuse: Answer(status), watch }
    }

    /// With a classifier of one's own; [`Verdict::health`](crate::classify::Verdict::health) is what counts here.
    #[must_use]
    pub fn classifier<C2>(self, classifier: C2) -> CircuitBreakerLayer<K, A, O, C2> {
        let Self { choose, refuse, watch } = self;
        CircuitBreakerLayer { choose, refuse, watch: watch.with_classifier(classifier) }
    }

    /// Lets these observers have part in the breaker's look at each exchange that is let through.
    #[must_use]
    pub fn observer<O2>(self, observer: O2) -> CircuitBreakerLayer<K, A, O2, C> {
        let Self { choose, refuse, watch } = self;
        CircuitBreakerLayer { choose, refuse, watch: watch.with_observer(observer) }
    }

    /// Decides by the head of the answer and not at the end of its body; gRPC still waits for its trailers, which hold the
    /// status. Off by default.
    #[must_use]
    pub fn end_with_head(mut self, end_with_head: bool) -> Self {
        self.watch = self.watch.end_with_head(end_with_head);
        self
    }
}

impl<S, K: Clone, A: Clone, O: Clone, C: Clone> Layer<S> for CircuitBreakerLayer<K, A, O, C> {
    type Service = CircuitBreaker<S, K, A, O, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker { inner, layer: self.clone() }
    }
}
