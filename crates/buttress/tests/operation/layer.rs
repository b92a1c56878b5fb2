use std::convert::Infallible;
use std::future::{pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use buttress::context;
use buttress::trace::{Operation, OperationLayer, SpanKind, Spans};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::{last, told};

#[tokio::test(start_paused = true)]
async fn a_layer_makes_a_span_of_each_call_that_lasts_as_long_as_the_answer_takes() {
    let spans = Spans::new();
    let process = Operation::new("process", &spans).kind(SpanKind::Consumer).in_own_trace();
    let mut service =
        ServiceBuilder::new().layer(OperationLayer::new(process)).service(service_fn(async |millis: u64| {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            if millis == 20 { Err(io::Error::from(io::ErrorKind::ConnectionReset)) } else { Ok(millis) }
        }));
    for millis in [10, 20, 30] {
        let _ = service.ready().await.unwrap().call(millis).await;
    }
    let mut told: Vec<_> = spans
        .latest(9)
        .iter()
        .map(|span| (span.duration().as_millis(), span.kind, told(span, "error.type"), span.parent_span_id))
        .collect();
    told.sort_by_key(|span| span.0);
    let consumer = |millis, error: &str| (millis, SpanKind::Consumer, error.to_owned(), None);
    assert_eq!(told, [consumer(10, ""), consumer(20, "connection_reset"), consumer(30, "")]);
    let traces: std::collections::HashSet<_> = spans.latest(9).iter().map(|span| span.trace_id).collect();
    assert_eq!(traces.len(), 3);
}

#[tokio::test]
async fn whatever_a_service_does_within_its_call_is_below_the_span_of_the_layer() {
    let spans = Spans::new();
    let layer = |name| OperationLayer::new(Operation::new(name, &spans));
    let service = ServiceBuilder::new().layer(layer("outer")).layer(layer("inner")).service_fn(|(): ()| {
        // In the call itself, before there is a future.
        context::with_current(|context| context.unwrap().set_attribute("called", true));
        ready(Ok::<_, Infallible>(()))
    });
    service.oneshot(()).await.unwrap();
    let [outer, inner] = &spans.latest(2)[..] else { panic!("two spans") };
    assert_eq!((outer.name.as_ref(), inner.name.as_ref()), ("outer", "inner"));
    assert_eq!(inner.parent_span_id, Some(outer.span_id));
    assert_eq!(told(inner, "called"), "true");
}

#[tokio::test]
async fn a_call_that_is_dropped_was_cancelled_and_one_that_panics_has_panicked() {
    let spans = Spans::new();
    let layer = OperationLayer::new(Operation::new("process", &spans).infallible());
    let mut waits = ServiceBuilder::new().layer(layer.clone()).service_fn(|(): ()| pending::<Result<(), Infallible>>());
    drop(waits.ready().await.unwrap().call(()));
    assert_eq!(last(&spans).outcome.as_str(), "cancelled");
    let mut panics =
        ServiceBuilder::new().layer(layer).service_fn(|(): ()| -> std::future::Ready<Result<(), Infallible>> {
            std::panic::resume_unwind(Box::new("in its call"))
        });
    let panics = panics.ready().await.unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(panics.call(())))).is_err());
    assert_eq!(last(&spans).outcome.as_str(), "panicked");
}

#[tokio::test]
async fn an_answer_may_be_judged() {
    let spans = Spans::new();
    let process = Operation::new("process", &spans)
        .judged(|answer: &Result<u16, Infallible>| answer.is_ok_and(|status| status >= 500).then_some("status"));
    let service = ServiceBuilder::new().layer(OperationLayer::new(process)).service_fn(|status: u16| ready(Ok(status)));
    service.oneshot(503).await.unwrap();
    assert_eq!(told(&last(&spans), "error.type"), "status");
}
