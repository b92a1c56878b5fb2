//! Whose child a span is, and in whose context work is done.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use buttress::context::{self, Context, TraceContext, TraceFlags};
use buttress::trace::{Operation, Sampler, Spans};

fn unsampled() -> Context {
    let trace = TraceContext { flags: TraceFlags::from_byte(0), ..TraceContext::random() };
    // Decided by a sampler, as below any layer.
    let spans = Spans::new();
    Context::from_trace(trace).enter(|| {
        let off = Operation::new("off", &spans).sampler(Sampler::always_off()).begin();
        off.context().cloned().unwrap()
    })
}

#[tokio::test]
async fn operations_within_operations_are_their_children_on_whatever_thread() {
    let spans = Spans::new();
    let named = |name| Operation::new(name, &spans).infallible();
    named("outer")
        .run(async {
            named("inner").run(ready(())).await;
            named("task").spawn(ready(())).await.unwrap();
            named("blocking").blocking(|| ()).await.unwrap();
            named("after").after(Duration::ZERO, ready(())).await;
            let call = named("callback").callback(|()| ());
            std::thread::spawn(move || call(())).join().unwrap();
        })
        .await;
    let all = spans.latest(9);
    let (outer, inner) = all.split_first().unwrap();
    assert_eq!(inner.len(), 5);
    for span in inner {
        assert_eq!((span.parent_span_id, span.trace_id), (Some(outer.span_id), outer.trace_id), "{}", span.name);
    }
    assert_eq!(outer.parent_span_id, None);
}

#[tokio::test]
async fn what_is_dropped_is_dropped_in_the_context() {
    struct Asks(Arc<AtomicU32>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.fetch_add(u32::from(context::current().is_some()), Relaxed);
        }
    }
    let (spans, seen) = (Spans::new(), Arc::new(AtomicU32::new(0)));
    let (asks, more) = (Asks(Arc::clone(&seen)), Asks(Arc::clone(&seen)));
    let operation = Operation::new("held", &spans).infallible();
    let held = operation.run(async move {
        let _asks = asks;
    });
    held.await;
    let mut run = Box::pin(operation.run(async move {
        let _more = more;
        pending::<()>().await;
    }));
    let _ = run.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    drop(run);
    assert_eq!(seen.load(Relaxed), 2);
    assert!(context::current().is_none());
}

#[tokio::test]
async fn a_callback_is_a_child_each_time_it_is_called() {
    let spans = Spans::new();
    let mut count = 0;
    let mut call = Operation::new("setup", &spans).infallible().call(|| {
        Operation::new("changed", &spans).infallible().callback_mut(move |by: u32| {
            count += by;
            count
        })
    });
    assert_eq!((call(1), call(2)), (1, 3));
    let all = spans.latest(3);
    let [second, first, setup] = &all[..] else { panic!("three spans") };
    assert_eq!(setup.name, "setup");
    assert_eq!([first.parent_span_id, second.parent_span_id], [Some(setup.span_id); 2]);
    assert_ne!(first.span_id, second.span_id);
}

#[tokio::test(start_paused = true)]
async fn each_tick_is_a_trace_of_its_own_that_links_who_started_the_timer() {
    let (spans, ticks) = (Spans::new(), Arc::new(AtomicU32::new(0)));
    let starter = Context::root();
    let counted = Arc::clone(&ticks);
    let timer = starter.enter(|| {
        Operation::new("sweep", &spans).every(Duration::from_secs(10), move || {
            let nth = counted.fetch_add(1, Relaxed);
            ready(if nth == 1 { Err("disk full") } else { Ok(()) })
        })
    });
    let _ = tokio::time::timeout(Duration::from_secs(25), timer).await;
    assert_eq!(ticks.load(Relaxed), 3);
    let all = spans.latest(9);
    let outcomes: Vec<_> = all.iter().rev().map(|span| span.outcome.as_str()).collect();
    assert_eq!(outcomes, ["ok", "error", "ok"]);
    for span in &all {
        assert_eq!((span.parent_span_id, span.links.len()), (None, 1));
        assert_eq!(span.links[0].trace.trace_id, starter.trace_id());
    }
    assert_ne!(all[0].trace_id, all[1].trace_id);
}

#[tokio::test]
async fn what_is_sampled_is_what_the_parent_says_and_a_root_asks_the_sampler() {
    let spans = Spans::new();
    let never = Operation::new("never", &spans).sampler(Sampler::always_off()).infallible();
    never
        .run(async {
            assert!(!context::current().unwrap().is_sampled());
            Operation::new("below", &spans).sampler(Sampler::always_on()).infallible().call(|| ());
        })
        .await;
    assert_eq!(spans.stats().recorded, 0);
    Operation::new("always", &spans).infallible().call(|| never.call(|| ()));
    assert_eq!(spans.stats().recorded, 2);
    unsampled().enter(|| Operation::new("below", &spans).infallible().call(|| ()));
    assert_eq!(spans.stats().recorded, 2);
}
