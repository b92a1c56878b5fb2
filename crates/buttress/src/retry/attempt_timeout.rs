//! A limit for one attempt, to stand further in than the retry: inside of a circuit, or of the span of each attempt.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::error::BoxError;
use super::{AttemptError, TimedOut};

/// Drops an attempt that has no answer in time, and fails with an [`AttemptError`] of [`TimedOut::Attempt`], which
/// [`RetryLayer`](super::RetryLayer) knows for a failure by chance.
///
/// The same as [`RetryLayer::attempt_timeout`](super::RetryLayer::attempt_timeout), for stacks in which something stands
/// between the retry and the timeout. The body of the answer is not limited.
#[derive(Clone, Copy, Debug)]
pub struct AttemptTimeoutLayer(Option<Duration>);

impl AttemptTimeoutLayer {
    /// At most this long until the head of the answer.
    pub const fn new(after: Duration) -> Self {
        Self(Some(after))
    }

    /// At most this long, or without a limit.
    #[cfg(feature = "stack")]
    pub(crate) const fn optional(after: Option<Duration>) -> Self {
        Self(after)
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeout<S>;

    fn layer(&self, inner: S) -> AttemptTimeout<S> {
        AttemptTimeout { inner, after: self.0 }
    }
}

/// A service whose answers have a time limit; made by [`AttemptTimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct AttemptTimeout<S> {
    inner: S,
    after: Option<Duration>,
}

impl<S, Q> Service<Q> for AttemptTimeout<S>
where
    S: Service<Q>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = AttemptError;
    type Future = AttemptTimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AttemptError>> {
        self.inner.poll_ready(cx).map_err(|error| AttemptError(error.into()))
    }

    fn call(&mut self, request: Q) -> Self::Future {
        // First, so that nothing but the call itself may panic while there is a future to be moved.
        let limit = self.after.map(Limit::new);
        AttemptTimeoutFuture { inner: self.inner.call(request), limit }
    }
}

pin_project! {
    /// The answer to come, in time or not at all; of [`AttemptTimeout`].
    pub struct AttemptTimeoutFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        limit: Option<Limit>,
    }
}

pin_project! {
    struct Limit {
        #[pin]
        sleep: Sleep,
        after: Duration,
    }
}

impl Limit {
    fn new(after: Duration) -> Self {
        Self { sleep: sleep(after), after }
    }
}

impl<F, R, E> Future for AttemptTimeoutFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
{
    type Output = Result<R, AttemptError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.inner.poll(cx) {
            return Poll::Ready(answer.map_err(|error| AttemptError(error.into())));
        }
        let Some(limit) = this.limit.as_pin_mut() else {
            return Poll::Pending;
        };
        let limit = limit.project();
        limit.sleep.poll(cx).map(|()| Err(TimedOut::Attempt(*limit.after).into()))
    }
}

impl<F> fmt::Debug for AttemptTimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.limit.as_ref().map(|limit| limit.after);
        f.debug_struct("AttemptTimeoutFuture").field("after", &after).finish_non_exhaustive()
    }
}
