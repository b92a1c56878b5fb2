//! Each flow of the example, and what its spans and metrics tell.

use buttress_tests::example::Example;
use serde_json::Value;

async fn started() -> Example {
    Example::start(env!("CARGO_BIN_EXE_flows"), &[]).await
}

fn named(name: &str) -> impl Fn(&Value) -> bool {
    move |span| span["name"] == name
}

/// Sends a request of the flow that the answer before told.
async fn post(example: &Example, path: &str, flow: Option<&str>) -> (u16, Option<String>) {
    let headers: Vec<_> = flow.map(|flow| ("baggage", flow)).into_iter().collect();
    let answer = example.send("POST", path, &headers, "").await;
    (answer.status, answer.header("x-flow").map(str::to_owned))
}

async fn metric(example: &Example, start: &str, labels: &[&str]) -> Option<String> {
    let page = example.get("/metrics", &[]).await.body;
    let is_it = |line: &&str| line.starts_with(start) && labels.iter().all(|label| line.contains(label));
    page.lines().find(is_it).and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
}

#[tokio::test]
async fn a_room_is_created_in_steps() {
    let example = started().await;
    assert_eq!(post(&example, "/rooms?name=blue", None).await.0, 201);
    let flow = example.span(named("room.create")).await;
    assert_eq!(flow["attributes"]["flow.outcome"], "completed");
    assert_eq!(flow["attributes"]["flow.steps"], 3);
    assert_eq!(flow["attributes"]["room.name"], "blue");
    let request = example.span(named("POST /rooms")).await;
    for step in ["validate", "reserve", "derive_key"] {
        let step = example.span(named(step)).await;
        assert_eq!(step["parentSpanId"], request["spanId"]);
        assert_eq!(step["attributes"]["flow.id"], flow["attributes"]["flow.id"]);
        assert_eq!(step["links"][0]["spanId"], flow["spanId"]);
    }
}

#[tokio::test]
async fn a_room_that_is_too_large_fails_at_its_reservation() {
    let example = started().await;
    assert_eq!(post(&example, "/rooms?name=huge&seats=1000", None).await.0, 503);
    let flow = example.span(named("room.create")).await;
    assert_eq!(flow["outcome"], "error");
    assert_eq!(flow["attributes"]["error.type"], "no_capacity");
    assert_eq!(flow["attributes"]["flow.failed_step"], "reserve");
}

#[tokio::test]
async fn a_recording_goes_over_three_requests() {
    let example = started().await;
    let (status, flow) = post(&example, "/recordings/start?room=blue", None).await;
    assert_eq!(status, 202);
    assert_eq!(post(&example, "/recordings/stop", flow.as_deref()).await.0, 202);
    assert_eq!(post(&example, "/recordings/upload", flow.as_deref()).await.0, 200);
    let flow_span = example.span(named("recording")).await;
    assert_eq!(flow_span["attributes"]["flow.outcome"], "completed");
    assert_eq!(flow_span["attributes"]["recording.bytes"], 1 << 20);
    let (start, upload) = (example.span(named("start")).await, example.span(named("upload")).await);
    assert_ne!(start["traceId"], upload["traceId"]);
    assert_eq!(start["attributes"]["flow.id"], upload["attributes"]["flow.id"]);
    // It is over.
    assert_eq!(post(&example, "/recordings/stop", flow.as_deref()).await.0, 409);
}

#[tokio::test]
async fn an_upload_that_fails_is_the_step_at_which_the_recording_failed() {
    let example = started().await;
    let (_, flow) = post(&example, "/recordings/start?room=blue", None).await;
    assert_eq!(post(&example, "/recordings/upload?fail=true", flow.as_deref()).await.0, 502);
    let step = example.span(named("upload")).await;
    assert_eq!(step["attributes"]["error.type"], "connection_reset");
    let flow = example.span(named("recording")).await;
    assert_eq!(flow["attributes"]["flow.failed_step"], "upload");
    let labels = ["flow_name=\"recording\"", "buttress_outcome=\"failed\"", "flow_failed_step=\"upload\""];
    assert_eq!(metric(&example, "buttress_flow_completed", &labels).await.as_deref(), Some("1"));
    let labels = ["operation_name=\"upload\"", "error_type=\"connection_reset\""];
    assert_eq!(metric(&example, "buttress_operation_duration_seconds_count", &labels).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_login_tells_no_secret() {
    let example = started().await;
    assert_eq!(post(&example, "/login?user=ada&password=hush-hush", None).await.0, 401);
    let flow = example.span(named("login")).await;
    assert_eq!(flow["attributes"]["error.type"], "wrong_password");
    assert_eq!(flow["attributes"]["flow.failed_step"], "verify");
    assert!(!example.get("/debug/spans", &[]).await.body.contains("hush-hush"));
    assert_eq!(post(&example, "/login?user=ada&password=lovelace", None).await.0, 200);
}

#[tokio::test]
async fn a_registration_may_be_confirmed_at_the_second_try() {
    let example = started().await;
    let (_, flow) = post(&example, "/registration?plan=free", None).await;
    assert_eq!(post(&example, "/registration/confirm?code=1", flow.as_deref()).await.0, 403);
    assert_eq!(metric(&example, "buttress_flow_active", &["flow_name=\"registration\""]).await.as_deref(), Some("1"));
    assert_eq!(post(&example, "/registration/confirm?code=1815", flow.as_deref()).await.0, 200);
    let flow = example.span(named("registration")).await;
    assert_eq!(flow["attributes"]["flow.outcome"], "completed");
    assert_eq!(flow["attributes"]["flow.steps"], 4);
    assert_eq!(flow["attributes"]["account.plan"], "free");
}
