use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::watch::Watch;
use super::{ObservedBody, Probe};
use crate::classify::{Classify, Fault, How, HttpClassifier};

pin_project! {
    /// The answer to come, watched; of [`Observed`](super::Observed).
    pub struct ResponseFuture<F, P, C = HttpClassifier>
    where
        P: Probe,
        C: Classify,
    {
        // An option so that a cancelled future is dropped within its context.
        #[pin]
        inner: Option<F>,
        watch: Option<Watch<P, C>>,
    }

    impl<F, P, C> PinnedDrop for ResponseFuture<F, P, C>
    where
        P: Probe,
        C: Classify,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(watch) = this.watch {
                watch.run(|| this.inner.set(None));
            }
        }
    }
}

type Answer<R, P, C, E> = Result<Response<ObservedBody<R, P, C>>, E>;

impl<F, P: Probe, C: Classify> ResponseFuture<F, P, C> {
    #[inline]
    pub(crate) fn new(inner: F, watch: Option<Watch<P, C>>) -> Self {
        Self { inner: Some(inner), watch }
    }

    /// Calls the service in the exchange's context.
    #[inline(always)]
    pub(crate) fn calling<S, B>(service: &mut S, request: Request<B>, mut watch: Watch<P, C>) -> Self
    where
        S: Service<Request<B>, Future = F>,
    {
        // Two calls, and not one for both: a future that may come of either is moved once more, and futures are large.
        let Some(entered) = watch.enter() else {
            return Self::calling_bridged(service, request, watch);
        };
        let inner = service.call(request);
        entered.leave();
        Self { inner: Some(inner), watch: Some(watch) }
    }

    #[cold]
    #[inline(never)]
    fn calling_bridged<S, B>(service: &mut S, request: Request<B>, mut watch: Watch<P, C>) -> Self
    where
        S: Service<Request<B>, Future = F>,
    {
        let inner = watch.run_bridged(|| service.call(request));
        Self { inner: Some(inner), watch: Some(watch) }
    }
}

impl<F, R, E, P, C> Future for ResponseFuture<F, P, C>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: fmt::Display + 'static,
    P: Probe,
    C: Classify,
{
    type Output = Result<Response<ObservedBody<R, P, C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with(cx, |error| error)
    }
}

impl<F, R, E, P, C> ResponseFuture<F, P, C>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: fmt::Display + 'static,
    P: Probe,
    C: Classify,
{
    /// Polls for layers that have errors of their own, so that the answer is not moved once more for their sake.
    #[inline]
    pub(crate) fn poll_with<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        map: impl FnOnce(E) -> T,
    ) -> Poll<Answer<R, P, C, T>> {
        let this = self.project();
        let inner = this.inner.as_pin_mut().expect("only the destructor takes the future out");
        // Looked at in its place, since each move of an answer and of a watch is a copy.
        let mut polled;
        match this.watch {
            Some(watch) => {
                if let Some(entered) = watch.enter() {
                    polled = inner.poll(cx);
                    entered.leave();
                } else {
                    polled = watch.run_bridged(|| inner.poll(cx));
                }
                if let Poll::Ready(Ok(response)) = &mut polled
                    && !watch.head(response)
                {
                    *this.watch = None;
                }
            }
            None => polled = inner.poll(cx),
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(response)) => {
                Poll::Ready(Ok(response.map(|body| ObservedBody::new(body, this.watch.take()))))
            }
            Poll::Ready(Err(error)) => {
                if let Some(mut watch) = this.watch.take() {
                    watch.finish(&How::Failed(Fault::new(&error)));
                }
                Poll::Ready(Err(map(error)))
            }
        }
    }
}

impl<F, P: Probe, C: Classify> fmt::Debug for ResponseFuture<F, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("watched", &self.watch.is_some()).finish_non_exhaustive()
    }
}
