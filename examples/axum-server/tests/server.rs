//! Each route of the example, and the span that it leaves behind.

use buttress_tests::example::{Answer, Example};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_axum-server");

async fn started() -> Example {
    Example::start(BINARY, &[]).await
}

/// A condition: the span of this path.
fn of_path(path: &str) -> impl Fn(&Value) -> bool {
    move |span| span["attributes"]["url.path"] == path
}

fn millis(span: &Value) -> u64 {
    let nanos = |key: &str| span[key].as_str().and_then(|text| text.parse::<u64>().ok()).expect("nanoseconds as text");
    (nanos("endTimeUnixNano") - nanos("startTimeUnixNano")) / 1_000_000
}

#[tokio::test]
async fn a_request_leaves_a_span_named_by_its_route() {
    let example = started().await;
    assert_eq!(example.get("/items/7", &[("User-Agent", "test")]).await.body, "item 7\n");

    let span = example.span(of_path("/items/7")).await;
    assert_eq!(span["name"], "GET /items/{id}");
    assert_eq!(span["outcome"], "ok");
    assert_eq!(span["ending"], "complete");
    assert_eq!(span["status"], json!({}));
    assert_eq!(span["kind"], 2);
    let attributes = &span["attributes"];
    assert_eq!(attributes["http.request.method"], "GET");
    assert_eq!(attributes["http.route"], "/items/{id}");
    assert_eq!(attributes["http.response.status_code"], 200);
    assert_eq!(attributes["url.scheme"], "http");
    assert_eq!(attributes["client.address"], "127.0.0.1");
    assert_eq!(attributes["network.protocol.version"], "1.1");
    assert_eq!(attributes["server.port"], example.address().port());
    assert_eq!(attributes["user_agent.original"], "test");
    assert_eq!(attributes["item.id"], "7");
}

#[tokio::test]
async fn a_nested_route_is_named_in_full() {
    let example = started().await;
    assert_eq!(example.get("/api/v1/orders/12", &[]).await.status, 200);
    let span = example.span(of_path("/api/v1/orders/12")).await;
    assert_eq!(span["name"], "GET /api/v1/orders/{id}");
}

#[tokio::test]
async fn the_fallback_has_no_route_and_is_no_error() {
    let example = started().await;
    assert_eq!(example.get("/nowhere", &[]).await.status, 404);
    let span = example.span(of_path("/nowhere")).await;
    assert_eq!(span["name"], "GET");
    assert_eq!(span["attributes"].get("http.route"), None);
    assert_eq!(span["attributes"]["http.response.status_code"], 404);
    assert_eq!(span["status"], json!({}));
}

#[tokio::test]
async fn a_server_error_is_an_error_with_its_status() {
    let example = started().await;
    assert_eq!(example.get("/error", &[]).await.status, 500);
    let span = example.span(of_path("/error")).await;
    assert_eq!(span["outcome"], "error");
    assert_eq!(span["status"], json!({ "code": 2 }));
    assert_eq!(span["attributes"]["error.type"], "500");
}

#[tokio::test]
async fn a_stream_lasts_until_its_last_chunk() {
    let example = started().await;
    let answer = example.get("/stream?ms=300&chunks=3", &[]).await;
    assert_eq!(answer.body, "chunk 1\nchunk 2\nchunk 3\n");

    let span = example.span(of_path("/stream")).await;
    assert!(millis(&span) >= 300, "{span}");
    assert_eq!(span["ending"], "complete");
    let first_byte = span["attributes"]["buttress.time_to_first_byte"].as_f64().expect("a number");
    assert!(first_byte * 1000.0 < millis(&span) as f64, "{span}");
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_head_cancels() {
    let example = started().await;
    // Whoever goes away before the server has begun leaves no span, and nobody outside can tell when it has. Answering
    // another request gives it time, and several tries leave nothing to chance.
    for _ in 0..10 {
        let stream = example.begin("GET", "/slow?ms=60000", &[], "").await;
        example.get("/ok", &[]).await;
        drop(stream);
    }
    let span = example.span(of_path("/slow")).await;
    assert_eq!(span["outcome"], "cancelled");
    assert_eq!(span["ending"], "dropped_before_head");
    assert_eq!(span["status"], json!({}));
    assert_eq!(span["attributes"].get("http.response.status_code"), None);
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_body_cancels() {
    let example = started().await;
    let mut stream = example.begin("GET", "/stream?ms=60000&chunks=600", &[], "").await;
    tokio::io::AsyncReadExt::read_u8(&mut stream).await.expect("the head comes at once");
    drop(stream);
    let span = example.span(of_path("/stream")).await;
    assert_eq!(span["outcome"], "cancelled");
    assert_eq!(span["ending"], "dropped_in_body");
    assert_eq!(span["attributes"]["http.response.status_code"], 200);
}

#[tokio::test]
async fn a_body_that_breaks_is_an_error_although_the_status_was_200() {
    let example = started().await;
    let answer = example.get("/break", &[]).await;
    assert_eq!((answer.status, answer.is_complete), (200, false));
    assert_eq!(answer.body, "the first half\n");

    let span = example.span(of_path("/break")).await;
    assert_eq!(span["outcome"], "error");
    assert_eq!(span["ending"], "body_failed");
    assert_eq!(span["status"], json!({ "code": 2 }));
    assert_eq!(span["attributes"]["http.response.status_code"], 200);
    assert!(span["attributes"]["error.type"].is_string(), "{span}");
}

#[tokio::test]
async fn a_panic_is_recorded() {
    let example = started().await;
    assert_eq!(example.get("/panic", &[]).await.status, 0);
    let span = example.span(of_path("/panic")).await;
    assert_eq!(span["outcome"], "panicked");
    assert_eq!(span["status"], json!({ "code": 2 }));
    assert_eq!(span["attributes"]["error.type"], "panic");
}

#[tokio::test]
async fn secrets_do_not_show() {
    let example = started().await;
    let secrets = [("Authorization", "Bearer hush-hush"), ("Cookie", "session=hush-hush")];
    example.get("/ok?token=hush-hush&page=2", &secrets).await;
    let span = example.span(of_path("/ok")).await;
    assert_eq!(span["attributes"]["url.query"], "token=REDACTED&page=2");
    assert!(!span.to_string().contains("hush-hush"), "{span}");
}

#[tokio::test]
async fn an_answer_tells_its_trace_and_span() {
    let example = started().await;
    let answer = example.get("/ok", &[("X-Trace-ID", "test-trace-123")]).await;
    assert_eq!(answer.header("x-trace-id"), Some("test-trace-123"));
    let span_id = answer.header("x-span-id").expect("a span id").to_owned();
    let span = example.span(|span| span["spanId"] == span_id.as_str()).await;
    assert_eq!(span["attributes"]["http.request.header.x-trace-id"], json!(["test-trace-123"]));
}

#[tokio::test]
async fn a_caller_with_a_trace_is_the_parent() {
    let example = started().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = example.get("/ok", &[("traceparent", traceparent)]).await;
    assert_eq!(answer.header("x-trace-id"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    let span = example.span(of_path("/ok")).await;
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
}

#[tokio::test]
async fn looking_at_the_spans_leaves_none() {
    let example = started().await;
    example.get("/debug/spans", &[]).await;
    example.get("/ok", &[]).await;
    example.span(of_path("/ok")).await;
    let spans: Vec<Value> = serde_json::from_str(&example.get("/debug/spans", &[]).await.body).expect("an array");
    assert!(spans.iter().all(of_path("/ok")), "{spans:?}");
}

#[tokio::test]
async fn the_metrics_count_each_call_by_how_it_ended() {
    let example = started().await;
    example.get("/items/7", &[]).await;
    example.get("/items/8", &[]).await;
    example.get("/error", &[]).await;
    example.get("/wp-login.php", &[]).await;
    let page = example.get("/metrics", &[]).await;
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        r#"buttress_http_server_requests_total{buttress_ending="complete",buttress_outcome="ok",http_route="/items/{id}"} 2"#,
        r#"buttress_http_server_requests_total{buttress_ending="complete",buttress_outcome="error",http_route="/error"} 1"#,
        r#"buttress_http_server_requests_total{buttress_ending="complete",buttress_outcome="ok"} 1"#,
        r#"http_server_active_requests{http_request_method="GET",url_scheme="http"} 0"#,
    ] {
        assert!(page.body.lines().any(|found| found == line), "{line} in {}", page.body);
    }
    let summary: Value = serde_json::from_str(&example.get("/diagnostics/metrics", &[]).await.body).expect("JSON");
    assert_eq!((&summary["total_requests"], &summary["error_rate"]), (&json!(4), &json!(0.25)));
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_under_way_when_it_is_told_to_stop_is_answered_and_its_spans_are_written() {
    let example = Example::start(BINARY, &[("BUTTRESS_TRACES_EXPORTER", "console")]).await;
    let mut callers = Vec::new();
    for path in ["/slow?ms=4000", "/stream?ms=4000&chunks=8"].repeat(20) {
        callers.push(example.begin("GET", path, &[("Connection", "close")], "").await);
    }
    example.under_way(40).await;
    let address = example.address();
    example.terminate().await;
    for caller in callers {
        let answer = Answer::read(caller).await;
        assert_eq!((answer.status, answer.is_complete), (200, true), "{answer:?}");
    }
    let (went_well, spans) = example.ended().await;
    assert!(went_well);
    for name in ["GET /slow", "GET /stream"] {
        let ended = spans.iter().filter(|span| span["name"] == name && span["outcome"] == "ok");
        assert_eq!(ended.count(), 20, "{name}");
    }
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody is there any more");
}

#[tokio::test]
async fn a_port_that_is_none_is_refused_by_name() {
    let refused = tokio::process::Command::new(BINARY).env("PORT", "http").output().await.expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(told.contains(r#"PORT is "http"; accepted is a number from 0 to 65535"#), "{told}");
}
