//! Runs the shop as anybody would: as a program of its own, seen from outside.

mod rig;

use std::process::Output;

use http::StatusCode;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use rig::{Open, PATIENCE, find, shop};

async fn run(args: &[&str]) -> Output {
    timeout(PATIENCE, shop(args).output()).await.expect("ends in time").expect("starts")
}

fn last_line(stdout: &str) -> Value {
    serde_json::from_str(stdout.lines().last().unwrap_or_default()).expect("the last line is JSON")
}

#[tokio::test]
async fn a_run_counts_each_request_once_and_links_the_services() {
    let output = run(&["--for", "2s", "--seed", "7"]).await;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));

    let counts = last_line(&stdout);
    let number = |value: &Value| value.as_u64().expect("a count");
    let [requests, crossing] = ["requests", "cross_service_traces"].map(|key| number(&counts[key]));
    let outcomes = ["ok", "error", "cancelled"].map(|key| number(&counts["outcomes"][key]));
    assert!(requests > 0 && outcomes[0] > 0 && crossing > 0, "{counts}");
    assert!(outcomes[1] > 0, "the faults of the run are seen: {counts}");
    assert_eq!(outcomes.iter().sum::<u64>(), requests, "each request has one outcome: {counts}");
    assert_eq!(number(&counts["dropped_spans"]), 0, "{counts}");
    // Server span of the storefront, client and server span of both calls.
    assert!(number(&counts["spans"]) >= 5 * crossing, "{counts}");
    assert!(number(&counts["retried"]) > 0, "what failed by chance was repeated: {counts}");
    assert!(counts["rejected"].is_u64() && counts["circuit_transitions"].is_u64(), "{counts}");
    assert!(number(&counts["events"]) > 0, "orders are told of over the queue: {counts}");
    assert!(!stdout.contains("lost"), "{stdout}");
}

#[tokio::test]
async fn wrong_arguments_are_told_with_what_is_accepted() {
    for (args, accepted) in [
        (&["--for", "10"][..], "10s, 500ms or 1m"),
        (&["--for", "0s"], "100ms to 24h"),
        (&["--for"], "wants a value"),
        (&["--seed=x"], "a whole number"),
        (&["--fro", "2s"], "--for DURATION"),
    ] {
        let output = run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(accepted), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert!(run(&["--help"]).await.status.success());
}

#[tokio::test]
async fn one_trace_is_linked_across_the_three_services() {
    let open = Open::start().await;
    let (status, spans) = open.traced_order().await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(spans.len(), 6, "{spans:#?}");

    let root = &spans[0];
    assert_eq!((&root["service"], &root["name"]), (&"storefront".into(), &"POST /orders".into()));
    let calls = find(&spans, "storefront", 3);
    assert!(calls.iter().all(|call| call["parentSpanId"] == root["spanId"]), "{spans:#?}");
    for (service, name) in [("inventory", "shop.Inventory/Reserve"), ("payments", "POST /charges")] {
        let served = find(&spans, service, 2);
        assert_eq!(served.len(), 1, "{spans:#?}");
        assert_eq!(served[0]["name"], name);
        assert!(calls.iter().any(|call| call["spanId"] == served[0]["parentSpanId"]), "{spans:#?}");
        assert_eq!(served[0]["traceId"], root["traceId"]);
    }
    let told = find(&spans, "storefront", 4);
    assert_eq!((told.len(), &told[0]["name"]), (1, &"send order-events".into()), "{spans:#?}");
    assert_eq!(told[0]["parentSpanId"], root["spanId"]);
    let starts: Vec<u64> =
        spans.iter().map(|span| span["startTimeUnixNano"].as_str().expect("text").parse().expect("number")).collect();
    assert!(starts.is_sorted(), "{starts:?}");
}

#[tokio::test]
async fn faults_are_switched_while_it_runs_and_seen_in_the_traces() {
    let open = Open::start().await;
    // What the callers come to is not to hang on how many of them there were before.
    for service in ["payments", "inventory"] {
        open.post(&format!("/circuits/{service}?force=closed")).await;
    }
    let (_, none) = open.get("/faults").await;
    assert_eq!(none["payments"]["kind"], "none");

    // kind, what the caller gets, what the span of payments comes to, why
    for (kind, status, outcome, error) in [
        ("errors", StatusCode::BAD_GATEWAY, "error", Some("503")),
        ("break", StatusCode::BAD_GATEWAY, "error", Some("connection_reset")),
        ("hang", StatusCode::GATEWAY_TIMEOUT, "cancelled", None),
        ("slow&ms=50", StatusCode::CREATED, "ok", None),
    ] {
        let (_, faults) = open.post(&format!("/faults/payments?kind={kind}")).await;
        assert_eq!(faults["inventory"]["kind"], "none");
        let (answered, spans) = open.traced_order().await;
        assert_eq!(answered, status, "{kind}");
        let served = find(&spans, "payments", 2)[0];
        assert_eq!(served["outcome"], outcome, "{kind}: {served:#}");
        assert_eq!(served["attributes"]["error.type"].as_str(), error, "{kind}: {served:#}");
    }
    let (_, failed) = open.get("/debug/traces?outcome=error").await;
    assert!(failed.as_array().expect("traces").iter().any(|trace| trace["error_type"] == "504"), "{failed:#}");

    open.post("/faults/payments?kind=none").await;
    open.post("/faults/inventory?kind=errors").await;
    let (answered, spans) = open.traced_order().await;
    assert_eq!(answered, StatusCode::BAD_GATEWAY);
    assert_eq!(find(&spans, "inventory", 2)[0]["attributes"]["rpc.status_code"], "UNAVAILABLE");
    assert!(find(&spans, "payments", 2).is_empty());

    let (wrong, _) = open.post("/faults/payments?kind=none&share=2").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let (_, spans) = open.get("/debug/spans?limit=1000").await;
    let looked_at =
        |span: &Value| span["attributes"]["url.path"].as_str().is_some_and(|path| !path.starts_with("/orders"));
    let pages =
        spans.as_array().expect("spans").iter().filter(|span| span["service"] == "storefront" && span["kind"] == 2);
    assert!(pages.filter(|span| looked_at(span)).all(|span| span["name"] == "GET /items/{id}"), "{spans:#}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_closes_the_shop_and_counts() {
    let mut open = Open::start().await;
    open.traced_order().await;
    let id = open.child.id().expect("runs").to_string();
    let told = Command::new("kill").args(["-INT", &id]).status().await.expect("kill is there");
    assert!(told.success());
    let mut last = String::new();
    while let Some(line) = timeout(PATIENCE, open.stdout.next_line()).await.expect("in time").expect("reads") {
        last = line;
    }
    assert!(timeout(PATIENCE, open.child.wait()).await.expect("in time").expect("ends").success());
    assert!(last_line(&last)["cross_service_traces"].as_u64() > Some(0), "{last}");
}
