//! Attacks on what a span, a log line or a settings page may show: none of them ever shows the marker.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::sync::Arc;

use buttress::context::{self, Context};
use buttress::observe::{Observe, ObserveLayer, RequestHead, When};
use buttress::propagate::{InjectLayer, PropagateLayer, TrustPolicy};
use buttress::settings::Settings;
use buttress::trace::{Capture, Connection, DebugHeader, SpanRecord, Spans, TraceLayer};
use buttress::{Telemetry, redact};
use http::{HeaderName, HeaderValue, Request, Response};
use support::{Answer, answer, attribute, exchange, get, span_of};
use tower::{Layer, ServiceExt, service_fn};

/// No secret that is shown can hide from this.
const MARKER: &str = "hunter2hunter2";

/// Everything that a sink could write of the span.
fn json(span: &Arc<SpanRecord>) -> String {
    let json = serde_json::to_string(&**span).expect("a span is JSON");
    format!("{json} {span:?}")
}

#[track_caller]
fn assert_hidden(shown: &str, attack: &str) {
    assert!(!shown.contains(MARKER), "{attack} is shown: {shown}");
}

/// Headers that hold secrets by their name, in the cases and spellings that people use.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "X-API-Key",
    "x-apikey",
    "api_key",
    "X-Amz-Security-Token",
    "x-amz-credential",
    "x-csrf-token",
    "x-xsrf-token",
    "x-auth-key",
    "x-forwarded-authorization",
    "x-session-token",
    "x-client-secret",
    "x-goog-iap-jwt-assertion-token",
    "ocp-apim-subscription-key",
    "x-password",
];

#[tokio::test]
async fn headers_with_secret_names_are_shown_redacted_even_where_they_are_on_the_list() {
    for name in SECRET_HEADERS {
        let header = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let capture = Capture::new().request_header(header.clone()).response_header(header.clone());
        let mut answer = answer(200);
        answer.headers_mut().append(header.clone(), HeaderValue::from_static(MARKER));
        answer.headers_mut().append(http::header::SET_COOKIE, HeaderValue::from_static(MARKER));
        let request = get("/", &[(name, MARKER)]);
        let span = span_of(|spans| TraceLayer::server(spans).capture(capture), request, answer).await;
        assert_hidden(&json(&span), name);
        assert_eq!(attribute(&span, &format!("http.request.header.{header}")).unwrap(), "[\"REDACTED\"]");
    }
}

#[tokio::test]
async fn a_set_cookie_on_the_list_is_redacted() {
    let capture = Capture::new().response_header(http::header::SET_COOKIE);
    let mut answer = answer(200);
    answer.headers_mut().insert(http::header::SET_COOKIE, HeaderValue::from_static("id=hunter2hunter2; HttpOnly"));
    let span = span_of(|spans| TraceLayer::server(spans).capture(capture), get("/", &[]), answer).await;
    assert_eq!(attribute(&span, "http.response.header.set-cookie").unwrap(), "[\"REDACTED\"]");
}

#[tokio::test]
async fn no_header_is_captured_that_nobody_named() {
    let headers: Vec<_> = SECRET_HEADERS.iter().chain(&["x-harmless"]).map(|name| (*name, MARKER)).collect();
    for layer in [TraceLayer::server, TraceLayer::client] {
        assert_hidden(&json(&span_of(layer, get("http://h/", &headers), answer(200)).await), "a header");
    }
}

#[tokio::test]
async fn a_value_that_is_marked_sensitive_is_redacted_wherever_it_stands() {
    let names = ["x-harmless", "user-agent", "x-trace-id", "x-request-id", "x-tenant-id", "x-user-id", "x-session-id"];
    let mut request = get("/", &[]);
    for name in names {
        let mut value = HeaderValue::from_static(MARKER);
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    let spans = Spans::new();
    let propagate = PropagateLayer::new().request_id(true).tenant_id(true).user_id(true).session_id(true);
    let capture = names.iter().fold(Capture::new(), |all, name| all.request_header(HeaderName::from_static(name)));
    let trace = TraceLayer::server(spans.clone()).capture(capture);
    let exchanged =
        exchange(ObserveLayer::server((propagate.observer(), trace.observer())), request, answer(200)).await;
    let span = &spans.latest(1)[0];
    assert_hidden(&json(span), "a sensitive header value");
    assert_hidden(&format!("{:?}", exchanged.context()), "a sensitive header value");
    assert_eq!(attribute(span, "user.id").unwrap(), "REDACTED");
}

/// Paths and queries with a secret in them.
const TARGETS: &[&str] = &[
    "/?token=hunter2hunter2",
    "/?a=1&Access_Token=hunter2hunter2&b=2",
    "/?API-KEY=hunter2hunter2",
    "/?aPiKeY=hunter2hunter2",
    "/?x.api.key=hunter2hunter2",
    "/?client_secret=hunter2hunter2",
    "/?sig=hunter2hunter2",
    "/?X-Amz-Signature=hunter2hunter2",
    "/?X-Amz-Credential=hunter2hunter2",
    "/?AWSAccessKeyId=hunter2hunter2",
    "/?X-Goog-Signature=hunter2hunter2",
    "/?%74oken=hunter2hunter2",
    "/?pass%77ord=hunter2hunter2",
    "/?%2570assword=hunter2hunter2",
    "/?user[password]=hunter2hunter2",
    "/?user%5Bpassword%5D=hunter2hunter2",
    "/?a=1;password=hunter2hunter2",
    "/?code=hunter2hunter2&state=x",
    "/?jwt=hunter2hunter2",
    "/?otp=hunter2hunter2",
    "/?password==hunter2hunter2",
    "/?next=https://h/?token=hunter2hunter2",
    "/?next=https%3A%2F%2Fh%2F%3Ftoken%3Dhunter2hunter2",
    "/?next=https%253A%252F%252Fh%252F%253Fapi_key%253Dhunter2hunter2",
    "/?next=https://bob:hunter2hunter2@h/",
    "/?next=https%3A%2F%2Fbob%3Ahunter2hunter2%40h%2F",
    "/?https://bob:hunter2hunter2@h/",
    "/?body=%7B%22password%22%3A%22hunter2hunter2%22%7D",
    "/cart;jsessionid=hunter2hunter2",
    "/cart;jsessionid=hunter2hunter2/items?page=2",
    "/proxy/https://bob:hunter2hunter2@h/x",
    "/proxy/https%3A%2F%2Fbob%3Ahunter2hunter2%40h",
    "/proxy/https%3A%2F%2Fh%3Ftoken%3Dhunter2hunter2",
    "/reset/token=hunter2hunter2",
];

#[tokio::test]
async fn secrets_in_a_target_are_hidden_on_servers_and_clients() {
    for target in TARGETS {
        let span = span_of(TraceLayer::server, get(target, &[]), answer(200)).await;
        assert_hidden(&json(&span), target);
        let url = format!("https://bob:hunter2hunter2@h:8443{target}");
        let span = span_of(TraceLayer::client, get(&url, &[]), answer(200)).await;
        assert_hidden(&json(&span), &url);
        let span = span_of(TraceLayer::server, get(&url, &[]), answer(200)).await;
        assert_hidden(&json(&span), &url);
        assert_hidden(&redact::text(&format!("went to {url} twice")), target);
    }
}

#[tokio::test]
async fn secrets_in_a_grpc_path_are_hidden() {
    let mut request = get("/shop.Cart/Add;token=hunter2hunter2/x", &[("content-type", "application/grpc")]);
    *request.method_mut() = http::Method::POST;
    let span = span_of(TraceLayer::server, request, answer(200)).await;
    assert!(span.attribute("rpc.method").is_some());
    assert_hidden(&json(&span), "a gRPC path");
}

#[tokio::test]
async fn userinfo_in_the_headers_that_name_a_server_is_hidden() {
    for name in ["host", "x-forwarded-host", "forwarded"] {
        let value = if name == "forwarded" { "host=\"bob:hunter2hunter2@h\"" } else { "bob:hunter2hunter2@h" };
        for layer in [TraceLayer::server, TraceLayer::client] {
            let span = span_of(layer, get("/", &[(name, value)]), answer(200)).await;
            assert_hidden(&json(&span), name);
        }
    }
}

#[tokio::test]
async fn captured_referer_and_location_lose_their_secrets_and_keep_the_rest() {
    let url = "https://bob:hunter2hunter2@h/a?page=2&token=hunter2hunter2#access_token=hunter2hunter2";
    let mut answer = answer(302);
    for name in ["location", "refresh", "link", "content-location"] {
        let value = match name {
            "refresh" => format!("0;url={url}"),
            "link" => format!("<{url}>; rel=\"next\", <{url}>; rel=\"last\""),
            _ => url.to_owned(),
        };
        answer.headers_mut().insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    let capture = ["location", "refresh", "link", "content-location"]
        .iter()
        .fold(Capture::new().request_header(http::header::REFERER), |all, name| {
            all.response_header(HeaderName::from_static(name))
        });
    let request = get("/", &[("referer", url), ("user-agent", &format!("bot (+{url})"))]);
    let span = span_of(|spans| TraceLayer::server(spans).capture(capture), request, answer).await;
    assert_hidden(&json(&span), url);
    let referer = attribute(&span, "http.request.header.referer").unwrap();
    assert!(referer.contains("REDACTED:REDACTED@h/a?page=2&token=REDACTED"), "{referer}");
}

#[tokio::test]
async fn attributes_events_and_names_of_user_code_are_cleaned() {
    let spans = Spans::new();
    let service = TraceLayer::server(spans.clone()).layer(service_fn(async |_: Request<()>| {
        let context = context::current().unwrap();
        for key in ["password", "db.password", "user.accessToken", "API_KEY", "Authorization", "session_id", "csrf"] {
            context.set_attribute(key, MARKER);
            context.add_event("tried", [(key, MARKER)]);
        }
        context.set_attribute("redirect", format!("https://h/?token={MARKER}"));
        context.set_attribute("database", format!("postgres://bob:{MARKER}@db/shop"));
        context.set_attribute("line", format!("login failed password={MARKER} for bob"));
        context.set_name(format!("GET /?token={MARKER}"));
        context.add_event(format!("went to /?sig={MARKER}"), [("n", 1)]);
        Ok::<_, std::convert::Infallible>(answer(200))
    }));
    drop(service.oneshot(get("/", &[])).await);
    let span = spans.latest(1)[0].clone();
    assert_hidden(&json(&span), "user code");
    assert_eq!(attribute(&span, "line").unwrap(), "login failed password=REDACTED for bob");
    assert_eq!(attribute(&span, "password").unwrap(), "REDACTED");
}

#[tokio::test]
async fn a_connection_cleans_its_annotations_too() {
    let spans = Spans::new();
    let connection = Connection::open(format!("chat?token={MARKER}"), &spans);
    connection.context().set_attribute("secret", MARKER);
    assert_hidden(&format!("{connection:?}"), "Debug of a connection");
    drop(connection);
    assert_hidden(&json(&spans.latest(1)[0]), "a connection");
}

#[tokio::test]
async fn errors_are_told_by_their_type_and_never_by_their_text() {
    let spans = Spans::new();
    let service = TraceLayer::server(spans.clone()).layer(service_fn(async |_: Request<()>| {
        Err::<Answer, _>(std::io::Error::other(format!("password={MARKER} is wrong for {MARKER}")))
    }));
    assert!(service.oneshot(get("/", &[])).await.is_err());
    assert_hidden(&json(&spans.latest(1)[0]), "the text of an error");
}

#[tokio::test]
async fn the_switch_whose_name_says_unsafe_does_show_it() {
    let capture = Capture::new().unsafe_sensitive_header(http::header::AUTHORIZATION);
    let mut value = HeaderValue::from_static(MARKER);
    value.set_sensitive(true);
    let mut request = get("/", &[("cookie", "other")]);
    request.headers_mut().insert(http::header::AUTHORIZATION, value);
    let span = span_of(|spans| TraceLayer::server(spans).capture(capture), request, answer(200)).await;
    let shown = attribute(&span, "http.request.header.authorization").unwrap();
    assert_eq!(shown, "[\"hunter2hunter2\"]");
    assert_eq!(attribute(&span, "http.request.header.cookie"), None);
}

/// Every type of ours that sees a request, while it holds one.
#[test]
fn debug_of_layers_probes_contexts_and_requests_shows_no_secret() {
    let when = When::header(HeaderName::from_static("x-api-key"), HeaderValue::from_static(MARKER));
    let debug_header =
        DebugHeader::new(HeaderName::from_static("x-debug"), [MARKER, MARKER].concat().into_bytes()).unwrap();
    let propagate = PropagateLayer::new().server_timing(true).trust_when(when.clone(), TrustPolicy::public());
    let trace = TraceLayer::server(Spans::new()).debug_header(debug_header).capture_when(when, Capture::new());
    let inject = InjectLayer::new();
    let layer = ObserveLayer::server((propagate.observer(), trace.observer(), inject.observer()));

    let headers = [("authorization", MARKER), ("cookie", MARKER), ("baggage", "user=hunter2hunter2")];
    let request = get("/?token=hunter2hunter2", &headers);
    let head = format!("{:?}", RequestHead::of(&request));
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<&[u8]>::new()))
    }));
    let context = Context::root().with_baggage(buttress::context::Baggage::from_headers(request.headers()));
    let future = context.enter(|| {
        let mut exchange_service = service.clone();
        tower::Service::call(&mut exchange_service, get("/?token=hunter2hunter2", &headers))
    });
    let shown =
        [head, format!("{propagate:?} {trace:?} {inject:?} {layer:?}"), format!("{context:?}"), format!("{future:?}")];
    for shown in shown {
        assert_hidden(&shown, "Debug");
    }
}

fn telling(name: &'static str, value: &str) -> impl Fn(&str) -> Option<String> {
    let value = value.to_owned();
    move |asked: &str| (asked == name).then(|| value.clone())
}

#[test]
fn settings_never_show_the_secrets_in_them() {
    let attacks = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer hunter2hunter2,x-team=hunter2hunter2"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-api-key=hunter2hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://bob:hunter2hunter2@collector/?api-key=hunter2hunter2"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector/?token=hunter2hunter2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "api.key=hunter2hunter2,team=shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "db.url=postgres://bob:hunter2hunter2@db/shop"),
    ];
    for (name, value) in attacks {
        let settings = Settings::read("shop", telling(name, value)).unwrap();
        assert_hidden(&settings.explain(), name);
        assert_hidden(&format!("{settings:?} {settings:#?}"), name);
        let telemetry = Telemetry::new(settings);
        assert_hidden(&format!("{telemetry:?} {}", telemetry.explain()), name);
    }
}

#[test]
fn errors_of_settings_never_show_the_secrets_in_them() {
    let attacks = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer hunter2hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://bob:hunter2hunter2@collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector?token=hunter2hunter2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "api.key=hunter2hunter2,oops"),
    ];
    for (name, value) in attacks {
        let error = Settings::read("shop", telling(name, value)).unwrap_err();
        assert_hidden(&format!("{error} {error:?}"), name);
        assert_eq!(error.variable(), name);
    }
}

/// The observer sees requests of any body type, so its probe's Debug is checked on its own.
#[test]
fn debug_of_a_probe_shows_no_secret() {
    let spans = Spans::new();
    let observers = (PropagateLayer::new().observer(), TraceLayer::server(spans).observer());
    let kept: Arc<std::sync::Mutex<String>> = Arc::default();
    #[derive(Clone)]
    struct Watch<O>(O, Arc<std::sync::Mutex<String>>);
    impl<B, O: Observe<B, Probe: std::fmt::Debug>> Observe<B> for Watch<O> {
        type Probe = O::Probe;
        fn start(&self, request: &mut Request<B>, exchange: &mut buttress::observe::Exchange) -> O::Probe {
            let probe = self.0.start(request, exchange);
            *self.1.lock().unwrap() = format!("{probe:?} {exchange:?}");
            probe
        }
    }
    let layer = ObserveLayer::server(Watch(observers, kept.clone()));
    let headers = [("authorization", MARKER), ("baggage", "user=hunter2hunter2")];
    let mut service = layer.layer(support::Canned::new(answer(200)));
    drop(tower::Service::call(&mut service, get("/?token=hunter2hunter2", &headers)));
    let shown = kept.lock().unwrap().clone();
    assert!(shown.contains("TraceProbe"), "{shown}");
    assert_hidden(&shown, "Debug of a probe");
}
