//! The context and how it is carried: rows P5, P6 and P11.

use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use buttress::context::{self, Baggage, Context, InContext, SpanId, TraceContext, TraceFlags, TraceState};

fn here() -> Option<SpanId> {
    context::current().map(|context| context.span_id())
}

/// A context that has every part that other code can give it.
fn laden() -> Context {
    let state = TraceState::parse([b"foo=1,bar=2".as_slice()]).expect("valid");
    let baggage = Baggage::parse([b"tenant=acme;p=1".as_slice()]);
    Context::root().with_tracestate(state).with_baggage(baggage)
}

/// Notes where it is dropped.
struct Witness(Arc<Mutex<Vec<Option<SpanId>>>>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.lock().expect("nobody panics with the lock").push(here());
    }
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop()))
}

// What a context is

#[test]
fn a_root_is_undecided_and_has_no_parent() {
    let root = Context::root();
    assert!(!root.is_sampled());
    assert_eq!(root.parent_span_id(), None);
    assert!(root.tracestate().is_empty());
    assert!(root.baggage().is_empty());
}

#[test]
fn a_child_has_the_trace_and_the_flags_of_its_parent_and_a_span_of_its_own() {
    let flags = TraceFlags::RANDOM.with_sampled(true);
    let parent = Context::from_trace(TraceContext { flags, ..TraceContext::random() });
    let child = parent.child();
    assert_eq!(child.trace_id(), parent.trace_id());
    assert_eq!(child.trace().flags, flags);
    assert_eq!(child.parent_span_id(), Some(parent.span_id()));
    assert_ne!(child.span_id(), parent.span_id());
}

#[test]
fn a_grandchild_is_below_the_child() {
    let child = Context::root().child();
    assert_eq!(child.child().parent_span_id(), Some(child.span_id()));
}

#[test]
fn two_children_have_different_spans() {
    let parent = Context::root();
    assert_ne!(parent.child().span_id(), parent.child().span_id());
}

#[test]
fn a_child_keeps_trace_state_and_baggage() {
    let child = laden().child();
    assert_eq!(child.tracestate().as_str(), "foo=1,bar=2");
    assert_eq!(child.baggage().as_str(), "tenant=acme;p=1");
}

#[test]
fn what_a_child_changes_its_parent_does_not_see() {
    let parent = laden();
    let child = parent.child().with_baggage(Baggage::EMPTY).with_tracestate(TraceState::EMPTY);
    assert!(child.baggage().is_empty());
    assert!(child.tracestate().is_empty());
    assert_eq!(parent.baggage().as_str(), "tenant=acme;p=1");
    assert_eq!(parent.tracestate().as_str(), "foo=1,bar=2");
}

#[test]
fn a_new_root_has_nothing_of_the_context_it_is_made_in() {
    let outer = laden();
    let root = outer.enter(Context::root);
    assert_ne!(root.trace_id(), outer.trace_id());
    assert_ne!(root.span_id(), outer.span_id());
    assert_eq!(root.parent_span_id(), None);
    assert!(root.tracestate().is_empty());
    assert!(root.baggage().is_empty());
}

#[test]
fn debug_shows_no_baggage_values() {
    assert!(!format!("{:?}", laden()).contains("acme"));
}

// enter

#[test]
fn outside_of_everything_there_is_no_context() {
    assert!(context::current().is_none());
    assert!(context::active().is_none());
    assert!(context::with_current(|context| context.is_none()));
}

#[test]
fn within_enter_the_context_is_current() {
    let outer = laden();
    outer.enter(|| {
        let current = context::current().unwrap();
        assert_eq!(current.span_id(), outer.span_id());
        assert_eq!(current.baggage(), outer.baggage());
        assert_eq!(context::active().unwrap().span_id(), outer.span_id());
    });
}

#[test]
fn after_enter_there_is_no_context() {
    Context::root().enter(|| ());
    assert_eq!(here(), None);
}

#[test]
fn enter_gives_back_what_the_work_gave() {
    assert_eq!(Context::root().enter(|| 7), 7);
}

#[test]
fn the_inner_of_two_contexts_is_current_and_then_the_outer_again() {
    let (outer, inner) = (Context::root(), Context::root());
    outer.enter(|| {
        inner.enter(|| assert_eq!(here(), Some(inner.span_id())));
        assert_eq!(here(), Some(outer.span_id()));
    });
    assert_eq!(here(), None);
}

#[test]
fn a_panic_puts_the_context_back() {
    let (outer, inner) = (Context::root(), Context::root());
    outer.enter(|| {
        let panicked = catch_unwind(AssertUnwindSafe(|| inner.enter(|| panic!("within"))));
        assert!(panicked.is_err());
        assert_eq!(here(), Some(outer.span_id()));
    });
    assert_eq!(here(), None);
}

#[test]
fn another_thread_does_not_see_the_context() {
    Context::root().enter(|| {
        let elsewhere = std::thread::spawn(here).join().unwrap();
        assert_eq!(elsewhere, None);
    });
}

#[test]
fn a_context_can_be_entered_while_the_current_one_is_looked_at() {
    Context::root().enter(|| {
        context::with_current(|outer| {
            let child = outer.unwrap().child();
            child.enter(|| assert_eq!(here(), Some(child.span_id())));
            assert_eq!(here(), outer.map(Context::span_id));
        });
    });
}

#[test]
fn a_thread_that_ends_can_still_ask_for_the_context() {
    struct Asks;
    impl Drop for Asks {
        fn drop(&mut self) {
            assert!(context::current().is_none());
            assert_eq!(Context::root().enter(|| 7), 7);
        }
    }
    thread_local! {
        static ASKS: Asks = const { Asks };
    }
    // Locals are dropped in an order of the platform's choice: one thread touches its own first, one the context.
    let asks_first = std::thread::spawn(|| {
        ASKS.with(|_| ());
        Context::root().enter(|| ());
    });
    let context_first = std::thread::spawn(|| {
        Context::root().enter(|| ());
        ASKS.with(|_| ());
    });
    assert!(asks_first.join().is_ok() && context_first.join().is_ok());
}

// scope

#[tokio::test]
async fn within_a_scope_the_context_is_current() {
    let context = laden();
    let span = context.span_id();
    let seen = context.scope(async { (here(), context::current().map(|c| c.baggage().clone())) }).await;
    assert_eq!(seen, (Some(span), Some(laden().baggage().clone())));
}

#[tokio::test]
async fn after_a_scope_there_is_no_context() {
    Context::root().scope(async {}).await;
    assert_eq!(here(), None);
}

#[tokio::test]
async fn within_a_scope_the_context_is_current_after_every_await() {
    let context = Context::root();
    let span = Some(context.span_id());
    context
        .scope(async move {
            for _ in 0..3 {
                assert_eq!(here(), span);
                tokio::task::yield_now().await;
            }
            assert_eq!(here(), span);
        })
        .await;
}

#[tokio::test]
async fn between_the_polls_of_a_scope_its_context_is_not_current() {
    let mut scope = pin!(Context::root().scope(tokio::task::yield_now()));
    poll_fn(|cx| {
        assert!(scope.as_mut().poll(cx).is_pending());
        assert_eq!(here(), None);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn scopes_nest() {
    let (outer, inner) = (Context::root(), Context::root());
    let (outer_span, inner_span) = (outer.span_id(), inner.span_id());
    outer
        .scope(async move {
            assert_eq!(inner.scope(async { here() }).await, Some(inner_span));
            assert_eq!(here(), Some(outer_span));
        })
        .await;
}

#[tokio::test]
async fn scopes_of_one_task_that_take_turns_do_not_mix() {
    let scope = |context: Context| {
        let span = Some(context.span_id());
        context.scope(async move {
            for _ in 0..3 {
                assert_eq!(here(), span);
                tokio::task::yield_now().await;
            }
        })
    };
    tokio::join!(scope(Context::root()), scope(Context::root()));
}

#[test]
fn a_panic_in_a_scope_puts_the_context_back() {
    let outer = Context::root();
    outer.enter(|| {
        let scope = Context::root().scope(async { panic!("within") });
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(scope))).is_err());
        assert_eq!(here(), Some(outer.span_id()));
    });
    assert_eq!(here(), None);
}

#[test]
fn what_a_cancelled_scope_drops_sees_its_context() {
    let seen = Arc::default();
    let context = Context::root();
    let span = Some(context.span_id());
    let witness = Witness(Arc::clone(&seen));
    let scope = context.scope(async move {
        let _witness = witness;
        pending::<()>().await;
    });
    assert!(poll_once(scope).is_pending());
    assert_eq!(*seen.lock().unwrap(), [span]);
    assert_eq!(here(), None);
}

#[test]
fn what_a_scope_drops_before_its_first_poll_sees_its_context() {
    let seen = Arc::default();
    let context = Context::root();
    let span = Some(context.span_id());
    let witness = Witness(Arc::clone(&seen));
    drop(context.scope(async move { drop(witness) }));
    assert_eq!(*seen.lock().unwrap(), [span]);
}

#[test]
fn what_a_finished_scope_drops_sees_its_context() {
    let seen = Arc::default();
    let context = Context::root();
    let span = Some(context.span_id());
    let witness = Witness(Arc::clone(&seen));
    let mut scope = pin!(context.scope(poll_fn(move |_| {
        let _held = &witness;
        Poll::Ready(())
    })));
    assert!(poll_once(scope.as_mut()).is_ready());
    assert_eq!(*seen.lock().unwrap(), [span]);
}

// Tasks and threads

#[tokio::test]
async fn a_spawned_task_has_the_context_of_where_it_was_spawned() {
    let context = laden();
    let span = context.span_id();
    let task = context.enter(|| context::spawn(async { context::current() }));
    let seen = task.await.unwrap().unwrap();
    assert_eq!(seen.span_id(), span);
    assert_eq!(seen.baggage().as_str(), "tenant=acme;p=1");
    assert_eq!(seen.tracestate().as_str(), "foo=1,bar=2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_task_keeps_its_context_on_other_threads_and_after_the_scope_has_ended() {
    let context = Context::root();
    let span = context.span_id();
    let seen_often = async {
        let mut seen = Vec::new();
        for _ in 0..8 {
            tokio::task::yield_now().await;
            seen.push(here());
        }
        seen
    };
    let mut task = None;
    context.scope(async { task = Some(context::spawn(seen_often)) }).await;
    assert_eq!(here(), None);
    assert_eq!(task.unwrap().await.unwrap(), [Some(span); 8]);
}

#[tokio::test]
async fn a_task_of_tokio_alone_has_no_context() {
    let task = Context::root().enter(|| tokio::spawn(async { here() }));
    assert_eq!(task.await.unwrap(), None);
}

#[tokio::test]
async fn a_task_spawned_by_a_spawned_task_has_the_context_too() {
    let context = Context::root();
    let task = context.enter(|| context::spawn(async { context::spawn(async { here() }).await.unwrap() }));
    assert_eq!(task.await.unwrap(), Some(context.span_id()));
}

#[tokio::test]
async fn an_aborted_task_drops_its_future_within_the_context() {
    let seen = Arc::default();
    let context = Context::root();
    let witness = Witness(Arc::clone(&seen));
    let task = context.enter(|| {
        context::spawn(async move {
            let _witness = witness;
            pending::<()>().await;
        })
    });
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(*seen.lock().unwrap(), [Some(context.span_id())]);
}

#[tokio::test]
async fn blocking_work_has_the_context_of_where_it_was_spawned() {
    let context = Context::root();
    let task = context.enter(|| context::spawn_blocking(here));
    assert_eq!(task.await.unwrap(), Some(context.span_id()));
}

#[test]
fn a_thread_of_the_blocking_pool_is_left_without_a_context() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        Context::root().enter(|| context::spawn_blocking(|| ())).await.unwrap();
        let panicked = Context::root().enter(|| context::spawn_blocking(|| panic!("within"))).await;
        assert!(panicked.is_err());
        assert_eq!(tokio::task::spawn_blocking(here).await.unwrap(), None);
    });
}

#[tokio::test]
async fn a_future_in_context_has_the_context_of_where_it_was_bound() {
    let (bound, polled) = (Context::root(), Context::root());
    let future = bound.enter(|| async { here() }.in_context());
    assert_eq!(polled.scope(future).await, Some(bound.span_id()));
}

#[tokio::test]
async fn a_future_that_was_bound_outside_of_everything_has_no_context_anywhere() {
    let future = async { here() }.in_context();
    assert_eq!(Context::root().scope(future).await, None);
}

#[tokio::test]
async fn a_future_in_context_can_be_spawned_by_tokio() {
    let context = Context::root();
    let future = context.enter(|| async { here() }.in_context());
    assert_eq!(tokio::spawn(future).await.unwrap(), Some(context.span_id()));
}

#[tokio::test]
async fn a_scope_gives_back_what_its_future_gave() {
    assert_eq!(Context::root().scope(ready(7)).await, 7);
}

// Nested operations

#[tokio::test]
async fn nested_operations_are_parent_and_child() {
    let root = Context::root();
    let (root_span, trace) = (root.span_id(), root.trace_id());
    let (middle, inner) = root
        .scope(async {
            let middle = context::current().unwrap().child();
            let inner = middle.clone().scope(async { context::current().unwrap().child() }).await;
            (middle, inner)
        })
        .await;
    assert_eq!(middle.parent_span_id(), Some(root_span));
    assert_eq!(inner.parent_span_id(), Some(middle.span_id()));
    assert_eq!((middle.trace_id(), inner.trace_id()), (trace, trace));
}

// Log fields

#[test]
fn log_fields_name_the_ids_of_the_current_context() {
    let context = Context::root();
    let line = context.enter(|| context::log_fields().to_string());
    assert_eq!(line, format!("trace_id={} span_id={}", context.trace_id(), context.span_id()));
}

#[test]
fn log_fields_are_empty_outside_of_everything() {
    let fields = context::log_fields();
    assert_eq!(fields.to_string(), "");
    assert_eq!((fields.trace_id(), fields.span_id()), (None, None));
}

// Annotations

#[test]
fn annotating_a_context_that_nobody_records_does_nothing() {
    let context = Context::root();
    let before = format!("{context:?}");
    context.set_attribute("room", 7);
    context.add_event("joined", [("user", "a")]);
    context.set_name("room.join");
    assert_eq!(format!("{context:?}"), before);
}

#[test]
fn seeded_ids_are_the_same_again() {
    buttress::random::seed(42);
    let first = Context::root().trace();
    buttress::random::seed(42);
    assert_eq!(Context::root().trace(), first);
}
