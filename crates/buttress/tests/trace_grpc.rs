//! gRPC spans: names, statuses, and where the status is found.
#![cfg(feature = "trace")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::sync::Arc;

use buttress::classify::{Ending, Outcome};
use buttress::trace::{RpcNames, SpanRecord, Spans, Status, TraceLayer};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty, Full};
use support::{Answer, Canned, answer_of, attribute, span_of, with};
use tower::{Layer, ServiceExt};

fn call(path: &str) -> Request<()> {
    with(Request::post(path), &[("content-type", "application/grpc+proto")])
}

fn add_item() -> Request<()> {
    call("/shop.Cart/AddItem")
}

fn trailers(status: &str) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    answer_of(200, Full::from("frame").with_trailers(async move { Some(Ok(trailers)) }))
}

fn trailers_only(status: &str) -> Answer {
    let mut answer = answer_of(200, Empty::<Bytes>::new());
    answer.headers_mut().insert("grpc-status", status.parse().unwrap());
    answer
}

async fn server(request: Request<()>, answer: Answer) -> Arc<SpanRecord> {
    span_of(TraceLayer::server, request, answer).await
}

async fn client(request: Request<()>, answer: Answer) -> Arc<SpanRecord> {
    span_of(TraceLayer::client, request, answer).await
}

fn code(span: &Arc<SpanRecord>) -> String {
    attribute(span, "rpc.status_code").unwrap()
}

#[tokio::test]
async fn a_call_is_named_by_its_method_and_has_the_current_attributes() {
    let span = server(add_item(), trailers("0")).await;
    assert_eq!(span.name, "shop.Cart/AddItem");
    assert_eq!(attribute(&span, "rpc.system.name").unwrap(), "grpc");
    assert_eq!(attribute(&span, "rpc.method").unwrap(), "shop.Cart/AddItem");
    assert_eq!(code(&span), "OK");
    for other in ["http.request.method", "url.path", "rpc.system", "rpc.service", "error.type"] {
        assert_eq!(attribute(&span, other), None, "{other}");
    }
}

#[tokio::test]
async fn the_older_names_are_a_switch_away() {
    let old = |spans| TraceLayer::server(spans).rpc_names(RpcNames::Old);
    let span = span_of(old, add_item(), trailers("5")).await;
    let keys = ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"];
    let found = keys.map(|key| attribute(&span, key).unwrap());
    assert_eq!(found, ["grpc", "shop.Cart", "AddItem", "5"]);
    for current in ["rpc.system.name", "rpc.status_code"] {
        assert_eq!(attribute(&span, current), None);
    }
}

#[tokio::test]
async fn of_several_content_types_the_first_counts() {
    for (content_types, is_grpc) in
        [(["application/grpc", "application/json"], true), (["application/json", "application/grpc"], false)]
    {
        // Few headers are walked through, of many one is looked up.
        for others in [0, 12] {
            let mut request =
                with(Request::post("/shop.Cart/AddItem"), &content_types.map(|value| ("content-type", value)));
            for nth in 0..others {
                let name = http::HeaderName::try_from(format!("x-other-{nth}")).unwrap();
                request.headers_mut().insert(name, http::HeaderValue::from_static("x"));
            }
            assert_eq!(request.headers().get_all("content-type").iter().count(), 2);
            let span = server(request, trailers("0")).await;
            assert_eq!(attribute(&span, "rpc.method").is_some(), is_grpc, "{content_types:?}");
        }
    }
}

#[tokio::test]
async fn grpc_is_a_post() {
    for (method, is_grpc) in [("POST", true), ("GET", false)] {
        let request = Request::builder().method(method).uri("/shop.Cart/AddItem");
        let span = server(with(request, &[("content-type", "application/grpc")]), trailers("0")).await;
        assert_eq!(attribute(&span, "rpc.method").is_some(), is_grpc, "{method}");
    }
}

#[tokio::test]
async fn grpc_is_told_by_its_content_type() {
    for (content_type, is_grpc) in [
        ("application/grpc", true),
        ("application/grpc+json", true),
        ("application/grpc;charset=x", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        let request = with(Request::post("/shop.Cart/AddItem"), &[("content-type", content_type)]);
        let span = server(request, trailers("0")).await;
        assert_eq!(attribute(&span, "rpc.method").is_some(), is_grpc, "{content_type}");
    }
}

#[tokio::test]
async fn an_error_in_the_trailers_is_an_error() {
    let span = server(add_item(), trailers("13")).await;
    assert_eq!((code(&span).as_str(), span.status), ("INTERNAL", Status::Error));
    assert_eq!(attribute(&span, "error.type").unwrap(), "INTERNAL");
}

#[tokio::test]
async fn the_status_of_an_answer_of_trailers_only_is_in_its_head() {
    let span = server(add_item(), trailers_only("14")).await;
    assert_eq!((code(&span).as_str(), span.status), ("UNAVAILABLE", Status::Error));
}

#[tokio::test]
async fn a_missing_status_is_an_error() {
    let span = server(add_item(), answer_of(200, Full::from("frame"))).await;
    assert_eq!((code(&span).as_str(), span.outcome), ("UNKNOWN", Outcome::Error));
}

#[tokio::test]
async fn a_missing_status_of_a_proxy_is_what_its_http_status_implies() {
    assert_eq!(code(&client(add_item(), answer_of(503, Full::from("busy"))).await), "UNAVAILABLE");
    assert_eq!(code(&client(add_item(), answer_of(401, Full::from("who?"))).await), "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_malformed_status_is_unknown() {
    for malformed in ["17", "-1", "+1", "01", "ok"] {
        assert_eq!(code(&server(add_item(), trailers(malformed)).await), "UNKNOWN", "{malformed}");
    }
}

#[tokio::test]
async fn servers_and_clients_count_different_codes_as_errors() {
    let servers = [2, 4, 12, 13, 14, 15];
    for status in 0..=16 {
        let span = server(add_item(), trailers(&status.to_string())).await;
        assert_eq!(span.status == Status::Error, servers.contains(&status), "server {status}");
        let span = client(add_item(), trailers(&status.to_string())).await;
        assert_eq!(span.status == Status::Error, status != 0, "client {status}");
    }
}

#[tokio::test]
async fn a_method_that_the_server_does_not_know_is_no_name() {
    let span = server(call("/shop.Cart/Invented9731"), trailers_only("12")).await;
    assert_eq!(span.name, "_OTHER");
    assert_eq!(attribute(&span, "rpc.method").unwrap(), "_OTHER");
    assert_eq!(attribute(&span, "rpc.method_original").unwrap(), "shop.Cart/Invented9731");
}

#[tokio::test]
async fn a_client_knows_the_method_that_its_server_does_not() {
    let span = client(call("/shop.Cart/New"), trailers_only("12")).await;
    assert_eq!((span.name.as_ref(), span.status), ("shop.Cart/New", Status::Error));
}

#[tokio::test]
async fn a_path_that_is_no_method_is_no_name() {
    for path in ["/", "/Cart", "/a/b/c", "//AddItem"] {
        assert_eq!(server(call(path), trailers("0")).await.name, "_OTHER", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_covers_the_whole_stream_also_where_http_ends_with_the_head() {
    let spans = Spans::new();
    let service = TraceLayer::client(spans.clone()).end_with_head(true).layer(Canned::new(trailers("0")));
    let Ok(response) = service.oneshot(add_item()).await;
    tokio::time::advance(std::time::Duration::from_millis(250)).await;
    drop(response.into_body().collect().await);
    let span = &spans.latest(1)[0];
    assert_eq!((span.duration().as_millis(), span.ending), (250, Some(Ending::Complete)));
    assert_eq!(code(span), "OK");
}

#[tokio::test]
async fn a_stream_that_the_caller_leaves_is_cancelled_and_no_error() {
    let spans = Spans::new();
    let service = TraceLayer::client(spans.clone()).layer(Canned::new(trailers("0")));
    drop(service.oneshot(add_item()).await);
    let span = &spans.latest(1)[0];
    assert_eq!((code(span).as_str(), span.outcome, span.status), ("CANCELLED", Outcome::Cancelled, Status::Unset));
}
