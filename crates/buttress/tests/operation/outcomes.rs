//! How a run ended.

use std::future::{pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use buttress::trace::{Operation, SpanKind, Spans, Status};

use crate::{last, told};

#[tokio::test(start_paused = true)]
async fn a_run_leaves_an_internal_span_of_its_whole_time() {
    let spans = Spans::new();
    let charge = Operation::new("charge", &spans).attribute("provider", "acme").run(async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok::<_, io::Error>(7)
    });
    assert_eq!(charge.await.unwrap(), 7);
    let span = last(&spans);
    assert_eq!((span.name.as_ref(), span.kind, span.outcome.as_str()), ("charge", SpanKind::Internal, "ok"));
    assert_eq!((span.status, span.error_type, span.ending), (Status::Unset, None, None));
    assert_eq!(span.duration().as_millis(), 40);
    assert_eq!(told(&span, "provider"), "acme");
}

#[tokio::test]
async fn an_err_is_an_error_named_as_those_of_clients() {
    let spans = Spans::new();
    let charge = Operation::new("charge", &spans);
    charge.run(ready(Err::<(), _>(io::Error::from(io::ErrorKind::TimedOut)))).await.unwrap_err();
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), span.status), ("timeout", Status::Error));
    assert_eq!(told(&span, "error.type"), "timeout");
    charge.run(ready(Err::<(), _>("refused".to_owned()))).await.unwrap_err();
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), told(&span, "error.type").as_str()), ("error", "alloc::string::String"));
}

#[test]
fn a_closure_can_judge_and_what_cannot_fail_need_not() {
    let spans = Spans::new();
    let lookup = Operation::new("lookup", &spans).judged(|status: &u16| (*status == 404).then_some("not_found"));
    lookup.call(|| 404);
    assert_eq!(told(&last(&spans), "error.type"), "not_found");
    lookup.call(|| 200);
    assert_eq!(last(&spans).outcome.as_str(), "ok");
    Operation::new("resize", &spans).infallible().call(|| ());
    assert_eq!(last(&spans).name, "resize");
}

#[tokio::test]
async fn a_run_that_is_dropped_was_cancelled() {
    let spans = Spans::new();
    let waits = Operation::new("wait", &spans).infallible();
    {
        let mut run = pin!(waits.run(pending::<()>()));
        assert_eq!(run.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())), Poll::Pending);
        assert!(spans.latest(1).is_empty());
    }
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), span.status), ("cancelled", Status::Unset));
}

#[test]
fn a_future_that_nobody_polls_leaves_no_span() {
    let spans = Spans::new();
    drop(Operation::new("never", &spans).infallible().run(pending::<()>()));
    assert!(spans.latest(1).is_empty());
}

#[tokio::test]
async fn a_panic_is_told_and_goes_on() {
    let spans = Spans::new();
    let breaks = Operation::new("break", &spans).infallible();
    let task = breaks.spawn(async { panic!("on purpose") });
    assert!(task.await.unwrap_err().is_panic());
    let task = breaks.blocking(|| panic!("on purpose"));
    assert!(task.await.unwrap_err().is_panic());
    catch_unwind(AssertUnwindSafe(|| breaks.call(|| panic!("on purpose")))).unwrap_err();
    catch_unwind(AssertUnwindSafe(|| {
        let _running = breaks.begin();
        panic!("on purpose");
    }))
    .unwrap_err();
    let all = spans.latest(9);
    assert_eq!(all.len(), 4);
    for span in all {
        assert_eq!((span.outcome.as_str(), span.status), ("panicked", Status::Error));
        assert_eq!(told(&span, "error.type"), "panic");
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_run_work_tells_a_success_from_an_error() {
    let spans = Spans::new();
    let operation = Operation::new("work", &spans);
    for (is_well, expected) in [(true, "ok"), (false, "error")] {
        let work = move || if is_well { Ok(()) } else { Err("refused".to_owned()) };
        let _ = operation.run(async move { work() }).await;
        let _ = operation.spawn(async move { work() }).await.unwrap();
        let _ = operation.call(work);
        let _ = operation.blocking(work).await.unwrap();
        let _ = operation.callback(move |()| work())(());
        let _ = operation.after(Duration::from_secs(1), async move { work() }).await;
        let outcomes: Vec<_> = spans.latest(6).iter().map(|span| span.outcome.as_str()).collect();
        assert_eq!(outcomes, [expected; 6]);
    }
    assert_eq!(spans.latest(20).len(), 12);
}

#[tokio::test]
async fn a_task_that_is_aborted_was_cancelled_and_a_timer_that_never_fires_leaves_no_span() {
    let spans = Spans::new();
    let waits = Operation::new("wait", &spans).infallible();
    let task = waits.spawn(pending::<()>());
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(last(&spans).outcome.as_str(), "cancelled");
    let mut later = Box::pin(waits.after(Duration::from_secs(3600), ready(())));
    assert!(later.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
    drop(later);
    assert_eq!(spans.latest(9).len(), 1);
}

#[test]
fn what_is_begun_was_cancelled_unless_it_is_told_how_it_ended() {
    let spans = Spans::new();
    let import = Operation::new("import", &spans);
    drop(import.begin());
    import.begin().succeed();
    import.begin().fail("malformed");
    let ended: Vec<_> = spans.latest(3).iter().rev().map(|span| span.outcome.as_str()).collect();
    assert_eq!(ended, ["cancelled", "ok", "error"]);
    assert_eq!(told(&last(&spans), "error.type"), "malformed");
}
