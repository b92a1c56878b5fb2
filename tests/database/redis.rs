//! redis that is watched, on a real Redis: an error that comes back as a value is an error.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::sync::Arc;
use std::time::Duration;

use buttress::classify::Outcome;
use buttress::metrics::Registry;
use buttress::trace::database::DatabaseTrace;
use buttress::trace::database::redis::Traced;
use buttress::trace::{SpanKind, SpanRecord, Spans, Status};
use buttress_tests::peers::PATIENCE;
use buttress_tests::servers::Redis;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

async fn connected(server: &Redis, spans: &Spans) -> Traced<MultiplexedConnection> {
    let client = redis::Client::open(server.url()).unwrap();
    let trace = DatabaseTrace::new(spans.clone(), &Registry::new()).server("cache.internal", 6379);
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    Traced::new(connection, trace.slow(Duration::ZERO))
}

fn last(spans: &Spans) -> Arc<SpanRecord> {
    spans.latest(1)[0].clone()
}

fn told(span: &SpanRecord, key: &str) -> Option<String> {
    span.attribute(key).map(ToString::to_string)
}

#[tokio::test]
async fn a_command_is_told_by_its_name_and_without_keys_and_values() {
    let Some(server) = Redis::start().await else { return };
    let spans = Spans::new();
    let mut connection = connected(&server, &spans).await;
    let () = connection.set("user:ann", "s3cret").await.unwrap();

    let span = last(&spans);
    assert_eq!((&*span.name, span.kind, span.outcome), ("SET", SpanKind::Client, Outcome::Ok));
    for (key, value) in [
        ("db.system.name", "redis"),
        ("db.operation.name", "SET"),
        ("db.namespace", "0"),
        ("server.address", "cache.internal"),
        ("server.port", "6379"),
        ("buttress.db.arguments", "2"),
        ("buttress.db.slow", "true"),
    ] {
        assert_eq!(told(&span, key).as_deref(), Some(value), "{key}");
    }
    let shown = format!("{span:?}");
    assert!(!shown.contains("ann") && !shown.contains("s3cret"), "{shown}");
    assert_eq!(connection.get::<_, String>("user:ann").await.unwrap(), "s3cret");
}

#[tokio::test]
async fn an_error_that_comes_as_a_value_is_an_error() {
    let Some(server) = Redis::start().await else { return };
    let spans = Spans::new();
    let mut connection = connected(&server, &spans).await;
    let () = connection.set("text", "a").await.unwrap();
    connection.lpush::<_, _, i64>("text", "b").await.unwrap_err();

    let span = last(&spans);
    assert_eq!((&*span.name, span.status, span.outcome), ("LPUSH", Status::Error, Outcome::Error));
    assert_eq!(told(&span, "error.type").as_deref(), Some("WRONGTYPE"));
    assert_eq!(told(&span, "db.response.status_code").as_deref(), Some("WRONGTYPE"));
}

#[tokio::test]
async fn each_item_of_a_pipeline_is_looked_at() {
    let Some(server) = Redis::start().await else { return };
    let spans = Spans::new();
    let mut connection = connected(&server, &spans).await;
    let mut pipeline = redis::pipe();
    pipeline.set("text", "a").lpush("text", "b").get("text").hset("text", "c", "d");
    pipeline.exec_async(&mut connection).await.unwrap_err();

    let span = last(&spans);
    assert_eq!((&*span.name, span.status), ("PIPELINE", Status::Error));
    assert_eq!(told(&span, "db.operation.batch.size").as_deref(), Some("4"));
    assert_eq!(told(&span, "buttress.db.failed_items").as_deref(), Some("2"));
    assert_eq!(told(&span, "error.type").as_deref(), Some("WRONGTYPE"));

    redis::pipe().set("a", 1).set("b", 2).exec_async(&mut connection).await.unwrap();
    let span = last(&spans);
    assert_eq!((&*span.name, span.outcome), ("PIPELINE SET", Outcome::Ok));
    redis::pipe().set("a", 1).exec_async(&mut connection).await.unwrap();
    assert_eq!((&*last(&spans).name, told(&last(&spans), "db.operation.batch.size")), ("SET", None));
}

#[tokio::test]
async fn each_item_of_a_transaction_is_looked_at() {
    let Some(server) = Redis::start().await else { return };
    let spans = Spans::new();
    let mut connection = connected(&server, &spans).await;
    let mut transaction = redis::pipe();
    transaction.atomic().set("text", "a").lpush("text", "b");
    transaction.exec_async(&mut connection).await.unwrap_err();
    let span = last(&spans);
    assert_eq!((&*span.name, told(&span, "buttress.db.failed_items").as_deref()), ("MULTI", Some("1")));
    assert_eq!(told(&span, "error.type").as_deref(), Some("WRONGTYPE"));

    redis::pipe().atomic().incr("a", 1).incr("a", 1).exec_async(&mut connection).await.unwrap();
    assert_eq!((&*last(&spans).name, last(&spans).outcome), ("MULTI INCRBY", Outcome::Ok));
}

#[tokio::test]
async fn a_command_that_waits_by_nature_is_not_slow() {
    let Some(server) = Redis::start().await else { return };
    let spans = Spans::new();
    let mut connection = connected(&server, &spans).await;
    let () = connection.rpush("queue", "a").await.unwrap();
    redis::cmd("BLPOP").arg("queue").arg(0).exec_async(&mut connection).await.unwrap();
    assert_eq!((&*last(&spans).name, told(&last(&spans), "buttress.db.slow")), ("BLPOP", None));
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error() {
    let Some(server) = Redis::start().await else { return };
    let spans = Spans::new();
    let mut connection = connected(&server, &spans).await;
    drop(server);
    let gone = async { while connection.get::<_, Option<String>>("a").await.is_ok() {} };
    timeout(PATIENCE, gone).await.expect("it hears of it");
    assert_eq!((last(&spans).outcome, told(&last(&spans), "error.type").as_deref()), (Outcome::Error, Some("io")));
}
