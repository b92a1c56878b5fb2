use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

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
        let polled = match this.watch {
            Some(watch) => ready!(watch.run(|| inner.poll(cx))),
            None => ready!(inner.poll(cx)),
        };
        match polled {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                // In its place: what is moved from here to the body is moved once.
                if this.watch.as_mut().is_some_and(|watch| !watch.head(&mut head, &body)) {
                    *this.watch = None;
                }
                Poll::Ready(Ok(Response::from_parts(head, ObservedBody::new(body, this.watch.take()))))
            }
            Err(error) => {
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
