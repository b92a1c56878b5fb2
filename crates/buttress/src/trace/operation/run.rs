//! The future of an operation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use pin_project_lite::pin_project;

use super::judge::Judge;
use super::work::{Core, Work};
use crate::classify::Outcome;
use crate::context::Context;

pin_project! {
    /// A future in a span that ends when it is ready or dropped; of [`Operation::run`](super::Operation::run), where the span
    /// begins when it is first polled, and of [`OperationLayer`](super::OperationLayer), where it begins with the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<F, J> {
        // An option, so that it can be dropped within the context.
        #[pin]
        inner: Option<F>,
        judge: J,
        state: State,
    }

    impl<F, J> PinnedDrop for Run<F, J> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            match this.state {
                State::Working(work) if work.is_inside() => {
                    // Its destructor is not what panicked, and must not hide that something did.
                    work.within(|| this.inner.set(None));
                    work.finish(Outcome::Panicked, None);
                }
                State::Working(work) => work.within(|| this.inner.set(None)),
                State::Untouched => {}
                State::Waiting(waiting) => {
                    let starter = waiting.as_mut().and_then(|(_, starter)| starter.take());
                    crate::context::enter(&mut { starter }, || this.inner.set(None));
                }
            }
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "the large one is the one that lasts")]
enum State {
    /// What to begin with, and below what; taken when it begins.
    Waiting(Option<(Core, Option<Context>)>),
    Working(Work),
    /// Nobody watches.
    #[cfg_attr(not(feature = "macros"), allow(dead_code, reason = "of functions that nobody observes yet"))]
    Untouched,
}

impl<F, J> Run<F, J> {
    pub(super) fn new(core: Core, judge: J, starter: Option<Context>, inner: F) -> Self {
        Self { inner: Some(inner), judge, state: State::Waiting(Some((core, starter))) }
    }

    /// Of work that has begun, if anybody watches.
    pub(crate) fn begun(work: Option<Work>, judge: J, inner: F) -> Self {
        Self { inner: Some(inner), judge, state: work.map_or(State::Untouched, State::Working) }
    }
}

impl<F: Future, J: Judge<F::Output>> Future for Run<F, J> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let State::Waiting(waiting) = this.state {
            let (core, starter) = waiting.take().expect("a beginning panics at most once");
            *this.state = State::Working(Work::begin(core, starter));
        }
        let inner = this.inner.as_mut().as_pin_mut().expect("a future is not polled after it was ready");
        let State::Working(work) = this.state else {
            let output = ready!(inner.poll(cx));
            this.inner.set(None);
            return Poll::Ready(output);
        };
        let output = ready!(work.run(|| inner.poll(cx)));
        // Dropped now and not with this: whoever keeps a finished future shall not keep what it held.
        work.finish_with(&output, this.judge, || this.inner.set(None));
        Poll::Ready(output)
    }
}

impl<F, J> fmt::Debug for Run<F, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("begun", &matches!(self.state, State::Working(_))).finish_non_exhaustive()
    }
}
