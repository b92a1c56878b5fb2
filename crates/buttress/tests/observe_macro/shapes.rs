use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;

use buttress::observe;
use futures_util::{FutureExt, Stream, StreamExt, stream};

use crate::{TELEMETRY, active, ended_once, last, poll_once, spans, told};

#[async_trait::async_trait]
trait Store: Sync {
    async fn load(&self, id: u64) -> Result<String, io::Error>;

    #[observe(name = "shape.default", fields(id))]
    async fn load_twice(&self, id: u64) -> Result<String, io::Error> {
        Ok(self.load(id).await? + &self.load(id).await?)
    }
}

struct Memory(String);

#[async_trait::async_trait]
impl Store for Memory {
    #[observe(name = "shape.async_trait", fields(id, self.0))]
    async fn load(&self, id: u64) -> Result<String, io::Error> {
        tokio::task::yield_now().await;
        if id == 0 {
            Err(io::ErrorKind::TimedOut)?;
        }
        Ok(self.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn methods_of_async_traits_last_as_long_as_their_futures() {
    LazyLock::force(&TELEMETRY);
    let store: Box<dyn Store> = Box::new(Memory("x".into()));
    let loading = store.load_twice(7);
    assert!(spans("shape.default").is_empty());
    assert_eq!(loading.await.unwrap(), "xx");
    let (twice, once) = (last("shape.default"), last("shape.async_trait"));
    assert_eq!(once.parent_span_id, Some(twice.span_id));
    assert_eq!((told(&once, "id"), told(&once, "0")), ("7".into(), "x".into()));
    store.load(0).await.unwrap_err();
    assert_eq!(last("shape.async_trait").outcome.as_str(), "timeout");
    drop(store.load(1));
    let mut loading = store.load(1);
    assert!(poll_once(loading.as_mut()).is_pending());
    drop(loading);
    assert_eq!(last("shape.async_trait").outcome.as_str(), "cancelled");
    assert_eq!((active("shape.async_trait"), active("shape.default")), (0, 0));
}

#[observe(name = "shape.future", fields(id))]
fn future(id: u64) -> impl Future<Output = Result<u64, io::Error>> + Send {
    let twice = id * 2;
    async move { Ok(twice) }
}

#[observe(name = "shape.made", fields(id))]
fn made(id: u64) -> impl std::future::Future<Output = Result<u64, io::Error>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    sender.send(id).unwrap();
    receiver.map(|id| Ok(id.unwrap()))
}

#[observe(name = "shape.boxed")]
fn boxed(id: u64) -> futures_util::future::BoxFuture<'static, u64> {
    std::future::ready(id).boxed()
}

#[tokio::test]
async fn futures_that_a_function_makes_are_observed_to_their_end() {
    LazyLock::force(&TELEMETRY);
    let later = future(4);
    assert!(spans("shape.future").is_empty());
    assert_eq!(later.await.unwrap(), 8);
    assert_eq!(told(&last("shape.future"), "id"), "4");
    let later = made(4);
    assert_eq!(active("shape.made"), 1);
    assert_eq!(later.await.unwrap(), 4);
    ended_once("shape.made", "ok", None);
    drop(made(5));
    assert_eq!(last("shape.made").outcome.as_str(), "cancelled");
    assert_eq!(boxed(3).await, 3);
    ended_once("shape.boxed", "ok", None);
}

#[observe(name = "shape.stream", fields(count))]
fn rows(count: u8) -> impl Stream<Item = Result<u8, io::Error>> + Send {
    stream::iter((0..count).map(Ok).chain([Err(io::ErrorKind::ConnectionReset.into())]))
}

#[observe(name = "shape.boxed_stream")]
fn boxed_rows() -> Pin<Box<dyn Stream<Item = u8> + Send>> {
    stream::iter([1, 2, 3]).boxed()
}

#[tokio::test]
async fn streams_are_observed_to_their_end() {
    LazyLock::force(&TELEMETRY);
    assert_eq!(rows(2).count().await, 3);
    ended_once("shape.stream", "error", Some("connection_reset"));
    assert_eq!(
        (told(&last("shape.stream"), "count"), told(&last("shape.stream"), "operation.items")),
        ("2".into(), "3".into())
    );
    let mut rows = boxed_rows();
    rows.next().await.unwrap();
    assert_eq!(active("shape.boxed_stream"), 1);
    drop(rows);
    ended_once("shape.boxed_stream", "cancelled", None);
}
