//! What the example answers, and the spans that it prints.

use buttress_tests::example::Example;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BINARY: &str = env!("CARGO_BIN_EXE_hyper-server");

#[tokio::test]
async fn a_request_leaves_a_span_with_its_route_and_its_peer() {
    let mut example = Example::start(BINARY, &[]).await;
    let answer = example.get("/hello/ada?password=hush-hush", &[("X-Trace-ID", "test-trace-123")]).await;
    assert_eq!(answer.body, "hello, ada\n");
    assert_eq!(answer.header("x-trace-id"), Some("test-trace-123"));

    let span = example.printed_span(|span| span["attributes"]["url.path"] == "/hello/ada").await;
    assert_eq!(span["spanId"].as_str(), answer.header("x-span-id"));
    assert_eq!(span["name"], "GET /hello/{name}");
    assert_eq!(span["outcome"], "ok");
    assert_eq!(span["attributes"]["http.response.status_code"], 200);
    assert_eq!(span["attributes"]["network.peer.address"], "127.0.0.1");
    assert!(span["attributes"]["network.peer.port"].is_u64(), "{span}");
    assert_eq!(span["attributes"]["url.query"], "password=REDACTED");
}

#[tokio::test]
async fn what_has_no_route_is_named_by_its_method() {
    let mut example = Example::start(BINARY, &[]).await;
    assert_eq!(example.get("/wp-login.php", &[]).await.status, 404);
    let span = example.printed_span(|span| span["attributes"]["url.path"] == "/wp-login.php").await;
    assert_eq!(span["name"], "GET");
    assert_eq!(span["attributes"]["http.response.status_code"], 404);
}

#[tokio::test]
async fn bytes_that_are_no_request_do_not_end_the_server() {
    let mut example = Example::start(BINARY, &[]).await;
    let mut stream = tokio::net::TcpStream::connect(example.address()).await.expect("the example accepts");
    stream.write_all(b"\x16\x03\x01 not http\r\n\r\n").await.expect("the example reads");
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(example.get("/hello/ada", &[]).await.status, 200);
    example.printed_span(|span| span["attributes"]["url.path"] == "/hello/ada").await;
}

#[tokio::test]
async fn the_metrics_are_shown_beside_the_service() {
    let example = Example::start(BINARY, &[]).await;
    example.get("/hello/ada", &[]).await;
    let page = example.get("/metrics", &[]).await.body;
    let counted = r#"buttress_http_server_requests_total{buttress_ending="complete",buttress_outcome="ok",http_route="/hello/{name}"} 1"#;
    assert!(page.lines().any(|line| line == counted), "{page}");
}

#[cfg(unix)]
#[tokio::test]
async fn it_ends_well_when_it_is_told_to_and_has_written_its_spans() {
    let example = Example::start(BINARY, &[]).await;
    example.get("/hello/ada", &[]).await;
    example.terminate().await;
    let (went_well, spans) = example.ended().await;
    assert!(went_well);
    assert!(spans.iter().any(|span| span["name"] == "GET /hello/{name}"), "{spans:?}");
}
