use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;

use buttress::{context, observe};

use crate::{TELEMETRY, active, last, spans, told};

#[observe(name = "tree.outer")]
async fn outer() -> u32 {
    middle(2) + inner().await
}

#[observe(name = "tree.inner")]
async fn inner() -> u32 {
    context::with_current(|context| context.unwrap().set_attribute("seen", true));
    1
}

/// Calls itself.
#[observe(name = "tree.recursive", fields(depth))]
fn middle(depth: u32) -> u32 {
    if depth == 0 { 0 } else { middle(depth - 1) + 1 }
}

#[tokio::test]
async fn calls_within_calls_are_children() {
    LazyLock::force(&TELEMETRY);
    assert_eq!(outer().await, 3);
    let (outer, inner) = (last("tree.outer"), last("tree.inner"));
    assert_eq!((inner.parent_span_id, inner.trace_id), (Some(outer.span_id), outer.trace_id));
    assert_eq!(told(&inner, "seen"), "true");
    let nested = spans("tree.recursive");
    let depths: Vec<_> = nested.iter().map(|span| told(span, "depth")).collect();
    assert_eq!(depths, ["2", "1", "0"]);
    assert_eq!(nested[2].parent_span_id, Some(nested[1].span_id));
    assert_eq!(nested[0].parent_span_id, Some(outer.span_id));
    assert_eq!(active("tree.recursive"), 0);
}

#[observe(name = "tree.boxed", fields(depth))]
fn descend(depth: u32) -> Pin<Box<dyn Future<Output = Result<u32, io::Error>> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            return Ok(0);
        }
        Ok(descend(depth - 1).await? + 1)
    })
}

#[tokio::test]
async fn an_async_function_can_call_itself_by_a_box() {
    LazyLock::force(&TELEMETRY);
    assert_eq!(descend(3).await.unwrap(), 3);
    assert_eq!(spans("tree.boxed").len(), 4);
}
