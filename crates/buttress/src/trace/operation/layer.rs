//! An operation for each call of a service.

use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::{Judge, Operation, Results, Run};
use crate::context;

/// Makes an operation of each call of a service, whatever its requests are: the processor of a queue, a client of a
/// database. HTTP has [`TraceLayer`](crate::trace::TraceLayer).
///
/// ```
/// use buttress::trace::{Operation, OperationLayer, SpanKind, Spans};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let spans = Spans::new();
/// let process = Operation::new("process mail", &spans).kind(SpanKind::Consumer).in_own_trace();
/// let processor = ServiceBuilder::new()
///     // Outermost, so that its time is that of everything within.
///     .layer(OperationLayer::new(process))
///     .service(service_fn(async |address: String| Ok::<_, BoxError>(address.len())));
/// processor.oneshot("ada@example.com".to_owned()).await?;
/// assert_eq!(spans.latest(1)[0].name, "process mail");
/// # Ok(()) }
/// ```
///
/// With an operation of [`Telemetry::operation`](crate::Telemetry::operation) calls are measured as well. An error of the
/// service is one; of answers that are failures [`Operation::judged`] is told.
///
/// The span begins with the call and not when its future is first polled, so that whatever the service does within its
/// `call` is below it. Nothing is boxed.
#[derive(Clone, Debug)]
pub struct OperationLayer<J = Results>(Operation<J>);

impl<J> OperationLayer<J> {
    /// Each call is a run of this operation.
    pub const fn new(operation: Operation<J>) -> Self {
        Self(operation)
    }
}

impl<S, J: Clone> Layer<S> for OperationLayer<J> {
    type Service = OperationService<S, J>;

    fn layer(&self, inner: S) -> OperationService<S, J> {
        OperationService { inner, operation: self.0.clone() }
    }
}

/// A service whose calls are operations; made by [`OperationLayer`].
#[derive(Clone, Debug)]
pub struct OperationService<S, J = Results> {
    inner: S,
    operation: Operation<J>,
}

impl<S, R, J> Service<R> for OperationService<S, J>
where
    S: Service<R>,
    J: Judge<Result<S::Response, S::Error>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Run<S::Future, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let mut work = self.operation.work(context::active());
        let future = work.run(|| self.inner.call(request));
        Run::begun(Some(work), self.operation.judge.clone(), future)
    }
}
