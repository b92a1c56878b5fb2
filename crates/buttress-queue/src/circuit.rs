//! A circuit in front of a processor: while it is open nothing is claimed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, Permit, Rejected};
use buttress::retry::NotRetryable;
use tokio::time::{Instant, sleep};
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::job::{Delivery, Outcome};

/// How often a closed door is looked at, besides when it says that it may open.
const LOOK: Duration = Duration::from_millis(250);

/// Puts a circuit in front of a processor. While it rejects, the processor is not ready, so that the worker claims
/// nothing; what was claimed meanwhile is deferred.
///
/// Of the outcomes [`Outcome::Retry`] and errors are failures; what is deferred or buried says nothing about the other
/// side, and neither does the rejection of a circuit farther in, or whatever else is [`NotRetryable`].
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
///
/// The workers of other queues whose processor is a tower service, as apalis' is, take it as [`CircuitLayer::any`].
#[derive(Clone, Debug)]
pub struct CircuitLayer<T = Deliveries> {
    circuit: Circuit,
    calls: T,
}

/// Of [`CircuitLayer`]: what is called are processors of this crate's jobs.
#[derive(Clone, Debug)]
pub struct Deliveries(());

/// Of [`CircuitLayer`]: any service may be called.
#[derive(Clone, Debug, Default)]
pub struct Anything {
    /// Calls that the circuit does not let through yet.
    held: Arc<AtomicUsize>,
}

impl CircuitLayer {
    /// With this circuit.
    pub const fn new(circuit: Circuit) -> Self {
        Self { circuit, calls: Deliveries(()) }
    }
}

impl CircuitLayer<Anything> {
    /// With this circuit, around a service of whatever requests: the processor of somebody else's queue.
    ///
    /// Its errors are failures and its answers are none. While the circuit rejects, the service is not ready. A request that
    /// comes nevertheless, as when a circuit that has just closed lets only a share pass, is held until it is let through:
    /// to whom it belongs a rejection would be a failed attempt.
    ///
    /// ```
    /// use buttress::circuit_breaker::{Circuit, CircuitConfig};
    /// use buttress_queue::CircuitLayer;
    /// use tower::{BoxError, ServiceBuilder, service_fn};
    ///
    /// let processor = ServiceBuilder::new()
    ///     .layer(CircuitLayer::any(Circuit::new("mail", CircuitConfig::default())))
    ///     .service(service_fn(async |address: String| Ok::<_, BoxError>(address.len())));
    /// # let _ = processor;
    /// ```
    pub fn any(circuit: Circuit) -> Self {
        Self { circuit, calls: Anything::default() }
    }
}

impl CircuitLayer<Anything> {
    /// Waits until the circuit lets a call through.
    async fn admitted(&self) -> Permit {
        let mut held = None;
        loop {
            match self.circuit.admit(Instant::now()) {
                Ok(permit) => return permit,
                Err(rejected) => {
                    held.get_or_insert_with(|| Held::new(&self.calls.held));
                    sleep(rejected.retry_after.clamp(Duration::from_millis(1), LOOK)).await;
                }
            }
        }
    }
}

/// A call that is held, as long as it is in scope.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Relaxed);
        Self(Arc::clone(held))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<S, T: Clone> Layer<S> for CircuitLayer<T> {
    type Service = Guarded<S, T>;

    fn layer(&self, inner: S) -> Guarded<S, T> {
        Guarded { inner, layer: self.clone(), wait: None }
    }
}

/// A processor behind a circuit; of [`CircuitLayer`].
#[derive(Debug)]
pub struct Guarded<S, T = Deliveries> {
    inner: S,
    layer: CircuitLayer<T>,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<S: Clone, T: Clone> Clone for Guarded<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone(), wait: None }
    }
}

impl<S, T> Guarded<S, T> {
    /// Ready once this says so; it is asked again and again.
    fn poll_until(&mut self, is_open: impl Fn(&CircuitLayer<T>) -> bool, context: &mut Context<'_>) -> Poll<()> {
        while !is_open(&self.layer) {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        self.wait = None;
        Poll::Ready(())
    }
}

impl<S, T> Service<Delivery<T>> for Guarded<S>
where
    S: Service<Delivery<T>>,
    S::Response: Into<Outcome>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.poll_until(|layer| layer.circuit.is_available(), context));
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, delivery: Delivery<T>) -> Self::Future {
        let permit = match self.layer.circuit.admit(Instant::now()) {
            Ok(permit) => permit,
            Err(rejected) => {
                let outcome = Outcome::defer(rejected.retry_after, rejected.to_string());
                return Box::pin(async { Ok(outcome) });
            }
        };
        let processing = self.inner.call(delivery);
        Box::pin(async move {
            let answer = processing.await.map(Into::into).map_err(Into::into);
            let result = match &answer {
                Ok(Outcome::Ack) => CallResult::Ok,
                Ok(Outcome::Retry { after, .. }) => CallResult::Failed { retry_after: *after },
                Ok(Outcome::Defer { .. } | Outcome::Bury { .. }) => CallResult::Ignored,
                Err(error) => failed(error),
            };
            permit.report(result, Instant::now());
            answer
        })
    }
}

impl<S, R> Service<R> for Guarded<S, Anything>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let is_open =
            |layer: &CircuitLayer<Anything>| layer.circuit.is_available() && layer.calls.held.load(Relaxed) == 0;
        ready!(self.poll_until(is_open, context));
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // The one that is ready is called, now or when it may be.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let permit = layer.admitted().await;
            let answer = inner.call(request).await.map_err(Into::into);
            permit.report(answer.as_ref().map_or_else(failed, |_| CallResult::Ok), Instant::now());
            answer
        })
    }
}

/// What an error says of the other side: nothing, when a circuit or a limit farther in did not let it be asked.
fn failed(error: &BoxError) -> CallResult {
    let is_refusal = Rejected::of(&**error).is_some() || NotRetryable::of(&**error).is_some();
    if is_refusal { CallResult::Ignored } else { CallResult::FAILED }
}
