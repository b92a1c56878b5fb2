//! The example's client against the example's server: what both say about the same calls.

use buttress_tests::example::Example;
use serde_json::{Value, json};
use tokio::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_tonic-server");

/// A server that has been called by `--call`, and what the client printed.
async fn called() -> (Example, String) {
    let example = Example::start(BINARY, &[]).await;
    let port = example.address().port().to_string();
    let client = Command::new(BINARY).arg("--call").env("PORT", port).output().await.expect("the client runs");
    assert!(client.status.success(), "{client:?}");
    (example, String::from_utf8(client.stdout).expect("the client prints text"))
}

fn millis(span: &Value) -> u64 {
    let nanos = |key: &str| span[key].as_str().and_then(|text| text.parse::<u64>().ok()).expect("nanoseconds as text");
    (nanos("endTimeUnixNano") - nanos("startTimeUnixNano")) / 1_000_000
}

#[tokio::test]
async fn the_client_shows_each_answer_and_each_span() {
    let (_example, printed) = called().await;
    assert!(printed.contains("Hello, Ada!"), "{printed}");
    assert!(printed.contains("InvalidArgument: whom to greet?"), "{printed}");
    assert!(printed.contains("4 greetings"), "{printed}");
    assert!(printed.contains("2 greetings, then Unavailable: lost my voice"), "{printed}");
    assert_eq!(printed.matches("greeter.v1.Greeter/").count(), 4, "{printed}");
}

#[tokio::test]
async fn a_call_leaves_a_span_with_the_status_of_its_trailers() {
    let (mut example, _) = called().await;
    let span = example.printed_span(|span| span["name"] == "greeter.v1.Greeter/Greet").await;
    assert_eq!(span["outcome"], "ok");
    assert_eq!(span["attributes"]["rpc.system.name"], "grpc");
    assert_eq!(span["attributes"]["rpc.status_code"], "OK");
    assert_eq!(span["attributes"]["client.address"], "127.0.0.1");

    // The caller's mistake is no error of the server's.
    let refused = example.printed_span(|span| span["name"] == "greeter.v1.Greeter/Greet").await;
    assert_eq!(refused["attributes"]["rpc.status_code"], "INVALID_ARGUMENT");
    assert_eq!(refused["status"], json!({}));
}

#[tokio::test]
async fn a_stream_lasts_to_its_trailers_and_fails_by_them() {
    let (mut example, _) = called().await;
    let often = example.printed_span(|span| span["name"] == "greeter.v1.Greeter/GreetOften").await;
    assert_eq!(often["outcome"], "ok");
    assert!(millis(&often) >= 200, "{often}");

    let hoarse = example.printed_span(|span| span["name"] == "greeter.v1.Greeter/GreetUntilHoarse").await;
    assert_eq!(hoarse["outcome"], "error");
    assert_eq!(hoarse["ending"], "complete");
    assert_eq!(hoarse["attributes"]["rpc.status_code"], "UNAVAILABLE");
    assert_eq!(hoarse["attributes"]["error.type"], "UNAVAILABLE");
    assert!(millis(&hoarse) >= 100, "{hoarse}");
}

#[tokio::test]
async fn both_sides_share_a_trace() {
    let (mut example, printed) = called().await;
    let span = example.printed_span(|span| span["name"] == "greeter.v1.Greeter/GreetOften").await;
    let text = |key: &str| span[key].as_str().expect("an id as text").to_owned();
    let client_span = format!("{} {}", text("traceId"), text("parentSpanId"));
    assert!(printed.contains(&client_span), "{client_span} is not in\n{printed}");
}

#[tokio::test]
async fn the_metrics_tell_the_statuses_of_the_trailers_over_http_1() {
    let (example, _) = called().await;
    let page = example.get("/metrics", &[]).await.body;
    let ended = |method: &str, labels: &str| {
        let count = format!("rpc_server_call_duration_seconds_count{{{labels}}} 1");
        assert!(page.lines().any(|line| line == count), "{method}: {count} in {page}");
    };
    let hoarse = r#"error_type="UNAVAILABLE",rpc_method="greeter.v1.Greeter/GreetUntilHoarse",rpc_status_code="UNAVAILABLE",rpc_system_name="grpc""#;
    ended("GreetUntilHoarse", hoarse);
    let invalid = r#"rpc_method="greeter.v1.Greeter/Greet",rpc_status_code="INVALID_ARGUMENT",rpc_system_name="grpc""#;
    ended("Greet", invalid);
}
