//! Names and attributes of client spans.
#![cfg(feature = "trace")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use buttress::classify::{Ending, Outcome};
use buttress::context::{Context, TraceContext};
use buttress::trace::{Resend, SpanKind, SpanRecord, Spans, Status, TraceLayer};
use bytes::Bytes;
use http::{Method, Request, Version};
use http_body_util::{Empty, Full};
use support::{Answer, TRACEPARENT, answer, answer_of, attribute, exchange, get, span_of, steady_attributes, with};
use tower::{Layer, ServiceExt, service_fn};

async fn client(request: Request<()>) -> Arc<SpanRecord> {
    span_of(TraceLayer::client, request, answer(200)).await
}

async fn url_full(uri: &str) -> String {
    attribute(&client(get(uri, &[])).await, "url.full").unwrap()
}

#[tokio::test]
async fn a_call_has_these_attributes_and_no_other() {
    let span = client(get("https://pay.example/charges/7?page=2", &[("user-agent", "x")])).await;
    let attributes = steady_attributes(&span);
    let expected = [
        ("http.request.method", "GET"),
        ("url.full", "https://pay.example/charges/7?page=2"),
        ("http.response.status_code", "200"),
        ("server.address", "pay.example"),
        ("server.port", "443"),
        ("network.protocol.version", "1.1"),
    ];
    assert_eq!(attributes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!((span.kind, span.name.as_ref()), (SpanKind::Client, "GET"));
}

#[tokio::test]
async fn an_unknown_method_is_other_and_named_http() {
    let method = Method::from_bytes(b"BREW").unwrap();
    let span = client(with(Request::builder().method(method).uri("http://h/"), &[])).await;
    assert_eq!(span.name, "HTTP");
    assert_eq!(attribute(&span, "http.request.method").unwrap(), "_OTHER");
}

#[tokio::test]
async fn secrets_of_a_url_are_redacted_and_their_keys_kept() {
    assert_eq!(url_full("http://bob:pw@h/a").await, "http://REDACTED:REDACTED@h/a");
    assert_eq!(url_full("http://bob@h/a").await, "http://REDACTED:REDACTED@h/a");
    for key in
        ["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature", "token", "password", "client_secret", "api_key"]
    {
        assert_eq!(url_full(&format!("http://h/?a=1&{key}=hush")).await, format!("http://h/?a=1&{key}=REDACTED"));
    }
}

#[tokio::test]
async fn the_address_never_holds_userinfo() {
    let span = client(get("http://bob:pw@h:81/", &[])).await;
    assert_eq!(attribute(&span, "server.address").unwrap(), "h");
    assert_eq!(attribute(&span, "server.port").unwrap(), "81");
}

#[tokio::test]
async fn a_request_without_a_server_takes_the_configured_one() {
    let change = |spans| TraceLayer::client(spans).server_authority("stock:9000").scheme("https");
    let span = span_of(change, get("/items", &[]), answer(200)).await;
    assert_eq!(attribute(&span, "server.address").unwrap(), "stock");
    assert_eq!(attribute(&span, "server.port").unwrap(), "9000");
    assert_eq!(attribute(&span, "url.full").unwrap(), "https://stock:9000/items");
}

#[tokio::test]
async fn an_ipv6_server_is_told_without_brackets() {
    let span = client(get("http://[2001:db8::1]/", &[])).await;
    assert_eq!(attribute(&span, "server.address").unwrap(), "2001:db8::1");
    assert_eq!(attribute(&span, "server.port").unwrap(), "80");
}

#[tokio::test]
async fn the_protocol_version_is_the_one_of_the_answer() {
    let mut answer = answer(200);
    *answer.version_mut() = Version::HTTP_2;
    let span = span_of(TraceLayer::client, get("http://h/", &[]), answer).await;
    assert_eq!(attribute(&span, "network.protocol.version").unwrap(), "2");
}

#[tokio::test]
async fn every_4xx_and_5xx_is_an_error_of_a_client() {
    for (status, error) in [(200, None), (304, None), (404, Some("404")), (429, Some("429")), (500, Some("500"))] {
        let span = span_of(TraceLayer::client, get("http://h/", &[]), answer(status)).await;
        assert_eq!(attribute(&span, "error.type").as_deref(), error);
        assert_eq!(span.status == Status::Error, error.is_some());
        assert_eq!(span.outcome == Outcome::Error, error.is_some());
    }
}

#[tokio::test]
async fn an_answer_that_failed_is_an_error_although_its_body_was_dropped_unread() {
    let spans = Spans::new();
    let service = TraceLayer::client(spans.clone()).layer(support::Canned::new(answer(503)));
    drop(service.oneshot(get("http://h/", &[])).await);
    let span = &spans.latest(1)[0];
    assert_eq!((span.outcome, span.ending), (Outcome::Error, Some(Ending::DroppedInBody)));
    assert_eq!(attribute(span, "error.type").unwrap(), "503");
}

#[tokio::test]
async fn a_transport_error_is_named_by_what_it_is() {
    let spans = Spans::new();
    let service = TraceLayer::client(spans.clone())
        .layer(service_fn(async |_: Request<()>| Err::<Answer, _>(io::Error::from(io::ErrorKind::ConnectionRefused))));
    assert!(service.oneshot(get("http://h/", &[])).await.is_err());
    let span = &spans.latest(1)[0];
    assert_eq!(attribute(span, "error.type").unwrap(), "connection_refused");
    assert_eq!(attribute(span, "http.response.status_code"), None);
    assert_eq!((span.status, span.ending), (Status::Error, Some(Ending::Failed)));
}

#[tokio::test]
async fn a_cancellation_by_the_caller_is_no_error() {
    let spans = Spans::new();
    let service = TraceLayer::client(spans.clone())
        .layer(service_fn(async |_: Request<()>| std::future::pending::<Result<Answer, io::Error>>().await));
    let mut call = Box::pin(service.oneshot(get("http://h/", &[])));
    assert!(futures_poll(call.as_mut()).is_pending());
    drop(call);
    let span = &spans.latest(1)[0];
    assert_eq!((span.outcome, span.status), (Outcome::Cancelled, Status::Unset));
    assert_eq!(span.ending, Some(Ending::DroppedBeforeHead));
    assert_eq!(attribute(span, "error.type"), None);
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn only_repeats_have_a_count_and_a_link_to_the_attempt_before() {
    let first = client(get("http://h/", &[])).await;
    assert_eq!(attribute(&first, "http.request.resend_count"), None);
    assert!(first.links.is_empty());

    let previous = TraceContext::parse(TRACEPARENT.as_bytes()).unwrap();
    let mut request = get("http://h/", &[]);
    request.extensions_mut().insert(Resend { count: 2, previous: Some(previous) });
    let third = client(request).await;
    assert_eq!(attribute(&third, "http.request.resend_count").unwrap(), "2");
    assert_eq!(third.links[0].trace, previous);
}

#[tokio::test]
async fn each_attempt_is_a_span_of_its_own_under_the_same_parent() {
    let spans = Spans::new();
    let attempts = spans.clone();
    let handler = tower::service_fn(move |_: Request<()>| {
        let attempts = attempts.clone();
        async move {
            for _ in 0..2 {
                exchange(TraceLayer::client(attempts.clone()), get("http://h/", &[]), answer(200)).await;
            }
            Ok::<_, Infallible>(answer(200))
        }
    });
    let Ok(_) = TraceLayer::server(spans.clone()).layer(handler).oneshot(get("/", &[])).await;
    let [parent, second, first] = &spans.latest(3)[..] else { panic!("a request and two attempts are three spans") };
    assert_ne!(first.span_id, second.span_id);
    for span in [first, second] {
        assert_eq!(span.parent_span_id, Some(parent.span_id));
        assert_eq!(span.trace_id, parent.trace_id);
    }
}

#[tokio::test]
async fn calls_under_a_context_that_nobody_records_do_not_hang_in_the_air() {
    let spans = Spans::new();
    let unrecorded = Context::root();
    for _ in 0..2 {
        let call = exchange(TraceLayer::client(spans.clone()), get("http://h/", &[]), answer(200));
        unrecorded.clone().scope(call).await;
    }
    for span in spans.latest(2) {
        assert_eq!((span.trace_id, span.parent_span_id), (unrecorded.trace_id(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_ends_with_the_body_or_with_the_head_where_that_is_asked_for() {
    for (with_head, millis) in [(false, 80), (true, 0)] {
        let spans = Spans::new();
        let service = TraceLayer::client(spans.clone())
            .end_with_head(with_head)
            .layer(support::Canned::new(answer_of(200, Full::from(Bytes::from_static(b"x")))));
        let Ok(response) = service.oneshot(get("http://h/", &[])).await;
        tokio::time::advance(std::time::Duration::from_millis(80)).await;
        drop(http_body_util::BodyExt::collect(response.into_body()).await);
        assert_eq!(spans.latest(1)[0].duration().as_millis(), millis);
    }
}

#[tokio::test]
async fn an_answer_without_a_body_ends_the_span_at_once() {
    let spans = Spans::new();
    let service = TraceLayer::client(spans.clone()).layer(support::Canned::new(answer_of(204, Empty::new())));
    let response = service.oneshot(get("http://h/", &[])).await;
    assert_eq!(spans.latest(1)[0].ending, Some(Ending::Complete));
    drop(response);
    assert_eq!(spans.stats().recorded, 1);
}
