//! Another answer in the place of none.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use http::{Request, Response, StatusCode};
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Refused;
use crate::classify::Fault;

/// Asks another service when the inner one cannot be had, or fails.
///
/// The other service is asked with the head of the request, which is cloned for that beforehand, and in the place of the
/// body with the [`Cause`]. This layer belongs outside of breaker and retries, which would otherwise take its answers for
/// those of the callee.
///
/// ```
/// use std::convert::Infallible;
///
/// use buttress::circuit_breaker::{Cause, CircuitBreakerLayer, FallbackLayer};
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let breaker = CircuitBreakerLayer::new("prices");
/// breaker.circuit().force_open("an example", None);
/// let remembered = service_fn(async |request: Request<Cause>| {
///     assert_eq!((request.uri().path(), *request.body()), ("/tea", Cause::Open));
///     Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("yesterday's price")))
/// });
/// let prices = ServiceBuilder::new()
///     // Outermost: what it answers is no business of the breaker's.
///     .layer(FallbackLayer::when_open(remembered))
///     .map_err(BoxError::from)
///     .layer(breaker)
///     .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("today's price"))));
/// let answer = prices.oneshot(Request::get("/tea").body(())?).await?;
/// assert_eq!(answer.into_body().collect().await?.to_bytes(), "yesterday's price");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FallbackLayer<F> {
    fallback: F,
    on_failure: bool,
    pub(super) used: Arc<AtomicU64>,
}

/// Why a fallback is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The call was not made: a circuit is open, or there was no room.
    Open,
    /// This was the answer: 408, 429, or from 500 on.
    Answer(StatusCode),
    /// There was an error in the place of an answer.
    Error,
}

impl<F> FallbackLayer<F> {
    /// Asks when the call was not made.
    pub fn when_open(fallback: F) -> Self {
        Self { fallback, on_failure: false, used: Arc::default() }
    }

    /// Asks when the call was not made, and when it failed.
    pub fn when_failed(fallback: F) -> Self {
        Self { on_failure: true, ..Self::when_open(fallback) }
    }

    /// How often it was asked.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    fn cause<R, E: fmt::Display + 'static>(&self, result: &Result<Response<R>, E>) -> Option<Cause> {
        match result {
            Err(error) if Fault::new(error).is_refusal() => Some(Cause::Open),
            Ok(response) if response.extensions().get::<Refused>().is_some() => Some(Cause::Open),
            Err(_) => self.on_failure.then_some(Cause::Error),
            Ok(response) => {
                let status = response.status();
                let failed = status.is_server_error()
                    || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
                (self.on_failure && failed).then_some(Cause::Answer(status))
            }
        }
    }
}

impl<S, F: Clone> Layer<S> for FallbackLayer<F> {
    type Service = Fallback<S, F>;

    fn layer(&self, inner: S) -> Fallback<S, F> {
        Fallback { inner, layer: self.clone() }
    }
}

/// A service with another behind it; made by [`FallbackLayer`].
#[derive(Clone, Debug)]
pub struct Fallback<S, F> {
    inner: S,
    layer: FallbackLayer<F>,
}

impl<S, F, B, R, R2> Service<Request<B>> for Fallback<S, F>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: fmt::Display + 'static,
    F: Service<Request<Cause>, Response = Response<R2>> + Clone,
    F::Error: Into<S::Error>,
{
    type Response = Response<Either<R, R2>>;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, F, F::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let spare = Request::from_parts(head.clone(), Cause::Error);
        let future = self.inner.call(Request::from_parts(head, body));
        let spare = Some((self.layer.clone(), spare));
        FallbackFuture { state: State::Inner { future, spare } }
    }
}

pin_project! {
    /// The answer of the one service or the other; of [`Fallback`].
    pub struct FallbackFuture<I, F, A> {
        #[pin]
        state: State<I, F, A>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<I, F, A> {
        // Taken when it is needed.
        Inner { #[pin] future: I, spare: Option<(FallbackLayer<F>, Request<Cause>)> },
        Waiting { fallback: F, request: Option<Request<Cause>> },
        Asked { #[pin] future: A },
    }
}

impl<I, F, R, R2, E> Future for FallbackFuture<I, F, F::Future>
where
    I: Future<Output = Result<Response<R>, E>>,
    E: fmt::Display + 'static,
    F: Service<Request<Cause>, Response = Response<R2>>,
    F::Error: Into<E>,
{
    type Output = Result<Response<Either<R, R2>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Inner { future, spare } => {
                    let result = ready!(future.poll(cx));
                    let (layer, mut request) = spare.take().expect("polled after it was done");
                    let Some(cause) = layer.cause(&result) else {
                        return Poll::Ready(result.map(|response| response.map(Either::Left)));
                    };
                    layer.used.fetch_add(1, Relaxed);
                    *request.body_mut() = cause;
                    State::Waiting { fallback: layer.fallback, request: Some(request) }
                }
                StateProj::Waiting { fallback, request } => {
                    ready!(fallback.poll_ready(cx)).map_err(Into::into)?;
                    let request = request.take().expect("polled after it was done");
                    State::Asked { future: fallback.call(request) }
                }
                StateProj::Asked { future } => {
                    let result = ready!(future.poll(cx)).map_err(Into::into);
                    return Poll::Ready(result.map(|response| response.map(Either::Right)));
                }
            };
            state.set(next);
        }
    }
}

impl<I, F, A> fmt::Debug for FallbackFuture<I, F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackFuture").finish_non_exhaustive()
    }
}
