//! The task-local: set while a scope runs, put back however it ends.

#[cfg(all(feature = "trace", feature = "retry"))]
use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{self, Poll};

use pin_project_lite::pin_project;
use tokio::task::JoinHandle;

use super::Context;
#[cfg(any(feature = "metrics", all(feature = "trace", feature = "retry")))]
use super::TraceContext;
use super::bridge::{self, ContextBridge};

thread_local! {
    /// Never dropped: what is swapped in is swapped out again before its thread ends. So there is nothing to register and no
    /// state to ask for, and threads that end may still log and drop requests.
    static CURRENT: ManuallyDrop<RefCell<Option<Context>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

#[cfg(all(feature = "trace", feature = "retry"))]
thread_local! {
    static LAST_RECORDED: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// Remembers the span that was begun last on this thread, for who called the service that began it.
#[cfg(all(feature = "trace", feature = "retry"))]
pub(crate) fn note_recorded(trace: TraceContext) {
    LAST_RECORDED.set(Some(trace));
}

/// The span that was begun since it was last asked for.
#[cfg(all(feature = "trace", feature = "retry"))]
pub(crate) fn take_recorded() -> Option<TraceContext> {
    LAST_RECORDED.take()
}

/// Tells whoever has prepared the current span outside of its recorder, and may answer its flags, what was decided of it.
#[cfg(feature = "trace")]
pub(crate) fn tell_sampled(decided: &Context) {
    CURRENT.with(|current| {
        let Ok(mut current) = current.try_borrow_mut() else {
            return;
        };
        let Some(current) = current.as_mut().filter(|current| current.span_id() == decided.span_id()) else {
            return;
        };
        current.trace.flags = decided.trace.flags;
    });
}

/// The context of the request or operation that is running here.
pub fn current() -> Option<Context> {
    peek(|context| context.cloned())
}

/// Looks at the current context.
///
/// The context is held by a clone, which allocates nothing, so that `look` may enter another one.
pub fn with_current<R>(look: impl FnOnce(Option<&Context>) -> R) -> R {
    look(current().as_ref())
}

/// Looks at the current context in its place; `look` may not enter, poll or drop a scope.
pub(super) fn peek<R>(look: impl FnOnce(Option<&Context>) -> R) -> R {
    CURRENT.with(|current| look(current.borrow().as_ref()))
}

/// The trace of the current context, if it is sampled.
#[cfg(feature = "metrics")]
#[inline]
pub(crate) fn sampled_trace() -> Option<TraceContext> {
    peek(|current| current.filter(|context| context.is_sampled()).map(Context::trace))
}

/// Whether the current context is sampled.
#[cfg(feature = "metrics")]
#[inline]
pub(crate) fn is_sampled() -> bool {
    peek(|current| current.is_some_and(Context::is_sampled))
}

/// Runs `work` with the context of `slot` as the current one, and leaves the slot as it was.
///
/// The context moves in and out instead of being cloned, since this runs at every poll.
#[inline]
pub(crate) fn enter<R>(slot: &mut Option<Context>, work: impl FnOnce() -> R) -> R {
    if let Some(bridge) = bridge::installed() {
        return enter_bridged(bridge, slot, work);
    }
    let _swapped = Swapped::new(slot);
    work()
}

#[inline(never)]
fn enter_bridged<R>(bridge: &dyn ContextBridge, slot: &mut Option<Context>, work: impl FnOnce() -> R) -> R {
    let bridged = slot.clone();
    let _swapped = Swapped::new(slot);
    let Some(context) = bridged else {
        return work();
    };
    let mut result = None;
    let mut work = Some(work);
    bridge.enter(&context, &mut || {
        if let Some(work) = work.take() {
            result = Some(work());
        }
    });
    match (result, work) {
        (Some(result), _) => result,
        (None, Some(work)) => work(),
        (None, None) => unreachable!("the work ran, so it left a result"),
    }
}

/// Swaps slot and task-local, and back on drop, also when the work panics.
struct Swapped<'a>(&'a mut Option<Context>);

impl<'a> Swapped<'a> {
    #[inline]
    fn new(slot: &'a mut Option<Context>) -> Self {
        swap(slot);
        Self(slot)
    }
}

impl Drop for Swapped<'_> {
    #[inline]
    fn drop(&mut self) {
        swap(self.0);
    }
}

/// Makes the context of `slot` the current one, until it is [swapped out](swap_out); false where a bridge has to be asked,
/// which only [`enter`] does.
#[inline]
pub(crate) fn swap_in(slot: &mut Option<Context>) -> bool {
    let is_free = bridge::installed().is_none();
    if is_free {
        swap(slot);
    }
    is_free
}

/// Puts back what [`swap_in`] has changed.
#[inline]
pub(crate) fn swap_out(slot: &mut Option<Context>) {
    swap(slot);
}

fn swap(slot: &mut Option<Context>) {
    CURRENT.with(|current| {
        // Nobody looks at it now (see `peek`); a branch that panics would cost every caller a copy of what it holds.
        let Ok(mut current) = current.try_borrow_mut() else {
            debug_assert!(false, "whoever looks at the current context enters none");
            return;
        };
        std::mem::swap(&mut *current, slot);
    });
}

/// Starts a task that has the context of here.
///
/// # Panics
///
/// Outside a tokio runtime, as [`tokio::spawn`].
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.in_context())
}

/// Runs blocking work on tokio's pool for that, with the context of here.
///
/// # Panics
///
/// Outside a tokio runtime, as [`tokio::task::spawn_blocking`].
pub fn spawn_blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let mut context = current();
    tokio::task::spawn_blocking(move || enter(&mut context, work))
}

/// Carries the context of here to wherever the future will be polled.
pub trait InContext: Sized {
    /// Binds the future to the current context.
    ///
    /// ```
    /// use buttress::context::{self, Context, InContext};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let context = Context::root();
    /// let bound = context.enter(|| async { context::current().is_some() }.in_context());
    /// assert!(bound.await);
    /// # }
    /// ```
    fn in_context(self) -> Scope<Self> {
        Scope::new(current(), self)
    }
}

impl<F: Future> InContext for F {}

pin_project! {
    /// A future with its own current context, also while it is dropped.
    ///
    /// Made by [`Context::scope`] and [`InContext::in_context`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F> {
        context: Option<Context>,
        // An option, so that it can be dropped within the context.
        #[pin]
        inner: Option<F>,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                enter(this.context, || this.inner.set(None));
            }
        }
    }
}

impl<F> Scope<F> {
    pub(super) fn new(context: Option<Context>, inner: F) -> Self {
        Self { context, inner: Some(inner) }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        enter(this.context, || {
            let inner = this.inner.as_mut().as_pin_mut().expect("a future is not polled after it was ready");
            let polled = inner.poll(cx);
            if polled.is_ready() {
                this.inner.set(None);
            }
            polled
        })
    }
}
