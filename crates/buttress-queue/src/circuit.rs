//! A circuit in front of a processor: while it is open nothing is claimed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress::circuit_breaker::{CallResult, Circuit};
use tokio::time::{Instant, sleep};
use tower_layer::Layer;
use tower_service::Service;

use crate::job::{Delivery, Outcome};

/// How often a closed door is looked at, besides when it says that it may open.
const LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// Puts a circuit in front of a processor. While it rejects, the processor is not ready, so that the worker claims
/// nothing; what was claimed meanwhile is deferred.
///
/// Of the outcomes [`Outcome::Retry`] and errors are failures; what is deferred or buried says nothing about the other
/// side.
///
/// ```
/// use buttress::circuit_breaker::{Circuit, CircuitConfig};
/// use buttress_queue::{CircuitLayer, Delivery, Outcome};
/// use tower::{BoxError, ServiceBuilder, service_fn};
///
/// let processor = ServiceBuilder::new()
///     // Outermost, so that it sees everything that the processor does.
///     .layer(CircuitLayer::new(Circuit::new("mail", CircuitConfig::default())))
///     .service(service_fn(async |_: Delivery| Ok::<_, BoxError>(Outcome::Ack)));
/// # let _ = processor;
/// ```
#[derive(Clone, Debug)]
pub struct CircuitLayer(Circuit);

impl CircuitLayer {
    /// With this circuit.
    pub const fn new(circuit: Circuit) -> Self {
        Self(circuit)
    }
}

impl<S> Layer<S> for CircuitLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, circuit: self.0.clone(), wait: None }
    }
}

/// A processor behind a circuit; of [`CircuitLayer`].
#[derive(Debug)]
pub struct Guarded<S> {
    inner: S,
    circuit: Circuit,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<S: Clone> Clone for Guarded<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), circuit: self.circuit.clone(), wait: None }
    }
}

impl<S, T> Service<Delivery<T>> for Guarded<S>
where
    S: Service<Delivery<T>>,
    S::Response: Into<Outcome>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Outcome;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        while !self.circuit.is_available() {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        self.wait = None;
        self.inner.poll_ready(context)
    }

    fn call(&mut self, delivery: Delivery<T>) -> Self::Future {
        let permit = match self.circuit.admit(Instant::now()) {
            Ok(permit) => permit,
            Err(rejected) => {
                let outcome = Outcome::defer(rejected.retry_after, rejected.to_string());
                return Box::pin(async { Ok(outcome) });
            }
        };
        let processing = self.inner.call(delivery);
        Box::pin(async move {
            let answer = processing.await.map(Into::into);
            let result = match &answer {
                Ok(Outcome::Ack) => CallResult::Ok,
                Ok(Outcome::Retry { after, .. }) => CallResult::Failed { retry_after: *after },
                Ok(Outcome::Defer { .. } | Outcome::Bury { .. }) => CallResult::Ignored,
                Err(_) => CallResult::FAILED,
            };
            permit.report(result, Instant::now());
            answer
        })
    }
}
