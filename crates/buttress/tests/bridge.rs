//! The bridge to another tracing library: row P11. There is one bridge a process, hence a file of its own.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use buttress::context::{
    self, Baggage, BridgeInstalled, Context, ContextBridge, SpanId, TraceContext, TraceState, install_bridge,
};

thread_local! {
    /// The spans that are open in the other library, the innermost last.
    static THEIRS: RefCell<Vec<TraceContext>> = const { RefCell::new(Vec::new()) };
    static MANNERS: Cell<Manners> = const { Cell::new(Manners::Good) };
}

/// How the other library treats the work it is given.
#[derive(Clone, Copy)]
enum Manners {
    Good,
    ForgetsTheWork,
    RunsTheWorkTwice,
    PanicsAfterTheWork,
}

struct Other;

impl ContextBridge for Other {
    fn enter(&self, context: &Context, work: &mut dyn FnMut()) {
        in_their_span(context.trace(), || match MANNERS.get() {
            Manners::Good => work(),
            Manners::ForgetsTheWork => {}
            Manners::RunsTheWorkTwice => {
                work();
                work();
            }
            Manners::PanicsAfterTheWork => {
                work();
                panic!("the bridge fell");
            }
        });
    }

    fn active(&self) -> Option<TraceContext> {
        theirs()
    }
}

fn in_their_span<R>(span: TraceContext, work: impl FnOnce() -> R) -> R {
    struct Pop;
    impl Drop for Pop {
        fn drop(&mut self) {
            THEIRS.with_borrow_mut(Vec::pop);
        }
    }
    THEIRS.with_borrow_mut(|open| open.push(span));
    let _pop = Pop;
    work()
}

fn theirs() -> Option<TraceContext> {
    THEIRS.with_borrow(|open| open.last().copied())
}

fn bridged() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| install_bridge(Other).expect("no test of this file installs another"));
}

fn below(parent: &Context) -> TraceContext {
    TraceContext { span_id: SpanId::random(), ..parent.trace() }
}

fn laden() -> Context {
    let state = TraceState::parse([b"foo=1".as_slice()]).expect("valid");
    Context::root().with_tracestate(state).with_baggage(Baggage::parse([b"tenant=acme".as_slice()]))
}

#[test]
fn a_second_bridge_is_refused() {
    bridged();
    assert_eq!(install_bridge(Other), Err(BridgeInstalled));
}

#[test]
fn the_other_library_follows_enter() {
    bridged();
    let context = Context::root();
    context.enter(|| assert_eq!(theirs(), Some(context.trace())));
    assert_eq!(theirs(), None);
}

#[tokio::test]
async fn the_other_library_follows_each_poll_of_a_scope() {
    bridged();
    let context = Context::root();
    let trace = Some(context.trace());
    context
        .scope(async {
            assert_eq!(theirs(), trace);
            tokio::task::yield_now().await;
            assert_eq!(theirs(), trace);
        })
        .await;
    assert_eq!(theirs(), None);
}

#[tokio::test]
async fn the_other_library_follows_spawned_and_blocking_work() {
    bridged();
    let context = Context::root();
    let (task, blocking) = context.enter(|| (context::spawn(async { theirs() }), context::spawn_blocking(theirs)));
    assert_eq!(task.await.unwrap(), Some(context.trace()));
    assert_eq!(blocking.await.unwrap(), Some(context.trace()));
}

#[test]
fn a_panic_puts_both_libraries_back() {
    bridged();
    let context = Context::root();
    assert!(catch_unwind(AssertUnwindSafe(|| context.enter(|| panic!("within")))).is_err());
    assert!(context::current().is_none());
    assert_eq!(theirs(), None);
}

#[test]
fn without_any_span_nothing_is_active() {
    bridged();
    assert!(context::active().is_none());
}

#[test]
fn our_own_context_is_active_where_the_other_library_only_follows() {
    bridged();
    let context = laden();
    let active = context.enter(|| context::active().unwrap());
    assert_eq!(active.trace(), context.trace());
    assert_eq!(active.parent_span_id(), None);
    assert_eq!(active.baggage().as_str(), "tenant=acme");
}

#[test]
fn a_span_of_theirs_below_ours_is_active_and_keeps_what_travels() {
    bridged();
    let context = laden();
    let span = below(&context);
    let active = context.enter(|| in_their_span(span, || context::active().unwrap()));
    assert_eq!(active.trace(), span);
    assert_eq!(active.parent_span_id(), Some(context.span_id()));
    assert_eq!(active.tracestate().as_str(), "foo=1");
    assert_eq!(active.baggage().as_str(), "tenant=acme");
}

#[test]
fn a_span_of_theirs_outside_of_ours_is_active() {
    bridged();
    let span = TraceContext::random();
    let active = in_their_span(span, || context::active().unwrap());
    assert_eq!(active.trace(), span);
    assert!(active.baggage().is_empty());
}

#[test]
fn a_span_of_theirs_of_another_trace_is_active_without_our_trace_state() {
    bridged();
    let span = TraceContext::random();
    let active = laden().enter(|| in_their_span(span, || context::active().unwrap()));
    assert_eq!(active.trace(), span);
    assert!(active.tracestate().is_empty());
}

#[test]
fn ours_is_active_again_within_a_span_of_theirs() {
    bridged();
    let context = Context::root();
    let active = in_their_span(TraceContext::random(), || context.enter(|| context::active().unwrap()));
    assert_eq!(active.trace(), context.trace());
}

#[test]
fn work_that_the_bridge_forgot_is_done_all_the_same() {
    bridged();
    MANNERS.set(Manners::ForgetsTheWork);
    let context = Context::root();
    let seen = context.enter(|| context::current().map(|current| current.span_id()));
    assert_eq!(seen, Some(context.span_id()));
}

#[test]
fn work_that_the_bridge_asks_for_twice_is_done_once() {
    bridged();
    MANNERS.set(Manners::RunsTheWorkTwice);
    let mut done = 0;
    assert_eq!(
        Context::root().enter(|| {
            done += 1;
            done
        }),
        1
    );
    assert_eq!(done, 1);
}

#[test]
fn a_bridge_that_panics_puts_the_context_back() {
    bridged();
    MANNERS.set(Manners::PanicsAfterTheWork);
    assert!(catch_unwind(AssertUnwindSafe(|| Context::root().enter(|| ()))).is_err());
    assert!(context::current().is_none());
}
