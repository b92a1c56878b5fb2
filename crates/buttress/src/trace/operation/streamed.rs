//! The stream of an operation.

use std::fmt;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::judge::Judge;
use super::work::Work;
use crate::classify::Outcome;

pin_project! {
    /// A stream in a span that lasts until its end; of [`Operation::stream`](super::Operation::stream).
    #[must_use = "its span ends when it is dropped"]
    pub struct Streamed<S, J> {
        // An option, so that it can be dropped within the context.
        #[pin]
        inner: Option<S>,
        judge: J,
        // None where nobody watches.
        work: Option<Work>,
        items: u64,
        error: Option<&'static str>,
    }

    impl<S, J> PinnedDrop for Streamed<S, J> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(work) = this.work else { return };
            let panicked = work.is_inside();
            work.within(|| this.inner.set(None));
            work.note("operation.items", *this.items);
            let outcome = match this.error {
                _ if panicked => Outcome::Panicked,
                Some(error) => Outcome::of_error(Some(error)),
                None => Outcome::Cancelled,
            };
            work.finish(outcome, *this.error);
        }
    }
}

impl<S, J> Streamed<S, J> {
    pub(crate) fn new(work: Option<Work>, judge: J, inner: S) -> Self {
        Self { inner: Some(inner), judge, work, items: 0, error: None }
    }
}

impl<S: Stream, J: Judge<S::Item>> Stream for Streamed<S, J> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let inner = this.inner.as_pin_mut().expect("only the destructor takes the stream out");
        let Some(work) = this.work else { return inner.poll_next(cx) };
        let item = ready!(work.run(|| inner.poll_next(cx)));
        match &item {
            Some(item) => {
                *this.items += 1;
                *this.error = this.error.or_else(|| this.judge.error_type(item));
            }
            None => {
                work.note("operation.items", *this.items);
                work.end(*this.error);
            }
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.as_ref().map_or((0, Some(0)), S::size_hint)
    }
}

impl<S, J> fmt::Debug for Streamed<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed").field("items", &self.items).finish_non_exhaustive()
    }
}
