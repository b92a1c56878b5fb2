//! The example as a program, looked at from outside.

use std::path::{Path, PathBuf};

use buttress_tests::example::Example;
use buttress_tests::peers;
use buttress_tests::servers::Redis;
use serde_json::Value;
use tokio::process::Command;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn start(folder: &Path, more: &[(&str, &str)]) -> Example {
    let folder = folder.to_str().expect("it is text");
    let variables: Vec<_> = [("WEBHOOKS_DATA", folder)].into_iter().chain(more.iter().copied()).collect();
    Example::start(env!("CARGO_BIN_EXE_webhooks"), &variables).await
}

/// Places an order and answers with the id of its event.
async fn order(example: &Example, item: &str) -> String {
    let taken = example.send("POST", "/orders", &JSON, &format!(r#"{{"item":"{item}"}}"#)).await;
    assert_eq!(taken.status, 202, "{}", taken.body);
    let body: Value = serde_json::from_str(&taken.body).expect("it is JSON");
    body["event"].as_str().expect("it has an id").to_owned()
}

#[tokio::test]
async fn an_order_goes_out_signed_and_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut example = start(folder.path(), &[]).await;
    let event = order(&example, "lamp").await;
    assert_eq!(example.printed_line().await, format!("order.created {event} item=lamp attempt=1"));
    let health = example.get("/health", &[]).await;
    assert_eq!(health.status, 200);
    assert!(health.body.contains("\"pass\""), "{}", health.body);
    let stats: Value = serde_json::from_str(&example.get("/stats", &[]).await.body).expect("it is JSON");
    assert!(stats[0]["types"][0]["processed_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{stats}");
    let page = example.get("/metrics", &[]).await.body;
    for metric in ["messaging_client_sent_messages_total", "messaging_process_duration_seconds_count"] {
        assert!(page.contains(metric), "no {metric} in {page}");
    }
}

#[tokio::test]
async fn a_webhook_that_nobody_signed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let example = start(folder.path(), &[]).await;
    assert_eq!(example.send("POST", "/webhooks", &JSON, "{}").await.status, 401);
}

#[tokio::test]
async fn what_could_not_be_delivered_is_delivered_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let example = start(folder.path(), &[("PARTNER_URL", "http://127.0.0.1:9/in")]).await;
    let event = order(&example, "chair").await;
    example.terminate().await;
    assert!(example.ended().await.0);
    let mut example = start(folder.path(), &[]).await;
    let line = example.printed_line().await;
    assert!(line.starts_with(&format!("order.created {event} item=chair")), "{line}");
}

#[tokio::test]
async fn on_redis_it_is_the_same() {
    let Some(redis) = Redis::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut example = start(folder.path(), &[("REDIS_URL", &redis.url())]).await;
    let event = order(&example, "lamp").await;
    assert_eq!(example.printed_line().await, format!("order.created {event} item=lamp attempt=1"));
}

/// The program of the example, beside the packages that the tests of the queue have installed.
fn producer(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let node = peers::on_path("node")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = here.join("../../crates/buttress-queue/tests/node/node_modules");
    if !packages.join("bullmq").is_dir() {
        peers::skip("BullMQ for Node (npm install in crates/buttress-queue/tests/node)");
        return None;
    }
    // Node looks for packages beside the real place of a program.
    let program = folder.join("produce.mjs");
    std::fs::copy(here.join("node/produce.mjs"), &program).expect("it can be copied");
    std::os::unix::fs::symlink(packages.canonicalize().expect("it is there"), folder.join("node_modules"))
        .expect("it can be linked");
    Some((node, program))
}

#[tokio::test]
async fn what_a_producer_of_node_adds_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let Some((node, program)) = producer(folder.path()) else { return };
    let Some(redis) = Redis::start().await else { return };
    let mut example = start(folder.path(), &[("REDIS_URL", &redis.url())]).await;
    let added = Command::new(node).arg(program).arg("chair").env("REDIS_URL", redis.url()).output().await.unwrap();
    let said = String::from_utf8_lossy(&added.stdout);
    let id = said.trim().strip_prefix("added ").unwrap_or_else(|| panic!("{added:?}"));
    assert_eq!(example.printed_line().await, format!("order.created {id} item=chair attempt=1"));
}
