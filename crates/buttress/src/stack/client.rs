use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tower_layer::Layer;

use super::Observers;
use crate::circuit_breaker::preset::Preset;
use crate::circuit_breaker::{
    Choose, Chosen, Circuit, CircuitBreaker, CircuitBreakerLayer, CircuitConfig, Circuits, Fail, Keyed,
};
use crate::observe::RequestHead;
use crate::retry::{AttemptTimeout, AttemptTimeoutLayer, Retry, RetryLayer};
use crate::signal::Signals;

/// The service that a [`ClientStack`] makes of a transport.
///
/// It takes requests with any body of `Bytes` and hands them to the transport with a
/// [`ReplayBody`](crate::retry::ReplayBody). Its errors are boxed: [`Rejected::of`](crate::circuit_breaker::Rejected::of)
/// and [`TimedOut::of`](crate::retry::TimedOut::of) find those of its layers.
pub type ClientService<S, O = (), K = Circuit> =
    Retry<CircuitBreaker<AttemptTimeout<S>, K, Fail, <O as Observers>::Observer>>;

/// Told what a stack is made of when it is first put around something.
type Report = Arc<dyn Fn(Chosen<'_>, &RetryLayer) + Send + Sync>;

/// Deadline, retry, circuit breaker and timeout of an attempt around a transport; see the [module](super).
///
/// The circuit and the budget are made here and shared by everything that this stack, or a clone of it, is put around.
#[derive(Clone)]
pub struct ClientStack<O = (), K = Circuit> {
    observers: O,
    breaker: CircuitBreakerLayer<K>,
    retry: RetryLayer,
    attempt_timeout: Option<Duration>,
    signals: Option<Signals>,
    report: Option<Report>,
    /// Until something changes.
    reported: Arc<AtomicBool>,
}

impl ClientStack {
    /// For calls of the service `name`: a circuit with the defaults of [`CircuitConfig`], retries with those of
    /// [`RetryLayer`], no deadline, and no limit for an attempt.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            observers: (),
            breaker: CircuitBreakerLayer::new(Arc::clone(&name)),
            retry: RetryLayer::new().name(name),
            attempt_timeout: None,
            signals: None,
            report: None,
            reported: Arc::default(),
        }
    }
}

impl<O> ClientStack<O> {
    /// Another configuration of the circuit.
    #[must_use]
    pub fn circuit_config(mut self, config: CircuitConfig) -> Self {
        let circuit = Circuit::new(Arc::clone(self.circuit().name()), config);
        let circuit = match &self.signals {
            Some(signals) => circuit.with_signals(signals.clone()),
            None => circuit,
        };
        self.breaker = CircuitBreakerLayer::with_circuit(circuit);
        self.changed()
    }

    /// The circuit and the timeout of an attempt that go with a kind of dependency.
    #[must_use]
    pub fn preset(self, preset: Preset) -> Self {
        self.attempt_timeout(preset.timeout()).circuit_config(preset.config())
    }

    /// Its circuit: to look at, to force, to export.
    pub fn circuit(&self) -> &Circuit {
        self.breaker.circuit()
    }

    /// Tells there when the circuit changes its state, and when retries are exhausted or their budget is spent.
    #[must_use]
    pub fn signals(mut self, signals: Signals) -> Self {
        let _ = self.circuit().clone().with_signals(signals.clone());
        self.signals = Some(signals.clone());
        self.retry(|retry| retry.signals(signals))
    }

    /// A circuit for each key, as [`CircuitBreakerLayer::keyed`] has it. Signals are those of the circuits.
    #[must_use]
    pub fn keyed<F>(self, circuits: Circuits, key: F) -> ClientStack<O, Keyed<F>>
    where
        F: for<'a> Fn(&RequestHead<'a>) -> Cow<'a, str> + Clone,
    {
        let Self { observers, retry, attempt_timeout, signals, report, .. } = self;
        let breaker = CircuitBreakerLayer::keyed(circuits, key);
        ClientStack { observers, breaker, retry, attempt_timeout, signals, report, reported: Arc::default() }
    }
}

impl<O, K> ClientStack<O, K> {
    /// Ends one attempt after so long without the head of an answer. No limit by default.
    #[must_use]
    pub fn attempt_timeout(mut self, after: Duration) -> Self {
        self.attempt_timeout = Some(after);
        self
    }

    /// Ends all attempts and waits together after so long. No limit by default, but that of the request which is being
    /// served, where there is a [`TierLayer`](crate::retry::TierLayer).
    #[must_use]
    pub fn deadline(self, after: Duration) -> Self {
        self.retry(|retry| retry.deadline(after))
    }

    /// Changes the retries: attempts, backoff, budget, hedging.
    #[must_use]
    pub fn retry(mut self, change: impl FnOnce(RetryLayer) -> RetryLayer) -> Self {
        self.retry = change(self.retry);
        self.changed()
    }

    /// Sends every request once.
    #[must_use]
    pub fn without_retry(self) -> Self {
        self.retry(|retry| retry.attempts(1))
    }

    /// The retries, for their numbers.
    pub const fn retries(&self) -> &RetryLayer {
        &self.retry
    }

    /// Lets others have part in the look at each attempt.
    #[cfg(feature = "telemetry")]
    pub(crate) fn observed_by<O2: Observers>(self, observers: O2) -> ClientStack<O2, K> {
        let Self { breaker, retry, attempt_timeout, signals, report, reported, .. } = self;
        ClientStack { observers, breaker, retry, attempt_timeout, signals, report, reported }
    }

    /// Has this told what the stack is made of.
    #[cfg(feature = "telemetry")]
    pub(crate) fn reported_by(mut self, report: impl Fn(Chosen<'_>, &RetryLayer) + Send + Sync + 'static) -> Self {
        self.report = Some(Arc::new(report));
        self
    }

    /// Changes who has part in it.
    #[cfg(feature = "telemetry")]
    pub(crate) fn change_observers(mut self, change: impl FnOnce(O) -> O) -> Self {
        self.observers = change(self.observers);
        self
    }

    /// What is reported of the layers as they were before is not what is made from now on.
    fn changed(mut self) -> Self {
        self.reported = Arc::default();
        self
    }
}

impl<O: Observers, K: Choose> ClientStack<O, K> {
    /// Wraps a transport: a client of hyper-util, or any service of `http` requests.
    ///
    /// Its request body is a [`ReplayBody`](crate::retry::ReplayBody), which type inference finds out for a client of
    /// hyper-util.
    pub fn service<S: Clone>(&self, transport: S) -> ClientService<S, O, K> {
        self.layer(transport)
    }
}

impl<S: Clone, O: Observers, K: Choose> Layer<S> for ClientStack<O, K> {
    type Service = ClientService<S, O, K>;

    fn layer(&self, inner: S) -> Self::Service {
        if let Some(report) = &self.report
            && !self.reported.swap(true, Ordering::Relaxed)
        {
            report(self.breaker.chosen(), &self.retry);
        }
        let attempt = AttemptTimeoutLayer::optional(self.attempt_timeout).layer(inner);
        let breaker = self.breaker.clone().observer(self.observers.observer()).layer(attempt);
        self.retry.layer(breaker)
    }
}

impl<O, K: fmt::Debug> fmt::Debug for ClientStack<O, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStack")
            .field("breaker", &self.breaker)
            .field("retry", &self.retry)
            .field("attempt_timeout", &self.attempt_timeout)
            .finish_non_exhaustive()
    }
}
