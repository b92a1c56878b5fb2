use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context as TaskContext, Poll, Waker};

use buttress::trace::{Operation, Spans};
use futures_util::stream::{self, StreamExt};

use crate::{last, told};

#[tokio::test]
async fn a_stream_is_one_span_with_the_number_of_its_items() {
    let spans = Spans::new();
    let rows = Operation::new("rows", &spans).infallible().stream(stream::iter([1, 2, 3]));
    assert_eq!(rows.collect::<Vec<_>>().await, [1, 2, 3]);
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), told(&span, "operation.items").as_str()), ("ok", "3"));
    assert_eq!(spans.stats().recorded, 1);
}

#[tokio::test]
async fn a_stream_that_is_dropped_was_cancelled_unless_it_failed() {
    let spans = Spans::new();
    let items = [Ok(1), Err(io::Error::from(io::ErrorKind::ConnectionReset)), Ok(3)];
    let mut rows = Operation::new("rows", &spans).stream(stream::iter(items));
    rows.next().await.unwrap().unwrap();
    rows.next().await.unwrap().unwrap_err();
    drop(rows);
    let span = last(&spans);
    assert_eq!((span.outcome.as_str(), told(&span, "error.type").as_str()), ("error", "connection_reset"));
    assert_eq!(told(&span, "operation.items"), "2");

    let mut rows = Operation::new("rows", &spans).infallible().stream(stream::iter([1, 2]));
    rows.next().await.unwrap();
    drop(rows);
    assert_eq!(last(&spans).outcome.as_str(), "cancelled");
}

#[tokio::test]
async fn a_stream_that_panics_is_told() {
    let spans = Spans::new();
    let mut rows =
        Box::pin(Operation::new("rows", &spans).infallible().stream(stream::once(async { panic!("on purpose") })));
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let mut cx = TaskContext::from_waker(Waker::noop());
        let _: Poll<Option<()>> = rows.as_mut().poll_next_unpin(&mut cx);
    }));
    assert!(polled.is_err());
    drop(rows);
    assert_eq!(last(&spans).outcome.as_str(), "panicked");
}
