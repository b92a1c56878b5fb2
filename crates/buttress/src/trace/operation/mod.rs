//! Work that is no request: a span for each run, right about how it ended.
//!
//! ```
//! use buttress::context;
//! use buttress::trace::{Operation, Spans};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let spans = Spans::new();
//! let charge = Operation::new("charge", &spans).attribute("payment.provider", "acme");
//! let charged = charge.run(async {
//!     // A span below, on tokio's pool for what blocks.
//!     let signed = Operation::new("sign", &spans).infallible().blocking(|| 7 * 6).await;
//!     context::with_current(|context| context.unwrap().set_attribute("payment.id", 17));
//!     signed.map_err(std::io::Error::other)
//! });
//! assert_eq!(charged.await.unwrap(), 42);
//!
//! let [charge, sign] = &spans.latest(2)[..] else { panic!() };
//! assert_eq!((charge.name.as_ref(), sign.name.as_ref()), ("charge", "sign"));
//! assert_eq!(sign.parent_span_id, Some(charge.span_id));
//! assert_eq!(charge.attribute("payment.id").unwrap().to_string(), "17");
//! # }
//! ```
//!
//! [`Telemetry::operation`](crate::Telemetry::operation) makes operations that are measured as well. Around a tower service
//! [`OperationLayer`] makes one of each call.
//!
//! # What the outcome is
//!
//! | outcome | when |
//! |---|---|
//! | `ok` | it came to its end |
//! | `error` | with `Err`; `error.type` is what clients' errors are called: `connection_refused` and the like, else the type |
//! | `timeout` | with `Err` whose `error.type` is `timeout` |
//! | `cancelled` | it was dropped before its end |
//! | `panicked` | it panicked; the panic goes on |
//!
//! An operation takes `Result`s, so that an error is not taken for a success by mistake. What cannot fail is
//! [`infallible`](Operation::infallible); whose errors look otherwise is [`judged`](Operation::judged).
//!
//! # Cost
//!
//! A span is sampled as its parent is; a root asks the sampler. Of a run that is not sampled only the context is made, which
//! allocates nothing. Polls, time and [memory](Operation::memory) are told when they are asked for.

mod judge;
mod layer;
mod report;
mod run;
mod running;
#[cfg(feature = "stream")]
mod streamed;
mod work;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

pub use judge::{AnyOutput, Judge, JudgedBy, Results};
pub use layer::{OperationLayer, OperationService};
#[cfg_attr(not(feature = "telemetry"), allow(unused_imports, reason = "only who counts implements it"))]
pub(crate) use report::{Ended, Report};
pub use run::Run;
pub use running::Running;
#[cfg(feature = "stream")]
pub use streamed::Streamed;
#[cfg(feature = "macros")]
use work::Held;
#[cfg_attr(
    not(feature = "macros"),
    allow(unreachable_pub, reason = "functions are observed from outside of here")
)]
pub(crate) use work::Work;
pub(super) use work::{Core, Place};

use super::sampler::Sampler;
use super::span::SpanKind;
use super::spans::Spans;
use crate::context::{self, Context, Key, Value};

/// A kind of work, and how its runs are recorded. Make one where it is used or keep it: it can run any number of times.
///
/// See the [module](self) for an example.
#[derive(Clone)]
pub struct Operation<J = Results> {
    pub(super) core: Core,
    judge: J,
}

impl Operation {
    /// An operation of this name, which is of few values: `charge`, not `charge 17`.
    pub fn new(name: impl Into<Cow<'static, str>>, spans: &Spans) -> Self {
        Self::of(Core::new(name.into(), spans))
    }

    pub(super) const fn of(core: Core) -> Self {
        Self { core, judge: Results }
    }

    /// Has this told how the runs begin and end.
    #[cfg(feature = "telemetry")]
    pub(crate) fn reported_to(mut self, report: Option<Arc<dyn Report>>) -> Self {
        self.core.report = report;
        self
    }
}

impl<J> Operation<J> {
    /// Decides about runs below which nobody has decided yet. All of them by default.
    #[must_use]
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.core.sampler = sampler;
        self
    }

    /// An attribute of every run; the limits and the redaction of [`Context::set_attribute`] hold.
    #[must_use]
    pub fn attribute(mut self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        let attributes = Arc::make_mut(self.core.attributes.get_or_insert_default());
        attributes.push((key.into(), value.into()));
        self
    }

    /// Tells how often it was polled or entered, `operation.polls`, and for how long in all, `operation.busy_time` in
    /// seconds. Off by default: two readings of the clock a poll.
    #[must_use]
    pub fn statistics(mut self) -> Self {
        self.core.statistics = true;
        self
    }

    /// Tells a run that took longer to be slow: `operation.slow` is true on its span, and `buttress.operation.slow` counts it
    /// if [`Telemetry`](crate::Telemetry) made the operation.
    #[must_use]
    pub fn slow(mut self, longer_than: Duration) -> Self {
        self.core.slow = Some(longer_than);
        self
    }

    /// Sets an objective: that a run is `ok` within this time. `operation.slo_met` on the span says whether it was, and
    /// `buttress.operation.slo` counts both if [`Telemetry`](crate::Telemetry) made the operation. A run that was
    /// cancelled before that time says nothing of it.
    #[must_use]
    pub fn slo(mut self, within: Duration) -> Self {
        self.core.slo = Some(within);
        self
    }

    /// Gives the span an event at its end, of this name and with `buttress.outcome` and `error.type`.
    #[must_use]
    pub fn event(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.core.event = Some(name.into());
        self
    }

    /// Tells by how many bytes the memory has grown while it was polled or entered, `operation.memory_growth`, as this
    /// function says that there are, or were taken so far. Off by default: two calls of it a poll.
    ///
    /// A poll stays on its thread, so that with a count of what the thread has taken (`thread.allocatedp` of jemalloc)
    /// the figure is the operation's own; with the size of the process it is whatever grew meanwhile.
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// use buttress::trace::{Operation, Spans};
    ///
    /// thread_local!(static TAKEN: Cell<u64> = const { Cell::new(0) });
    ///
    /// let spans = Spans::new();
    /// let import = Operation::new("import", &spans).infallible().memory(|| TAKEN.get());
    /// import.call(|| TAKEN.set(TAKEN.get() + 4096));
    /// assert_eq!(spans.latest(1)[0].attribute("operation.memory_growth").unwrap().to_string(), "4096");
    /// ```
    #[must_use]
    pub fn memory(mut self, bytes: fn() -> u64) -> Self {
        self.core.memory = Some(bytes);
        self
    }

    /// What the span is among others: [`SpanKind::Consumer`] for what comes from a queue. Internal by default.
    #[must_use]
    pub fn kind(mut self, kind: SpanKind) -> Self {
        self.core.kind = kind;
        self
    }

    /// Gives each run a trace of its own, linked to the span of here. By default it is a child of that.
    #[must_use]
    pub fn in_own_trace(mut self) -> Self {
        self.core.place = Place::Root;
        self
    }

    /// Runs everything untouched when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.core.enabled = enabled;
        self
    }

    /// For whatever comes out: it is `ok`.
    #[must_use]
    pub fn infallible(self) -> Operation<AnyOutput> {
        Operation { core: self.core, judge: AnyOutput }
    }

    /// Lets a closure say whether an output is an error, by naming its `error.type`, which is of few values.
    ///
    /// ```
    /// use buttress::trace::{Operation, Spans};
    ///
    /// let spans = Spans::new();
    /// let lookup = Operation::new("lookup", &spans).judged(|found: &Option<u32>| found.is_none().then_some("not_found"));
    /// lookup.call(|| None::<u32>);
    /// assert_eq!(spans.latest(1)[0].error_type.unwrap().as_str(), "not_found");
    /// ```
    #[must_use]
    pub fn judged<T, F: Fn(&T) -> Option<&'static str>>(self, judge: F) -> Operation<JudgedBy<F>> {
        Operation { core: self.core, judge: JudgedBy(judge) }
    }

    /// Begins a run that is ended by hand.
    ///
    /// ```
    /// use buttress::trace::{Operation, Spans};
    ///
    /// let spans = Spans::new();
    /// let mut import = Operation::new("import", &spans).begin();
    /// import.enter(|| { /* read the file */ });
    /// import.fail("malformed");
    /// assert_eq!(spans.latest(1)[0].outcome.as_str(), "error");
    /// ```
    pub fn begin(&self) -> Running {
        Running(self.work(context::active()))
    }

    /// Begins a run of an operation that stays, below the span of here.
    #[cfg(feature = "macros")]
    pub(crate) fn begin_in_place(&'static self) -> Work {
        Work::begin(Held::Place(&self.core), context::active())
    }

    fn work(&self, starter: Option<Context>) -> Work {
        Work::begin(self.core.clone(), starter)
    }
}

impl<J: Clone> Operation<J> {
    /// Runs a future as a child of the span of here. The span begins with the first poll.
    pub fn run<F: Future>(&self, future: F) -> Run<F, J>
    where
        J: Judge<F::Output>,
    {
        self.run_below(context::active(), future)
    }

    fn run_below<F: Future>(&self, starter: Option<Context>, future: F) -> Run<F, J> {
        Run::new(self.core.clone(), self.judge.clone(), starter, future)
    }

    /// Runs a future on a task of its own, as a child of the span of here, which may be over by then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as [`tokio::spawn`].
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
        J: Judge<F::Output> + Send + 'static,
    {
        tokio::spawn(self.run(future))
    }

    /// Runs a closure here and now.
    pub fn call<R>(&self, work: impl FnOnce() -> R) -> R
    where
        J: Judge<R>,
    {
        self.call_below(context::active(), work)
    }

    fn call_below<R>(&self, starter: Option<Context>, work: impl FnOnce() -> R) -> R
    where
        J: Judge<R>,
    {
        let mut running = self.work(starter);
        let output = running.run(work);
        running.finish_with(&output, &self.judge, || {});
        output
    }

    /// Runs a closure that blocks on tokio's pool for that. The span begins when the pool gets to it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as [`tokio::task::spawn_blocking`].
    pub fn blocking<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R>
    where
        J: Judge<R> + Send + 'static,
    {
        let (operation, starter) = (self.clone(), context::active());
        tokio::task::spawn_blocking(move || operation.call_below(starter, work))
    }

    /// A closure for others to call: each call is a child of the span of here, whoever calls, and also when that span is
    /// long over.
    ///
    /// What a callback of futures returns is not yet done; let such a one [`run`](Self::run) what it returns.
    ///
    /// ```
    /// use buttress::trace::{Operation, Spans};
    ///
    /// let spans = Spans::new();
    /// let changed = Operation::new("config.changed", &spans).infallible().callback(|key: &str| key.len());
    /// std::thread::spawn(move || changed("timeout")).join().unwrap();
    /// assert_eq!(spans.latest(1)[0].name, "config.changed");
    /// ```
    pub fn callback<W, A, R>(&self, work: W) -> impl Fn(A) -> R + use<W, A, R, J>
    where
        W: Fn(A) -> R,
        J: Judge<R>,
    {
        let (operation, starter) = (self.clone(), context::active());
        move |argument| operation.call_below(starter.clone(), || work(argument))
    }

    /// As [`callback`](Self::callback), of a closure that changes what it holds.
    pub fn callback_mut<W, A, R>(&self, mut work: W) -> impl FnMut(A) -> R + use<W, A, R, J>
    where
        W: FnMut(A) -> R,
        J: Judge<R>,
    {
        let (operation, starter) = (self.clone(), context::active());
        move |argument| operation.call_below(starter.clone(), || work(argument))
    }

    /// Runs a future once this time has passed, as a child of the span of here. Waiting is not part of its span.
    pub fn after<F: Future>(&self, delay: Duration, future: F) -> impl Future<Output = F::Output> + use<F, J>
    where
        J: Judge<F::Output>,
    {
        let run = self.run(future);
        async move {
            tokio::time::sleep(delay).await;
            run.await
        }
    }

    /// Does periodic work, at once and then each time the period has passed, until the future is dropped. Errors do not
    /// end it, a panic does.
    ///
    /// Each tick is a trace of its own: a trace of all the ticks of a process would have no end. It asks the sampler, and
    /// links the span in which the timer was started, if there was one. A tick that takes longer than the period moves the
    /// ones that follow; two are never under way at once.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use buttress::trace::{Operation, Spans};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let spans = Spans::new();
    /// # async fn sweep() -> std::io::Result<()> { Ok(()) }
    /// tokio::spawn(Operation::new("sessions.sweep", &spans).every(Duration::from_secs(60), || sweep()));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When it is polled, if the period is zero.
    pub fn every<W, F>(&self, period: Duration, mut work: W) -> impl Future<Output = Infallible> + use<W, F, J>
    where
        W: FnMut() -> F,
        F: Future,
        J: Judge<F::Output>,
    {
        let (mut operation, starter) = (self.clone(), context::active());
        operation.core.place = Place::Root;
        async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                operation.run_below(starter.clone(), async { work().await }).await;
            }
        }
    }

    /// A stream in one span, from here to its end or drop, with the number of its items as `operation.items`. The first
    /// item that is an error makes it one.
    #[cfg(feature = "stream")]
    pub fn stream<S: futures_core::Stream>(&self, stream: S) -> Streamed<S, J>
    where
        J: Judge<S::Item>,
    {
        Streamed::new(Some(self.work(context::active())), self.judge.clone(), stream)
    }
}

impl<J> fmt::Debug for Operation<J> {
    /// Without name and attributes: they are cleaned when a span is finished, not before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("sampler", &self.core.sampler)
            .field("enabled", &self.core.enabled)
            .finish_non_exhaustive()
    }
}
