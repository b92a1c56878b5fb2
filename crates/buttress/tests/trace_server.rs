//! Names and attributes of server spans, by the rows of OpenTelemetry's HTTP conventions.
#![cfg(all(feature = "trace", feature = "axum"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get as on_get, post};
use buttress::axum::RouteLayer;
use buttress::classify::Outcome;
use buttress::observe::{Peer, Route, When};
use buttress::trace::{Capture, SpanKind, SpanRecord, Spans, Status, TraceLayer};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use support::{answer, attribute, get, span_of, steady_attributes, with};
use tower::{Layer, ServiceExt};

async fn server(request: Request<()>) -> Arc<SpanRecord> {
    server_with(|layer| layer, request).await
}

async fn server_with(change: impl FnOnce(TraceLayer) -> TraceLayer, request: Request<()>) -> Arc<SpanRecord> {
    span_of(|spans| change(TraceLayer::server(spans)), request, answer(200)).await
}

async fn answered(status: u16) -> Arc<SpanRecord> {
    span_of(TraceLayer::server, get("/", &[]), answer(status)).await
}

/// The named attributes of a span, in this order.
fn some<const N: usize>(span: &Arc<SpanRecord>, keys: [&str; N]) -> [Option<String>; N] {
    keys.map(|key| attribute(span, key))
}

fn texts<const N: usize>(texts: [&str; N]) -> [Option<String>; N] {
    texts.map(|text| Some(text.to_owned()))
}

#[tokio::test]
async fn a_plain_request_has_these_attributes_and_no_other() {
    let mut request = get("/items/7?page=2", &[("host", "shop.example:8080"), ("user-agent", "curl/8")]);
    request.extensions_mut().insert(Peer("192.0.2.7:4711".parse().unwrap()));
    let span = server(request).await;
    let attributes = steady_attributes(&span);
    let expected = [
        ("http.request.method", "GET"),
        ("url.path", "/items/7"),
        ("url.scheme", "http"),
        ("url.query", "page=2"),
        ("http.response.status_code", "200"),
        ("user_agent.original", "curl/8"),
        ("server.address", "shop.example"),
        ("server.port", "8080"),
        ("client.address", "192.0.2.7"),
        ("network.peer.address", "192.0.2.7"),
        ("network.peer.port", "4711"),
        ("network.protocol.version", "1.1"),
    ];
    assert_eq!(attributes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!((span.kind, span.status, span.outcome), (SpanKind::Server, Status::Unset, Outcome::Ok));
}

#[tokio::test]
async fn without_a_route_the_name_is_the_method_and_never_the_path() {
    assert_eq!(server(get("/items/7", &[])).await.name, "GET");
}

#[tokio::test]
async fn a_known_route_is_part_of_the_name() {
    let mut request = get("/items/7", &[]);
    request.extensions_mut().insert(Route::from_static("/items/{id}"));
    let span = server(request).await;
    assert_eq!(span.name, "GET /items/{id}");
    assert_eq!(attribute(&span, "http.route").unwrap(), "/items/{id}");
}

#[tokio::test]
async fn an_unknown_method_is_other_and_its_name_is_http() {
    let method = Method::from_bytes(b"BREW").unwrap();
    let span = server(with(Request::builder().method(method), &[])).await;
    assert_eq!(span.name, "HTTP");
    let keys = ["http.request.method", "http.request.method_original"];
    assert_eq!(some(&span, keys), texts(["_OTHER", "BREW"]));
    assert_eq!(attribute(&server(get("/", &[])).await, "http.request.method_original"), None);
}

#[tokio::test]
async fn methods_are_known_by_their_exact_case() {
    let lower = Method::from_bytes(b"get").unwrap();
    let span = server(with(Request::builder().method(lower), &[])).await;
    assert_eq!(attribute(&span, "http.request.method").unwrap(), "_OTHER");
    for known in ["QUERY", "PATCH", "TRACE", "OPTIONS"] {
        assert_eq!(server(with(Request::builder().method(known), &[])).await.name, known);
    }
}

#[tokio::test]
async fn the_scheme_is_never_empty_and_proxies_are_asked_first() {
    let scheme =
        async |uri: &str, headers: &[(&str, &str)]| attribute(&server(get(uri, headers)).await, "url.scheme").unwrap();
    assert_eq!(scheme("/", &[]).await, "http");
    assert_eq!(scheme("https://h/", &[]).await, "https");
    assert_eq!(scheme("http://h/", &[("x-forwarded-proto", "https")]).await, "https");
    assert_eq!(scheme("/", &[("x-forwarded-proto", "https, http")]).await, "https");
    assert_eq!(scheme("/", &[("x-forwarded-proto", "http"), ("forwarded", "proto=https;for=1.2.3.4")]).await, "https");
    assert_eq!(scheme("/", &[("x-forwarded-proto", "")]).await, "http");
    assert_eq!(scheme("/", &[("x-forwarded-proto", "<script>")]).await, "http");
    let span = server_with(|layer| layer.scheme("https"), get("/", &[])).await;
    assert_eq!(attribute(&span, "url.scheme").unwrap(), "https");
}

#[tokio::test]
async fn forwarded_is_read_with_quotes_case_and_ipv6() {
    let forwarded = "For=\"[2001:db8:cafe::17]:4711\";Proto=https;Host=\"shop.example:444\", for=10.0.0.1";
    let span = server(get("/", &[("forwarded", forwarded), ("host", "inside")])).await;
    let keys = ["client.address", "url.scheme", "server.address", "server.port"];
    assert_eq!(some(&span, keys), texts(["2001:db8:cafe::17", "https", "shop.example", "444"]));
}

#[tokio::test]
async fn an_unknown_or_hidden_client_is_replaced_by_the_peer() {
    for forwarded in ["for=unknown", "for=Unknown", "for=_hidden", "for=\"_SEVKISEK\""] {
        let mut request = get("/", &[("forwarded", forwarded)]);
        request.extensions_mut().insert(Peer("192.0.2.7:1".parse().unwrap()));
        assert_eq!(attribute(&server(request).await, "client.address").unwrap(), "192.0.2.7", "{forwarded}");
    }
}

#[tokio::test]
async fn the_client_is_the_first_of_x_forwarded_for_and_the_peer_stays_the_peer() {
    let mut request = get("/", &[("x-forwarded-for", "203.0.113.9, 10.0.0.2")]);
    request.extensions_mut().insert(ConnectInfo("10.0.0.2:99".parse::<SocketAddr>().unwrap()));
    let span = server(request).await;
    let keys = ["client.address", "network.peer.address", "network.peer.port"];
    assert_eq!(some(&span, keys), texts(["203.0.113.9", "10.0.0.2", "99"]));
}

#[tokio::test]
async fn the_server_is_split_into_address_and_port() {
    let server_of = async |uri: &str, headers: &[(&str, &str)]| {
        some(&server(get(uri, headers)).await, ["server.address", "server.port"])
    };
    assert_eq!(server_of("/", &[("host", "[2001:db8::1]:8443")]).await, texts(["2001:db8::1", "8443"]));
    assert_eq!(server_of("/", &[("host", "[::1]")]).await, texts(["::1", "80"]));
    assert_eq!(server_of("/", &[("host", "h"), ("x-forwarded-proto", "https")]).await, texts(["h", "443"]));
    assert_eq!(server_of("https://h:1/", &[]).await, texts(["h", "1"]));
    assert_eq!(server_of("/", &[("host", "in"), ("x-forwarded-host", "out:81")]).await, texts(["out", "81"]));
    assert_eq!(server_of("/", &[]).await, [None, None]);
}

#[tokio::test]
async fn the_protocol_version_is_a_number_without_a_needless_zero() {
    for (version, text) in
        [(Version::HTTP_10, "1.0"), (Version::HTTP_11, "1.1"), (Version::HTTP_2, "2"), (Version::HTTP_3, "3")]
    {
        let span = server(with(Request::builder().version(version), &[])).await;
        assert_eq!(attribute(&span, "network.protocol.version").unwrap(), text);
    }
}

#[tokio::test]
async fn a_query_is_told_only_where_there_is_one_and_redacted() {
    assert_eq!(attribute(&server(get("/", &[])).await, "url.query"), None);
    let span = server(get("/?page=1&api_key=hush", &[])).await;
    assert_eq!(attribute(&span, "url.query").unwrap(), "page=1&api_key=REDACTED");
    let span = server_with(|layer| layer.capture(Capture::new().query(false)), get("/?page=1", &[])).await;
    assert_eq!(attribute(&span, "url.query"), None);
}

#[tokio::test]
async fn only_5xx_is_an_error_of_a_server() {
    for (status, error) in [(100, None), (204, None), (302, None), (404, None), (500, Some("500")), (503, Some("503"))]
    {
        let span = answered(status).await;
        assert_eq!(attribute(&span, "error.type").as_deref(), error, "{status}");
        assert_eq!(span.status == Status::Error, error.is_some(), "{status}");
        assert_eq!(attribute(&span, "http.response.status_code").unwrap(), status.to_string());
    }
}

#[tokio::test]
async fn sizes_ports_and_headers_are_told_on_request_only() {
    let request = || {
        let headers = [("x-client", "app 3"), ("content-length", "12"), ("x-other", "no")];
        let mut request = get("/", &headers);
        request.extensions_mut().insert(Peer("192.0.2.7:4711".parse().unwrap()));
        request
    };
    let keys = ["http.request.header.x-client", "client.port", "http.request.body.size", "http.response.body.size"];
    assert_eq!(some(&server(request()).await, keys), [None, None, None, None]);

    let name = HeaderName::from_static("x-client");
    let capture = Capture::new().request_header(name.clone()).client_port(true).body_sizes(true);
    let span = server_with(|layer| layer.capture(capture), request()).await;
    assert_eq!(some(&span, keys), texts(["[\"app 3\"]", "4711", "12", "6"]));
    assert!(!span.attributes.iter().any(|(key, _)| key.contains("x-other")));
}

#[tokio::test]
async fn response_headers_are_captured_with_all_their_values() {
    let mut answer = answer(200);
    answer.headers_mut().append("x-cache", HeaderValue::from_static("miss"));
    answer.headers_mut().append("x-cache", HeaderValue::from_static("hit"));
    let capture = Capture::new().response_header(HeaderName::from_static("x-cache"));
    let span = span_of(|spans| TraceLayer::server(spans).capture(capture), get("/", &[]), answer).await;
    assert_eq!(attribute(&span, "http.response.header.x-cache").unwrap(), "[\"miss\", \"hit\"]");
}

#[tokio::test]
async fn what_is_captured_can_differ_by_role() {
    let role = When::header(HeaderName::from_static("x-role"), HeaderValue::from_static("support"));
    let name = HeaderName::from_static("x-client");
    let spans_of = async |role_name: &str| {
        let change = |layer: TraceLayer| layer.capture_when(role.clone(), Capture::new().request_header(name.clone()));
        server_with(change, get("/", &[("x-role", role_name), ("x-client", "app")])).await
    };
    assert!(attribute(&spans_of("support").await, "http.request.header.x-client").is_some());
    assert!(attribute(&spans_of("guest").await, "http.request.header.x-client").is_none());
}

#[cfg(feature = "propagate")]
#[tokio::test]
async fn fields_of_correlation_are_attributes() {
    use buttress::observe::ObserveLayer;
    use buttress::propagate::PropagateLayer;

    let spans = Spans::new();
    let propagate = PropagateLayer::new().request_id(true).tenant_id(true).user_id(true).session_id(true);
    let layer = ObserveLayer::server((propagate.observer(), TraceLayer::server(spans.clone()).observer()));
    let headers = [
        ("x-trace-id", "test-trace-123"),
        ("x-request-id", "r"),
        ("x-tenant-id", "t"),
        ("x-user-id", "u"),
        ("x-session-id", "s"),
    ];
    support::exchange(layer, get("/", &headers), answer(200)).await;
    let keys =
        ["http.request.header.x-trace-id", "http.request.header.x-request-id", "tenant.id", "user.id", "session.id"];
    let expected = texts(["[\"test-trace-123\"]", "[\"r\"]", "t", "u", "s"]);
    assert_eq!(some(&spans.latest(1)[0], keys), expected);
}

fn shop() -> Router {
    let admin = Router::new().route("/users/{user}", on_get(async || "user"));
    Router::new()
        .route("/items/{id}", on_get(async || "item"))
        .route("/orders", post(async || StatusCode::CREATED))
        .nest("/admin", admin)
        .fallback(async || StatusCode::NOT_FOUND)
}

/// Name, route and status of the span of a request to a router.
async fn routed<S, B>(service: S, spans: &Spans, request: http::request::Builder) -> (String, Option<String>, String)
where
    S: tower::Service<Request<Body>, Response = http::Response<B>, Error = std::convert::Infallible>,
    B: http_body::Body,
{
    let Ok(answer) = service.oneshot(request.body(Body::empty()).unwrap()).await;
    drop(http_body_util::BodyExt::collect(answer.into_body()).await);
    let span = &spans.latest(1)[0];
    (span.name.to_string(), attribute(span, "http.route"), attribute(span, "http.response.status_code").unwrap())
}

#[tokio::test]
async fn the_route_is_known_inside_an_axum_router() {
    let spans = Spans::new();
    let app = shop().layer(TraceLayer::server(spans.clone()));
    let seen = routed(app, &spans, Request::get("/items/7")).await;
    assert_eq!(seen, ("GET /items/{id}".into(), Some("/items/{id}".into()), "200".into()));
}

#[tokio::test]
async fn the_route_is_known_outside_an_axum_router_with_the_route_layer() {
    let spans = Spans::new();
    let app = TraceLayer::server(spans.clone()).layer(shop().layer(RouteLayer));
    let seen = routed(app, &spans, Request::post("/orders")).await;
    assert_eq!(seen, ("POST /orders".into(), Some("/orders".into()), "201".into()));
}

#[tokio::test]
async fn the_route_of_a_nested_router_is_whole() {
    let spans = Spans::new();
    let trace = TraceLayer::server(spans.clone());
    let expected = ("GET /admin/users/{user}".into(), Some("/admin/users/{user}".into()), "200".into());
    assert_eq!(routed(shop().layer(trace.clone()), &spans, Request::get("/admin/users/1")).await, expected);
    let outside = trace.layer(shop().layer(RouteLayer));
    assert_eq!(routed(outside, &spans, Request::get("/admin/users/1")).await, expected);
}

#[tokio::test]
async fn where_no_route_matches_there_is_none() {
    let spans = Spans::new();
    let trace = TraceLayer::server(spans.clone());
    let expected = ("GET".into(), None, "404".into());
    for path in ["/nowhere", "/admin/nowhere", "/admin"] {
        let inside = shop().layer(trace.clone());
        assert_eq!(routed(inside, &spans, Request::get(path)).await, expected, "{path}");
        let outside = trace.clone().layer(shop().layer(RouteLayer));
        assert_eq!(routed(outside, &spans, Request::get(path)).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_method_that_the_route_does_not_have_still_has_the_route() {
    let spans = Spans::new();
    let app = shop().layer(TraceLayer::server(spans.clone()));
    let seen = routed(app, &spans, Request::delete("/orders")).await;
    assert_eq!(seen, ("DELETE /orders".into(), Some("/orders".into()), "405".into()));
}
