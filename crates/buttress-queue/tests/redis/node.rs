//! The real BullMQ of Node: what it adds we work on, and the other way round.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buttress_queue::engine::{Engine, Settlement};
use buttress_queue::{JobState, Priority};
use buttress_tests::{peers, servers};
use serde_json::{Value, json};

use crate::{engine, id, job, next, now};

const LEASE: Duration = Duration::from_secs(600);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Node, when the package that these tests talk to is installed: `npm install` in `tests/node`.
fn node() -> Option<(PathBuf, PathBuf)> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    let node = peers::on_path("node")?;
    if !package.join("node_modules/bullmq").is_dir() {
        peers::skip("BullMQ for Node (npm install in crates/buttress-queue/tests/node)");
        return None;
    }
    Some((node, package))
}

/// What a script of the package says, as JSON.
async fn run(script: &str, arguments: &[&str]) -> Option<Value> {
    let (node, package) = node()?;
    let script = package.join(script);
    let arguments: Vec<_> = std::iter::once(script.to_str().unwrap()).chain(arguments.iter().copied()).collect();
    let (code, said) = peers::read_by(&node, &arguments, "").await;
    assert_eq!(code, Some(0), "{said}");
    Some(serde_json::from_str(said.lines().find(|line| line.starts_with(['{', '['])).expect("a line of JSON")).unwrap())
}

#[tokio::test]
async fn what_node_adds_is_worked_on_here_in_its_trace() {
    let Some(server) = servers::Redis::start().await else { return };
    let Some(added) = run("produce.mjs", &[&server.url(), "interop"]).await else { return };
    let engine = engine(&server.url(), "interop");
    // Node's was given no priority, so that BullMQ has it first.
    let plain = next(&engine, LEASE).await;
    assert_eq!(plain.envelope.id.as_str(), added["plain"].as_str().unwrap());
    assert_eq!((&*plain.envelope.kind, plain.envelope.priority), ("plain", Priority::Normal));
    let claimed = next(&engine, LEASE).await;
    let envelope = &claimed.envelope;
    assert_eq!((envelope.id.as_str(), &*envelope.kind, envelope.priority), ("evt-17", "order.created", Priority::High));
    let data: Value = serde_json::from_str(envelope.data.get()).unwrap();
    assert_eq!(data, json!({ "order": 17, "text": "grün" }));
    let trace = envelope.trace.context().expect("it was added in a trace");
    assert_eq!(trace.trace_id().to_string(), added["trace"].as_str().unwrap());
    for claimed in [plain, claimed] {
        engine.settle(&claimed.lease, Settlement::Done, now()).await.unwrap();
        assert_eq!(engine.find(&claimed.envelope.id, now()).await.unwrap().unwrap().state, JobState::Done);
    }
}

#[tokio::test]
async fn what_is_pushed_here_is_worked_on_by_node_in_its_trace() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "interop");
    let mut order = job("evt:17");
    order.envelope.kind = "order.created".into();
    order.envelope.priority = Priority::High;
    order.envelope.data = serde_json::value::to_raw_value(&json!({ "order": 17, "text": "grün" })).unwrap();
    order.envelope.trace.traceparent = Some(format!("00-{TRACE}-b7ad6b7169203331-01").into());
    let mut failing = job("18");
    failing.envelope.priority = Priority::Low;
    failing.envelope.data = serde_json::value::to_raw_value(&json!({ "fail": true })).unwrap();
    let mut later = job("later");
    later.due = now() + 200;
    engine.push(vec![failing, order, later], now()).await.unwrap();
    let Some(given) = run("consume.mjs", &[&server.url(), "interop", "3"]).await else { return };
    assert_eq!(given[0]["id"], "evt%3A17", "BullMQ takes no ':'");
    assert_eq!((&given[0]["name"], &given[0]["priority"]), (&json!("order.created"), &json!(2)));
    assert_eq!(given[0]["data"], json!({ "order": 17, "text": "grün" }));
    assert_eq!(given[0]["trace"], TRACE);
    let state = async |name| engine.find(&id(name), now()).await.unwrap().unwrap().state;
    assert_eq!(state("evt:17").await, JobState::Done);
    assert_eq!(state("later").await, JobState::Done);
    assert_eq!(state("18").await, JobState::Dead, "what failed over there is a dead letter here");
    let letter = engine.dead(None, 10).await.unwrap().remove(0);
    assert_eq!((letter.envelope.id, letter.reason.as_str()), (id("18"), "as it was told"));
}

#[tokio::test]
async fn what_others_wait_for_is_ended_as_node_would() {
    let Some(server) = servers::Redis::start().await else { return };
    let Some(added) = run("flow.mjs", &[&server.url(), "interop"]).await else { return };
    assert_eq!(added, json!({ "first": "single-1", "second": "single-1" }), "Node keeps the second out");
    let engine = engine(&server.url(), "interop");
    let mut came = Vec::new();
    for _ in 0..4 {
        let claimed = next(&engine, LEASE).await;
        let settlement = match claimed.envelope.id.as_str() {
            "parent" => Settlement::Bury { reason: "broken".into(), attempts: 3 },
            _ => Settlement::Done,
        };
        engine.settle(&claimed.lease, settlement, now()).await.unwrap();
        came.push(claimed.envelope.id.to_string());
    }
    assert!(came[..2].iter().all(|id| id.starts_with("child")), "{came:?}: the parent waits for its children");
    let letter = engine.dead(None, 10).await.unwrap().remove(0);
    assert_eq!((letter.envelope.id.as_str(), letter.attempts), ("parent", 3));
    let again = run("flow.mjs", &[&server.url(), "interop"]).await.unwrap();
    assert_ne!(again["first"], again["second"], "nothing keeps it out any more");
}
