use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Probe;
use super::watch::Watch;
use crate::classify::{Classify, How, HttpClassifier};

pin_project! {
    /// The answer's body, watched to its last frame; of [`Observed`](super::Observed).
    pub struct ObservedBody<B, P, C = HttpClassifier>
    where
        P: Probe,
        C: Classify,
    {
        // None when it is empty; and so that a body that nobody reads on is dropped within its context.
        #[pin]
        inner: Option<B>,
        // None as soon as the end has been recorded.
        watch: Option<Watch<P, C>>,
    }

    impl<B, P, C> PinnedDrop for ObservedBody<B, P, C>
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

impl<B, P: Probe, C: Classify> ObservedBody<B, P, C> {
    #[inline]
    pub(super) fn new(inner: B, watch: Option<Watch<P, C>>) -> Self {
        Self { inner: Some(inner), watch }
    }

    /// Of an answer that no inner service gave.
    #[cfg(feature = "circuit-breaker")]
    pub(crate) fn empty() -> Self {
        Self { inner: None, watch: None }
    }
}

impl<B, P, C> Body for ObservedBody<B, P, C>
where
    B: Body,
    B::Error: fmt::Display + 'static,
    P: Probe,
    C: Classify,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(mut inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let Some(watch) = this.watch else {
            return inner.poll_frame(cx);
        };
        let polled;
        if let Some(entered) = watch.enter() {
            polled = inner.as_mut().poll_frame(cx);
            entered.leave();
        } else {
            polled = watch.run_bridged(|| inner.as_mut().poll_frame(cx));
        }
        let polled = ready!(polled);
        if let Some(Ok(frame)) = &polled
            && !frame.is_trailers()
        {
            if let Some(data) = frame.data_ref() {
                watch.delivered(data.remaining() as u64);
            }
            if inner.is_end_stream() {
                watch.finish(&How::Complete { trailers: None });
                *this.watch = None;
            }
            return Poll::Ready(polled);
        }
        let last = watch.finish_with(polled);
        *this.watch = None;
        Poll::Ready(last)
    }

    /// False until the end has been recorded, so that no server stops polling before it.
    fn is_end_stream(&self) -> bool {
        self.watch.is_none() && self.inner.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B: Default, P: Probe, C: Classify> Default for ObservedBody<B, P, C> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B, P: Probe, C: Classify> fmt::Debug for ObservedBody<B, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedBody").field("watched", &self.watch.is_some()).finish_non_exhaustive()
    }
}
