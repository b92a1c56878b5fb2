use tower_layer::Layer;

use super::Observed;
use crate::classify::HttpClassifier;

/// Watches each exchange of a service with one observer, or a tuple of them.
#[derive(Clone, Copy, Debug)]
pub struct ObserveLayer<O, C = HttpClassifier> {
    pub(super) observer: O,
    pub(super) classifier: C,
    pub(super) options: Options,
}

/// How exchanges are watched, whoever watches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) enabled: bool,
    pub(super) end_with_head: bool,
}

impl<O> ObserveLayer<O> {
    /// In front of a server's service, with [`HttpClassifier::server`].
    pub fn server(observer: O) -> Self {
        Self::new(observer, HttpClassifier::server())
    }

    /// Around a client, with [`HttpClassifier::client`].
    pub fn client(observer: O) -> Self {
        Self::new(observer, HttpClassifier::client())
    }
}

impl<O, C> ObserveLayer<O, C> {
    /// With a classifier of one's own.
    pub fn new(observer: O, classifier: C) -> Self {
        Self { observer, classifier, options: Options { enabled: true, end_with_head: false } }
    }

    /// As this, with another observer.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) fn with_observer<O2>(self, observer: O2) -> ObserveLayer<O2, C> {
        let Self { classifier, options, .. } = self;
        ObserveLayer { observer, classifier, options }
    }

    /// As this, with another classifier.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) fn with_classifier<C2>(self, classifier: C2) -> ObserveLayer<O, C2> {
        let Self { observer, options, .. } = self;
        ObserveLayer { observer, classifier, options }
    }

    /// Ends each exchange with its head instead of with its body; gRPC keeps ending with its trailers, which hold the
    /// status. Off by default.
    #[must_use]
    pub fn end_with_head(mut self, end_with_head: bool) -> Self {
        self.options.end_with_head = end_with_head;
        self
    }

    /// Passes everything through unwatched when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.options.enabled = enabled;
        self
    }
}

impl<S, O: Clone, C: Clone> Layer<S> for ObserveLayer<O, C> {
    type Service = Observed<S, O, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, layer: self.clone() }
    }
}
