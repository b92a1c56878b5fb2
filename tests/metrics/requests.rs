//! What is counted of requests, whatever becomes of them.

use std::convert::Infallible;
use std::future::pending;
use std::panic::resume_unwind;
use std::time::Duration;

use buttress::classify::{Ending, Outcome};
use buttress::context::{Context, TraceContext, TraceFlags};
use buttress::metrics::{
    Label, MetricsConfig, Point, Registry, RequestBodySizeLayer, RequestMetricsLayer, RouteMetrics, Stored,
};
use buttress::observe::{Observe, ObserveLayer, Route};
use buttress_tests::numbers::{count, family, histograms, labels, sum, total};
use buttress_tests::plan::{Plan, Running, plans};
use buttress_tests::{Broken, ScriptBody, Step, headers, read};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use proptest::prelude::*;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

const DURATION: &str = "http.server.request.duration";
const ACTIVE: &str = "http.server.active_requests";
const CLIENT_DURATION: &str = "http.client.request.duration";
const CLIENT_ACTIVE: &str = "http.client.active_requests";
const REQUESTS: &str = "buttress.http.server.requests";
const FIRST_BYTE: &str = "buttress.http.server.time_to_first_byte";
const BODY: &str = "buttress.http.server.response.body.duration";
const SIZE: &str = "http.server.response.body.size";

/// Answers by path.
async fn answer(request: Request<()>) -> Result<Response<ScriptBody>, Broken> {
    let route = |template| Some(Route::from_static(template));
    let (status, template, body) = match request.uri().path() {
        "/items/7" => (200, route("/items/{id}"), ScriptBody::new([Step::Data("item")])),
        "/never" => pending().await,
        "/panic" => resume_unwind(Box::new("asked for")),
        "/error" => return Err(Broken("no answer")),
        "/500" => (500, route("/500"), ScriptBody::default()),
        "/stream" => {
            let chunk = || [Step::Wait(Duration::from_millis(100)), Step::Data("chunk")];
            (200, route("/stream"), ScriptBody::new([chunk(), chunk(), chunk()].concat()))
        }
        "/broken" => (200, route("/broken"), ScriptBody::new([Step::Data("half"), Step::Fail("lost")])),
        "/upgrade" => (101, route("/upgrade"), ScriptBody::default()),
        "/shop.Inventory/Reserve" => {
            let trailers = headers([("grpc-status", "14")]);
            (200, None, ScriptBody::new([Step::Data("frame"), Step::Trailers(trailers)]))
        }
        "/head" => {
            // Paused: whoever asks for it starts so.
            sleep(Duration::from_millis(20)).await;
            (200, route("/head"), ScriptBody::default())
        }
        _ => (404, None, ScriptBody::default()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.extensions_mut().extend(
        template
            .map(|template| {
                let mut extensions = http::Extensions::new();
                extensions.insert(template);
                extensions
            })
            .unwrap_or_default(),
    );
    Ok(response)
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).expect("a valid request")
}

/// Sends a request and reads the answer.
async fn send(registry: &Registry, request: Request<()>) {
    let service = RequestMetricsLayer::server(registry).layer(service_fn(answer));
    if let Ok(response) = service.oneshot(request).await {
        let _ = read(response.into_body()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn awkward_requests_are_counted_as_what_they_were() {
    let registry = Registry::new();
    for _ in 0..3 {
        let _ = tokio::time::timeout(Duration::from_secs(1), send(&registry, get("/never"))).await;
    }
    let panics = tokio::spawn({
        let registry = registry.clone();
        async move { send(&registry, get("/panic")).await }
    });
    assert!(panics.await.unwrap_err().is_panic());
    send(&registry, get("/stream")).await;
    for nth in 0..5 {
        send(&registry, get(&format!("/wp-admin/{nth}.php"))).await;
    }
    for nth in 0..5 {
        let request = Request::get("/items/7").header("host", format!("{nth}.evil.example")).body(()).unwrap();
        send(&registry, request).await;
    }
    for nth in 0..5 {
        let method = Method::from_bytes(format!("FOO{nth}").as_bytes()).unwrap();
        send(&registry, Request::builder().method(method).uri("/items/7").body(()).unwrap()).await;
    }
    let call = Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc");
    send(&registry, call.version(Version::HTTP_2).body(()).unwrap()).await;
    send(&registry, get("/upgrade")).await;

    assert_eq!(total(&registry, ACTIVE, &[]), 0);
    let ended = |ending: Ending, outcome: Outcome| {
        total(&registry, REQUESTS, &[("buttress.ending", ending.as_str()), ("buttress.outcome", outcome.as_str())])
    };
    assert_eq!(ended(Ending::DroppedBeforeHead, Outcome::Cancelled), 3);
    assert_eq!(ended(Ending::Panicked, Outcome::Panicked), 1);
    assert_eq!(ended(Ending::Upgraded, Outcome::Ok), 1);
    assert_eq!(ended(Ending::Complete, Outcome::Ok), 16);
    assert_eq!(ended(Ending::Complete, Outcome::Error), 1, "the gRPC error in the trailers");
    assert_eq!(total(&registry, REQUESTS, &[]), 22);

    assert_eq!(total(&registry, "stream.opened", &[("stream.kind", "upgrade"), ("http.route", "/upgrade")]), 1);

    // The one upgrade is no latency, and the one call of gRPC is no plain HTTP.
    assert_eq!(count(&registry, DURATION, &[]), 20);
    assert_eq!(count(&registry, "rpc.server.call.duration", &[]), 1);
    assert_eq!(
        labels(&registry, DURATION),
        [
            // Three cancelled ones.
            "http.request.method=GET network.protocol.version=1.1 url.scheme=http",
            // Five of somebody who looks for holes: one series.
            "http.request.method=GET http.response.status_code=404 network.protocol.version=1.1 url.scheme=http",
            // Five hosts: one series.
            "http.request.method=GET http.response.status_code=200 http.route=/items/{id} network.protocol.version=1.1 url.scheme=http",
            "http.request.method=GET http.response.status_code=200 http.route=/stream network.protocol.version=1.1 url.scheme=http",
            "error.type=panic http.request.method=GET network.protocol.version=1.1 url.scheme=http",
            // Five methods: one series.
            "http.request.method=_OTHER http.response.status_code=200 http.route=/items/{id} network.protocol.version=1.1 url.scheme=http",
        ]
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    assert_eq!(
        labels(&registry, "rpc.server.call.duration"),
        ["error.type=UNAVAILABLE rpc.method=shop.Inventory/Reserve rpc.status_code=UNAVAILABLE rpc.system.name=grpc"]
    );
    let stream = [("http.route", "/stream")];
    assert_eq!(sum(&registry, DURATION, &stream), 0.3, "to the last chunk");
    assert_eq!((count(&registry, FIRST_BYTE, &stream), sum(&registry, FIRST_BYTE, &stream)), (1, 0.0));
    assert_eq!(sum(&registry, BODY, &stream), 0.3);
    assert_eq!(sum(&registry, SIZE, &stream), 15.0);
    assert_eq!(count(&registry, SIZE, &[]), 16, "whatever was answered, but for gRPC's messages and the upgrade");

    let overflowed = registry.snapshot().overflowed;
    assert_eq!(overflowed.len(), 1, "{overflowed:?}");
    assert_eq!((overflowed[0].label, overflowed[0].count), ("http.request.method", 5));
    assert_eq!(overflowed[0].top[0].value, "FOO0");
}

#[tokio::test(start_paused = true)]
async fn events_from_the_server_are_a_stream_and_no_latency() {
    let registry = Registry::new();
    let events = service_fn(async |_: Request<()>| {
        let event = || [Step::Wait(Duration::from_secs(60)), Step::Data("data: x\n\n")];
        let mut response = Response::new(ScriptBody::new([event(), event()].concat()));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
        response.extensions_mut().insert(Route::from_static("/events"));
        Ok::<_, Infallible>(response)
    });
    let response = RequestMetricsLayer::server(&registry).layer(events).oneshot(get("/events")).await.unwrap();
    let stream = [("stream.kind", "sse"), ("http.route", "/events")];
    assert_eq!(total(&registry, "stream.open", &stream), 1);
    read(response.into_body()).await.unwrap();
    assert_eq!((total(&registry, "stream.open", &stream), total(&registry, "stream.opened", &stream)), (0, 1));
    assert_eq!(total(&registry, "stream.messages", &[("stream.direction", "out"), stream[0]]), 2);
    assert_eq!(total(&registry, "stream.bytes", &[("stream.direction", "out"), stream[0]]), 18);
    assert_eq!(sum(&registry, "stream.duration", &stream), 120.0);
    assert_eq!((count(&registry, DURATION, &[]), total(&registry, REQUESTS, &[])), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn events_come_in_where_they_are_asked_for_and_their_media_type_may_be_written_in_any_case() {
    let registry = Registry::new();
    let events = service_fn(async |_: Request<()>| {
        let mut response = Response::new(ScriptBody::new([Step::Data("data: x\n\n"), Step::Data("data: y\n\n")]));
        *response.headers_mut() = headers([("content-type", "Text/Event-Stream; charset=utf-8")]);
        Ok::<_, Infallible>(response)
    });
    let response = RequestMetricsLayer::client(&registry).layer(events).oneshot(get("/events")).await.unwrap();
    read(response.into_body()).await.unwrap();
    let one_way = |way| {
        let labels = [("stream.kind", "sse"), ("stream.direction", way)];
        (total(&registry, "stream.messages", &labels), total(&registry, "stream.bytes", &labels))
    };
    assert_eq!((one_way("in"), one_way("out")), ((2, 18), (0, 0)));
    assert_eq!(count(&registry, CLIENT_DURATION, &[]), 0);
}

#[tokio::test]
async fn a_tunnel_is_a_stream_when_it_was_granted_and_only_then() {
    let registry = Registry::new();
    for (uri, opened) in [("/404", 0), ("/head", 1)] {
        send(&registry, Request::connect(uri).body(()).unwrap()).await;
        assert_eq!(total(&registry, "stream.opened", &[("stream.kind", "upgrade")]), opened);
    }
    assert_eq!(count(&registry, DURATION, &[]), 1, "of the refusal");
}

#[tokio::test(start_paused = true)]
async fn errors_are_told_by_their_type_and_only_errors_have_one() {
    let registry = Registry::new();
    for path in ["/error", "/500", "/broken", "/items/7", "/nowhere"] {
        send(&registry, get(path)).await;
    }
    let by_error: Vec<String> =
        labels(&registry, DURATION).into_iter().filter(|labels| labels.contains("error.type")).collect();
    assert_eq!(by_error.len(), 3, "{by_error:?}");
    assert_eq!(count(&registry, DURATION, &[("error.type", "500"), ("http.response.status_code", "500")]), 1);
    assert_eq!(count(&registry, DURATION, &[("http.route", "/broken"), ("http.response.status_code", "200")]), 1);
    assert_eq!(total(&registry, REQUESTS, &[("buttress.ending", "body_failed")]), 1);
    assert_eq!(total(&registry, REQUESTS, &[("buttress.ending", "failed")]), 1);
}

#[tokio::test(start_paused = true)]
async fn each_side_has_the_metrics_of_the_conventions_in_their_units() {
    let registry = Registry::new();
    let stream = || Request::post("/stream").body(ScriptBody::default()).unwrap();
    let call = || Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc").body(()).unwrap();
    for layer in [RequestMetricsLayer::server(&registry), RequestMetricsLayer::client(&registry)] {
        read(layer.layer(service_fn(answer)).oneshot(call()).await.unwrap().into_body()).await.unwrap();
        let sized = RequestBodySizeLayer::like(&layer)
            .layer(service_fn(async |request: Request<_>| answer(request.map(drop)).await));
        read(layer.layer(sized).oneshot(stream()).await.unwrap().into_body()).await.unwrap();
    }
    let families = registry.snapshot().families.into_iter();
    let told: Vec<String> = families.map(|one| format!("{} {} {:?}", one.name, one.unit, one.kind)).collect();
    let mut expected: Vec<String> = ["client", "server"]
        .into_iter()
        .flat_map(|side| {
            [
                format!("buttress.http.{side}.requests {{request}} Counter"),
                format!("buttress.http.{side}.response.body.duration s Histogram"),
                format!("buttress.http.{side}.time_to_first_byte s Histogram"),
                format!("http.{side}.active_requests {{request}} UpDownCounter"),
                format!("http.{side}.request.body.size By Histogram"),
                format!("http.{side}.request.duration s Histogram"),
                format!("http.{side}.response.body.size By Histogram"),
                format!("rpc.{side}.call.duration s Histogram"),
            ]
        })
        .collect();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn statuses_and_ports_are_numbers_among_the_labels() {
    let registry = Registry::new();
    let client = RequestMetricsLayer::client(&registry).layer(service_fn(answer));
    read(client.oneshot(get("http://shop.example:8080/items/7")).await.unwrap().into_body()).await.unwrap();
    let series = family(&registry, CLIENT_DURATION).unwrap().series.remove(0);
    let numbers = series.labels.iter().filter_map(|label| match label.value {
        Stored::Int(number) => Some((&*label.key, number)),
        _ => None,
    });
    assert_eq!(Vec::from_iter(numbers), [("server.port", 8080), ("http.response.status_code", 200)]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_active_until_the_last_byte() {
    let registry = Registry::new();
    let service = RequestMetricsLayer::server(&registry).layer(service_fn(answer));
    let response = service.oneshot(get("/stream")).await.unwrap();
    assert_eq!(total(&registry, ACTIVE, &[("http.request.method", "GET"), ("url.scheme", "http")]), 1);
    assert_eq!(count(&registry, DURATION, &[]), 0);
    read(response.into_body()).await.unwrap();
    assert_eq!((total(&registry, ACTIVE, &[]), count(&registry, DURATION, &[])), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn time_to_the_head_and_time_of_the_body_are_series_of_their_own() {
    let registry = Registry::new();
    send(&registry, get("/head")).await;
    assert_eq!(sum(&registry, FIRST_BYTE, &[("http.route", "/head")]), 0.02);
    assert_eq!(count(&registry, BODY, &[]), 0, "there is no body");
    assert_eq!(sum(&registry, DURATION, &[]), 0.02);
}

/// The first makes the places that the others count in, by another path.
#[tokio::test(start_paused = true)]
async fn every_request_of_a_kind_is_counted_as_the_first_was() {
    let registry = Registry::new();
    let service = service_fn(async |_: Request<()>| {
        sleep(Duration::from_millis(20)).await;
        let chunk = || [Step::Wait(Duration::from_millis(100)), Step::Data("chunk")];
        let mut response = Response::new(ScriptBody::new([chunk(), chunk()].concat()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        Ok::<_, Infallible>(response)
    });
    let layer = RequestMetricsLayer::server(&registry);
    let route = RouteMetrics::server(&registry, "/items/{id}");
    for nth in 1..=3 {
        read(layer.layer(service).oneshot(get("/")).await.unwrap().into_body()).await.unwrap();
        let times = nth as f64;
        for (name, each) in [(DURATION, 0.22), (FIRST_BYTE, 0.02), (BODY, 0.2), (SIZE, 10.0)] {
            assert_eq!(count(&registry, name, &[("http.request.method", "GET")]), nth, "{name}");
            let sum = sum(&registry, name, &[("http.request.method", "GET")]);
            assert!((sum - each * times).abs() < 1e-9, "{name}: {sum}");
        }
        route.start(&Method::POST).end_after(StatusCode::INTERNAL_SERVER_ERROR, Duration::from_millis(30));
        assert_eq!(count(&registry, DURATION, &[("http.request.method", "POST"), ("error.type", "500")]), nth);
        let failed = [("buttress.ending", "complete"), ("buttress.outcome", "error")];
        assert_eq!(total(&registry, REQUESTS, &failed), 2 * nth as i64);
        let seen = registry.performance();
        assert_eq!((seen.total_errors, seen.window.requests, seen.window.error_rate), (2 * nth, 2 * nth, 1.0));
        assert!(seen.window.avg_ms.is_some_and(|millis| (millis - 125.0).abs() < 1e-9), "{:?}", seen.window);
    }
}

#[tokio::test(start_paused = true)]
async fn the_buckets_are_those_of_the_convention_and_hold_what_equals_their_bound() {
    let registry = Registry::new();
    let exactly = |millis| {
        RequestMetricsLayer::server(&registry).layer(service_fn(move |_: Request<()>| async move {
            sleep(Duration::from_millis(millis)).await;
            Ok::<_, Infallible>(Response::new(ScriptBody::default()))
        }))
    };
    for millis in [5, 6, 10_000, 10_001] {
        read(exactly(millis).oneshot(get("/")).await.unwrap().into_body()).await.unwrap();
    }
    let point = histograms(&registry, DURATION, &[]).remove(0);
    assert_eq!(*point.bounds, [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]);
    assert_eq!(point.counts, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(point.sum, 20.012);
}

#[tokio::test]
async fn the_scheme_is_the_one_that_the_caller_used() {
    let registry = Registry::new();
    let request = |name: &str, value: &str| Request::get("/nowhere").header(name, value).body(()).unwrap();
    send(&registry, request("x-forwarded-proto", "https")).await;
    send(&registry, request("forwarded", "for=1.2.3.4;proto=HTTPS")).await;
    send(&registry, request("x-forwarded-proto", "gopher")).await;
    send(&registry, get("/nowhere")).await;
    let with_scheme = |scheme| count(&registry, DURATION, &[("url.scheme", scheme)]);
    assert_eq!((with_scheme("https"), with_scheme("_OTHER"), with_scheme("http")), (2, 1, 1));
}

#[tokio::test]
async fn what_a_proxy_was_told_of_its_caller_is_not_the_scheme_of_what_it_sends() {
    let registry = Registry::new();
    let forwarded = Request::get("http://shop.example/").header("x-forwarded-proto", "https").body(()).unwrap();
    let response = RequestMetricsLayer::client(&registry).layer(service_fn(answer)).oneshot(forwarded).await.unwrap();
    read(response.into_body()).await.unwrap();
    assert_eq!(count(&registry, CLIENT_DURATION, &[("url.scheme", "http"), ("server.port", "80")]), 1);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_ends_with_its_head_where_the_layer_is_told_so() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).end_with_head(true);
    let response = layer.layer(service_fn(answer)).oneshot(get("/stream")).await.unwrap();
    assert_eq!((count(&registry, DURATION, &[]), total(&registry, ACTIVE, &[])), (1, 0));
    read(response.into_body()).await.unwrap();
    assert_eq!((count(&registry, DURATION, &[]), sum(&registry, DURATION, &[])), (1, 0.0));
}

#[tokio::test]
async fn a_layer_that_is_off_counts_nothing() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).enabled(false);
    read(layer.layer(service_fn(answer)).oneshot(get("/items/7")).await.unwrap().into_body()).await.unwrap();
    assert!(registry.snapshot().families.is_empty());
}

#[tokio::test]
async fn a_server_tells_hosts_apart_only_if_they_are_named() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).server_addresses(["shop.example"]);
    for host in ["shop.example:8080", "SHOP.example", "evil.example", "worse.example"] {
        let request = Request::get("/items/7").header("host", host).body(()).unwrap();
        let response = layer.layer(service_fn(answer)).oneshot(request).await.unwrap();
        read(response.into_body()).await.unwrap();
    }
    assert_eq!(count(&registry, DURATION, &[("server.address", "shop.example")]), 2);
    assert_eq!(count(&registry, DURATION, &[("server.address", "_OTHER")]), 2);
    let active = |address| format!("http.request.method=GET server.address={address} url.scheme=http");
    assert_eq!(labels(&registry, ACTIVE), ["_OTHER", "shop.example"].map(active));
    send(&registry, get("/nowhere")).await;
    assert_eq!(labels(&registry, ACTIVE)[2], "http.request.method=GET url.scheme=http");
    assert_eq!(total(&registry, ACTIVE, &[]), 0);
}

#[tokio::test]
async fn a_client_tells_its_servers_apart_and_knows_no_route() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::client(&registry).server_authority("inventory:9000");
    for uri in ["http://shop.example:8080/items/7", "https://shop.example/items/7", "/items/7"] {
        let response = layer.layer(service_fn(answer)).oneshot(get(uri)).await.unwrap();
        read(response.into_body()).await.unwrap();
    }
    let protocol = "http.request.method=GET http.response.status_code=200 network.protocol.version=1.1";
    assert_eq!(
        labels(&registry, CLIENT_DURATION),
        [
            format!("{protocol} server.address=inventory server.port=9000 url.scheme=http"),
            format!("{protocol} server.address=shop.example server.port=443 url.scheme=https"),
            format!("{protocol} server.address=shop.example server.port=8080 url.scheme=http"),
        ]
    );
    assert!(family(&registry, DURATION).is_none());
    let open = layer.layer(service_fn(answer)).oneshot(get("https://shop.example/items/7")).await.unwrap();
    assert_eq!(
        labels(&registry, CLIENT_ACTIVE),
        [
            "http.request.method=GET server.address=inventory server.port=9000 url.scheme=http",
            "http.request.method=GET server.address=shop.example server.port=443 url.scheme=https",
            "http.request.method=GET server.address=shop.example server.port=8080 url.scheme=http",
        ]
    );
    let active = || (total(&registry, CLIENT_ACTIVE, &[("server.port", "443")]), total(&registry, CLIENT_ACTIVE, &[]));
    assert_eq!(active(), (1, 1));
    let of_both = [registry.client_performance(), registry.performance()].map(|side| side.active_requests);
    assert_eq!(of_both, [1, 0]);
    drop(open);
    assert_eq!(active(), (0, 0));
}

#[tokio::test]
async fn a_client_tells_the_server_of_its_calls_and_of_what_it_sent() {
    let registry = Registry::new();
    let channel = RequestMetricsLayer::client(&registry).server_authority("inventory:9000").layer(service_fn(answer));
    let call = Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc");
    read(channel.oneshot(call.body(()).unwrap()).await.unwrap().into_body()).await.unwrap();
    assert_eq!(
        labels(&registry, "rpc.client.call.duration"),
        ["error.type=UNAVAILABLE rpc.method=shop.Inventory/Reserve rpc.status_code=UNAVAILABLE rpc.system.name=grpc \
          server.address=inventory server.port=9000"]
    );
    let uploads = RequestBodySizeLayer::client(&registry).layer(service_fn(async |request: Request<_>| {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        Ok::<_, Infallible>(Response::new(()))
    }));
    let upload = Request::put("https://shop.example/items/7").body(ScriptBody::new(vec![Step::Data("abc")])).unwrap();
    uploads.oneshot(upload).await.unwrap();
    let size = "http.client.request.body.size";
    let server = "http.request.method=PUT server.address=shop.example server.port=443 url.scheme=https";
    assert_eq!((labels(&registry, size), sum(&registry, size, &[])), (vec![server.to_owned()], 3.0));
}

#[tokio::test]
async fn the_version_of_the_protocol_is_the_servers_of_the_request_and_the_clients_of_the_answer() {
    let registry = Registry::new();
    let versions = [
        (Version::HTTP_09, "0.9"),
        (Version::HTTP_10, "1.0"),
        (Version::HTTP_11, "1.1"),
        (Version::HTTP_2, "2"),
        (Version::HTTP_3, "3"),
    ];
    for (version, text) in versions {
        let service = service_fn(move |_: Request<()>| async move {
            let mut response = Response::new(ScriptBody::default());
            *response.version_mut() = version;
            Ok::<_, Infallible>(response)
        });
        let client = RequestMetricsLayer::client(&registry).layer(service);
        read(client.oneshot(get("http://shop.example/")).await.unwrap().into_body()).await.unwrap();
        send(&registry, Request::get("/").version(version).body(()).unwrap()).await;
        for side in [CLIENT_DURATION, DURATION] {
            assert_eq!(count(&registry, side, &[("network.protocol.version", text)]), 1, "{side}: {text}");
        }
    }
}

#[tokio::test]
async fn a_server_is_one_server_however_its_port_is_written() {
    let registry = Registry::with_config(MetricsConfig::default().max_hosts(2));
    let layer = RequestMetricsLayer::client(&registry);
    let ask = async |uri: &str| {
        let response = layer.layer(service_fn(answer)).oneshot(get(uri)).await.unwrap();
        read(response.into_body()).await.unwrap();
    };
    for uri in ["http://shop.example/", "http://shop.example:80/", "http://shop.example:080/"] {
        ask(uri).await;
    }
    // One that is called as the others are.
    ask("http://_OTHER/").await;
    ask("http://third.example:8080/").await;
    ask("http://fourth.example:8080/").await;
    let active = |server: &str| format!("http.request.method=GET server.address={server} url.scheme=http");
    assert_eq!(
        labels(&registry, CLIENT_ACTIVE),
        ["_OTHER", "shop.example server.port=80", "third.example server.port=8080"].map(active)
    );
    assert_eq!(labels(&registry, CLIENT_DURATION).len(), 3);
    assert_eq!(count(&registry, CLIENT_DURATION, &[("server.address", "shop.example")]), 3);
}

#[tokio::test]
async fn calls_of_one_grpc_method_are_one_series_whatever_they_came_by() {
    let registry = Registry::with_config(MetricsConfig::default().native_histograms(true));
    let ways = [
        Request::post("/shop.Inventory/Reserve").version(Version::HTTP_2),
        // gRPC-Web, and behind a proxy.
        Request::post("/shop.Inventory/Reserve").version(Version::HTTP_11),
        Request::post("/shop.Inventory/Reserve").version(Version::HTTP_2).header("x-forwarded-proto", "https"),
    ];
    for way in ways {
        send(&registry, way.header("content-type", "application/grpc").body(()).unwrap()).await;
    }
    assert_eq!(labels(&registry, "rpc.server.call.duration").len(), 1);
    let calls = histograms(&registry, "rpc.server.call.duration", &[]).remove(0);
    assert_eq!((calls.count(), calls.fine.map(|fine| fine.count())), (3, Some(3)));
    assert_eq!((labels(&registry, FIRST_BYTE).len(), count(&registry, FIRST_BYTE, &[])), (1, 3));
    assert_eq!((total(&registry, ACTIVE, &[]), labels(&registry, ACTIVE).len()), (0, 2));
}

#[tokio::test]
async fn calls_of_one_grpc_method_are_told_apart_by_their_status() {
    let registry = Registry::new();
    let answers = service_fn(async |request: Request<()>| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", request.headers()["asked-for"].clone());
        Ok::<_, Infallible>(Response::new(ScriptBody::new([Step::Trailers(trailers)])))
    });
    for code in ["0", "14", "13", "14"] {
        let call = Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc");
        let service = RequestMetricsLayer::server(&registry).layer(answers);
        let call = call.header("asked-for", code).body(()).unwrap();
        read(service.oneshot(call).await.unwrap().into_body()).await.unwrap();
    }
    let with = |name| count(&registry, "rpc.server.call.duration", &[("rpc.status_code", name)]);
    assert_eq!(["OK", "INTERNAL", "UNAVAILABLE"].map(with), [1, 1, 2]);
}

#[tokio::test]
async fn the_first_route_and_the_first_grpc_method_are_two() {
    let registry = Registry::new();
    send(&registry, Request::post("/head").body(()).unwrap()).await;
    let call = Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc");
    send(&registry, call.body(()).unwrap()).await;
    let method = "http.request.method=POST http.route=/head";
    let rpc = "rpc.method=shop.Inventory/Reserve rpc.system.name=grpc";
    assert_eq!(labels(&registry, FIRST_BYTE), [method, rpc]);
}

#[tokio::test]
async fn a_grpc_method_that_no_server_knows_is_no_label() {
    let registry = Registry::new();
    let unknown = service_fn(async |_: Request<()>| {
        let trailers = headers([("grpc-status", "12")]);
        Ok::<_, Infallible>(Response::new(ScriptBody::new([Step::Trailers(trailers)])))
    });
    for nth in 0..100 {
        let call = Request::post(format!("/made.Up/Method{nth}")).header("content-type", "application/grpc+proto");
        let service = RequestMetricsLayer::server(&registry).layer(unknown);
        read(service.oneshot(call.body(()).unwrap()).await.unwrap().into_body()).await.unwrap();
    }
    assert_eq!(
        labels(&registry, "rpc.server.call.duration"),
        ["error.type=UNIMPLEMENTED rpc.method=_OTHER rpc.status_code=UNIMPLEMENTED rpc.system.name=grpc"]
    );
    assert!(registry.snapshot().overflowed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn performance_tells_routes_and_the_whole_in_milliseconds() {
    let registry = Registry::new();
    for _ in 0..3 {
        send(&registry, get("/head")).await;
    }
    send(&registry, get("/500")).await;
    let _ = tokio::time::timeout(Duration::from_secs(1), send(&registry, get("/never"))).await;
    let seen = registry.performance();
    assert_eq!((seen.total_requests, seen.total_errors, seen.total_cancelled, seen.active_requests), (5, 1, 1, 0));
    assert_eq!((seen.window.requests, seen.window.error_rate), (5, 0.2));
    let routes: Vec<_> = seen.routes.iter().map(|route| (route.route.as_deref(), route.window.requests)).collect();
    assert_eq!(routes, [(Some("/head"), 3), (None, 1), (Some("/500"), 1)]);
    let longest = seen.routes.iter().map(|route| route.window.seconds).fold(0.0, f64::max);
    assert!(longest > 1.0 && seen.window.seconds == longest, "{} of {longest}", seen.window.seconds);
    let head = &seen.routes[0].window;
    assert_eq!((head.avg_ms, head.apdex), (Some(20.0), Some(1.0)));
    let p50 = head.p50_ms.unwrap();
    assert!((20.0..=20.7).contains(&p50), "{p50}");
    tokio::time::advance(Duration::from_secs(310)).await;
    registry.tick();
    tokio::time::advance(Duration::from_secs(300)).await;
    let later = registry.performance();
    assert_eq!((later.window.requests, later.total_requests, later.window.p50_ms), (0, 5, None));
}

#[tokio::test]
async fn the_size_of_a_request_is_what_was_read_of_it() {
    let registry = Registry::new();
    let layer = RequestBodySizeLayer::server(&registry);
    let reader = |frames: usize| {
        layer.layer(service_fn(move |request: Request<_>| async move {
            let mut body = std::pin::pin!(request.into_body());
            for _ in 0..frames {
                let _ = http_body_util::BodyExt::frame(&mut body).await;
            }
            Ok::<_, Infallible>(Response::new(()))
        }))
    };
    let send = |frames, body: Vec<Step>, route: &'static str| {
        let mut request = Request::post("/").body(ScriptBody::new(body)).unwrap();
        request.extensions_mut().insert(Route::from_static(route));
        reader(frames).oneshot(request)
    };
    let size = "http.server.request.body.size";
    send(9, vec![Step::Data("abc"), Step::Data("de")], "/whole").await.unwrap();
    send(1, vec![Step::Data("abc"), Step::Data("de")], "/half").await.unwrap();
    send(0, vec![Step::Data("abc")], "/none").await.unwrap();
    send(9, vec![Step::Data("abc"), Step::Fail("lost")], "/broken").await.unwrap();
    let uncounted = RequestBodySizeLayer::server(&registry).enabled(false);
    let service = uncounted.layer(service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(()))));
    service.oneshot(Request::post("/").body(ScriptBody::new(vec![Step::Data("abc")])).unwrap()).await.unwrap();
    assert_eq!(count(&registry, size, &[]), 4);
    for (route, read) in [("/whole", 5.0), ("/half", 3.0), ("/none", 0.0), ("/broken", 3.0)] {
        let labels = [("http.route", route), ("http.request.method", "POST"), ("url.scheme", "http")];
        assert_eq!((count(&registry, size, &labels), sum(&registry, size, &labels)), (1, read), "{route}");
    }
}

#[tokio::test]
async fn sizes_of_requests_have_the_labels_that_durations_have() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).scheme("https").server_addresses(["shop.example"]);
    let handler = service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(ScriptBody::default())));
    let service = layer.layer(RequestBodySizeLayer::like(&layer).layer(handler));
    let request = Request::put("/").header("host", "shop.example").body(ScriptBody::default()).unwrap();
    read(service.oneshot(request).await.unwrap().into_body()).await.unwrap();
    let both = [("url.scheme", "https"), ("server.address", "shop.example")];
    assert_eq!(["http.server.request.body.size", DURATION].map(|name| count(&registry, name, &both)), [1, 1]);
    let off = RequestBodySizeLayer::like(&layer.enabled(false)).layer(handler);
    off.oneshot(Request::put("/").body(ScriptBody::default()).unwrap()).await.unwrap();
    assert_eq!(count(&registry, "http.server.request.body.size", &[]), 1);
}

#[tokio::test]
async fn sizes_of_requests_beyond_all_series_are_counted_together_and_those_of_grpc_not_at_all() {
    let registry = Registry::with_config(MetricsConfig::default().max_series(1));
    let layer = RequestBodySizeLayer::server(&registry);
    let read = |mut request: Request<ScriptBody>, route: &'static str| {
        request.extensions_mut().insert(Route::from_static(route));
        let service = layer.layer(service_fn(async |request: Request<_>| {
            let _ = http_body_util::BodyExt::collect(request.into_body()).await;
            Ok::<_, Infallible>(Response::new(()))
        }));
        service.oneshot(request)
    };
    let post = || Request::post("/").body(ScriptBody::new(vec![Step::Data("abc")])).unwrap();
    for route in ["/first", "/second", "/third"] {
        read(post(), route).await.unwrap();
    }
    let mut grpc = post();
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    read(grpc, "/grpc").await.unwrap();
    let size = "http.server.request.body.size";
    let of = |labels: &[_]| (count(&registry, size, labels), sum(&registry, size, labels));
    assert_eq!((of(&[("http.route", "/first")]), of(&[("otel.metric.overflow", "true")])), ((1, 3.0), (2, 6.0)));
    assert_eq!(of(&[]), (3, 9.0));
}

#[tokio::test(start_paused = true)]
async fn a_route_without_a_layer_counts_into_the_same_series() {
    let registry = Registry::new();
    send(&registry, get("/items/7")).await;
    let route = RouteMetrics::server(&registry, "/items/{id}");
    let request = route.start(&Method::GET);
    assert_eq!(total(&registry, ACTIVE, &[]), 1);
    tokio::time::advance(Duration::from_millis(80)).await;
    request.end(StatusCode::OK);
    route.start(&Method::GET).end(StatusCode::SERVICE_UNAVAILABLE);
    drop(route.start(&Method::GET));
    let of = |status| [("http.route", "/items/{id}"), ("http.response.status_code", status)];
    assert_eq!((count(&registry, DURATION, &of("200")), sum(&registry, DURATION, &of("200"))), (2, 0.08));
    assert_eq!(count(&registry, DURATION, &[("error.type", "503")]), 1);
    let ended = |ending| total(&registry, REQUESTS, &[("buttress.ending", ending), ("http.route", "/items/{id}")]);
    assert_eq!((ended("complete"), ended("dropped_before_head"), total(&registry, ACTIVE, &[])), (3, 1, 0));
}

/// The layer as an observer, so that plans can be run behind it.
fn observer(registry: &Registry) -> impl Observe<(), Probe = buttress::metrics::RequestMetricsProbe> + Clone + 'static {
    RequestMetricsLayer::server(registry).observer()
}

proptest! {
    /// M2: whatever requests do, in whatever order, those that began are those that ended and those that are active.
    #[test]
    fn what_began_has_ended_in_one_way_or_is_active(
        plans in prop::collection::vec(plans(), 1..12),
        turns in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.05)), 0..150),
    ) {
        let registry = Registry::new();
        let mut exchanges: Vec<(&Plan, Running<_>, usize)> =
            plans.iter().map(|plan| (plan, plan.start(ObserveLayer::server(observer(&registry))), 0)).collect();
        for (index, leaves) in turns {
            let index = index.index(exchanges.len());
            let (_, exchange, polls) = &mut exchanges[index];
            if leaves {
                *exchange = Running::Over;
            } else if !matches!(exchange, Running::Over) {
                exchange.poll();
                *polls += 1;
            }
            let ended = exchanges.iter().filter(|(_, exchange, _)| matches!(exchange, Running::Over)).count() as i64;
            prop_assert_eq!(total(&registry, REQUESTS, &[]), ended);
            prop_assert_eq!(total(&registry, ACTIVE, &[]), plans.len() as i64 - ended);
            prop_assert_eq!(count(&registry, DURATION, &[]), ended as u64);
        }
        let mut expected = std::collections::BTreeMap::new();
        for (plan, exchange, polls) in exchanges {
            drop(exchange);
            *expected.entry(plan.ending_after(polls).as_str()).or_insert(0) += 1;
        }
        for (ending, count) in expected {
            prop_assert_eq!(total(&registry, REQUESTS, &[("buttress.ending", ending)]), count);
        }
        prop_assert_eq!(total(&registry, ACTIVE, &[]), 0);
    }
}

/// Its place among those that came first, if there is room for it.
fn place(first: &mut Vec<String>, text: &str, room: usize) -> Option<usize> {
    first.iter().position(|known| known == text).or_else(|| {
        let fits = first.len() < room;
        fits.then(|| first.push(text.to_owned()))?;
        Some(first.len() - 1)
    })
}

proptest! {
    /// M2 by host: also where there is neither a host of its own nor a series left for it.
    #[test]
    fn what_a_client_began_is_active_at_its_host_until_it_has_ended(
        plans in prop::collection::vec((plans(), 0..4_u8), 1..12),
        turns in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.05)), 0..60),
        max_hosts in 0..4_usize,
        max_series in prop_oneof![1..4_usize, Just(100)],
    ) {
        let registry = Registry::with_config(MetricsConfig::default().max_hosts(max_hosts).max_series(max_series));
        let (mut hosts, mut series) = (Vec::new(), Vec::new());
        let mut exchanges: Vec<(Running<_>, Option<usize>)> = plans.iter().map(|(plan, host)| {
            let host = format!("host-{host}.example");
            let layer = ObserveLayer::client(RequestMetricsLayer::client(&registry).observer());
            let running = plan.start_with(layer, get(&format!("http://{host}/")));
            let told = place(&mut hosts, &host, max_hosts).map_or("_OTHER", |_| &host);
            (running, place(&mut series, told, max_series))
        }).collect();
        let is_active = |exchange: &Running<_>| !matches!(exchange, Running::Over);
        for (index, leaves) in turns {
            let index = index.index(exchanges.len());
            let (exchange, _) = &mut exchanges[index];
            match leaves {
                true => *exchange = Running::Over,
                false => exchange.poll(),
            }
            let told = family(&registry, CLIENT_ACTIVE).expect("one has begun").series;
            let mut expected = std::collections::BTreeMap::new();
            for (exchange, place) in &exchanges {
                let label = place.map_or(("otel.metric.overflow", "true"), |at| ("server.address", &series[at]));
                *expected.entry(label).or_insert(0) += i64::from(is_active(exchange));
            }
            prop_assert_eq!(told.len(), expected.len());
            for ((key, value), active) in expected {
                let is_it = |label: &Label| label.key == key && label.value.to_string() == value;
                let found = told.iter().find(|series| series.labels.iter().any(is_it));
                prop_assert_eq!(found.map(|series| &series.point), Some(&Point::Int(active)), "{}", value);
            }
            let ended = exchanges.iter().filter(|(exchange, _)| !is_active(exchange)).count();
            prop_assert_eq!(count(&registry, CLIENT_DURATION, &[]), ended as u64);
        }
        let beyond = exchanges.iter().filter(|(_, place)| place.is_none()).count() as u64;
        let told = registry.snapshot().overflowed.into_iter().find(|one| &*one.metric == CLIENT_ACTIVE);
        prop_assert_eq!(told.map_or(0, |told| told.count), beyond);
        drop(exchanges);
        prop_assert_eq!(total(&registry, CLIENT_ACTIVE, &[]), 0);
    }
}

#[test]
fn no_host_ever_has_less_than_nothing_under_way_whenever_one_looks() {
    // Room for a part of it: the rest is counted beyond all series.
    let registry = Registry::with_config(MetricsConfig::default().max_hosts(2).max_series(3));
    let layer = RequestMetricsLayer::client(&registry);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let record = |hosts: [&str; 2]| {
        let mut left = Vec::new();
        for nth in 0..5_000 {
            let request = Request::builder().method(if nth % 3 == 0 { "PUT" } else { "GET" }).uri(hosts[nth % 2]);
            let mut service = layer
                .layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(ScriptBody::default()))));
            let call = tower::Service::call(&mut service, request.body(()).unwrap());
            if nth % 5 == 0 { left.push(call) } else { drop(call) }
        }
    };
    std::thread::scope(|scope| {
        let recorders = [["http://a.example", "http://b.example"], ["http://b.example", "http://c.example"]]
            .map(|hosts| scope.spawn(move || record(hosts)));
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let active = family(&registry, CLIENT_ACTIVE).map_or_else(Vec::new, |family| family.series);
                for series in active {
                    let Point::Int(active) = series.point else { panic!("a whole number") };
                    assert!((0..=10_000).contains(&active), "{active}");
                }
            }
        });
        recorders.into_iter().for_each(|recorder| recorder.join().unwrap());
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!((total(&registry, CLIENT_ACTIVE, &[]), count(&registry, CLIENT_DURATION, &[])), (0, 10_000));
    assert_eq!(labels(&registry, CLIENT_ACTIVE).len(), 4, "three, and what is beyond");
}

#[test]
fn outcomes_and_what_is_active_make_up_what_began_whenever_one_looks() {
    let registry = Registry::new();
    let recording = std::sync::atomic::AtomicBool::new(true);
    let record = |statuses: [u16; 2]| {
        let route = RouteMetrics::server(&registry, "/items/{id}");
        let mut left = Vec::new();
        for nth in 0..20_000 {
            let request = route.start(&Method::GET);
            match nth % 4 {
                0 => left.push(request),
                1 => drop(request),
                other => request.end(StatusCode::from_u16(statuses[other % 2]).unwrap()),
            }
        }
        drop(left);
    };
    let mut before = 0;
    let mut look = || {
        let snapshot = registry.snapshot();
        let sum = |name: &str| -> i64 {
            let families = snapshot.families.iter().filter(|family| *family.name == *name);
            let points = families.flat_map(|family| &family.series).map(|series| match series.point {
                Point::Int(number) => number,
                _ => panic!("a whole number"),
            });
            points.sum()
        };
        let began = sum(REQUESTS) + sum(ACTIVE);
        assert!(sum(ACTIVE) >= 0 && began >= before, "{began} after {before}");
        before = began;
        began
    };
    std::thread::scope(|scope| {
        let recorders = [[200, 500], [200, 404]].map(|statuses| scope.spawn(move || record(statuses)));
        let reader = scope.spawn(|| {
            while recording.load(std::sync::atomic::Ordering::Relaxed) {
                look();
            }
            look()
        });
        recorders.into_iter().for_each(|recorder| recorder.join().unwrap());
        recording.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(reader.join().unwrap(), 40_000);
    });
    assert_eq!((total(&registry, ACTIVE, &[]), total(&registry, REQUESTS, &[])), (0, 40_000));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fits_in_no_series_is_active_until_it_has_ended_all_the_same() {
    let registry = Registry::with_config(MetricsConfig::default().max_series(1));
    let route = RouteMetrics::server(&registry, "/items/{id}");
    send(&registry, get("/items/7")).await;
    let service = RequestMetricsLayer::server(&registry).layer(service_fn(answer));
    let open = service.oneshot(Request::put("/stream").body(()).unwrap()).await.unwrap();
    let by_hand = route.start(&Method::DELETE);
    for (method, active) in [("GET", 0), ("PUT", 1), ("DELETE", 1)] {
        assert_eq!(total(&registry, ACTIVE, &[("http.request.method", method)]), active, "{method}");
    }
    read(open.into_body()).await.unwrap();
    by_hand.end(StatusCode::OK);
    assert_eq!((total(&registry, ACTIVE, &[]), total(&registry, REQUESTS, &[])), (0, 3));
    assert_eq!(count(&registry, DURATION, &[("otel.metric.overflow", "true")]), 2);
    assert_eq!(registry.performance().active_requests, 0);
}

#[test]
fn a_request_in_a_sampled_trace_leaves_an_exemplar_and_in_another_trace_none() {
    let registry = Registry::new();
    let route = RouteMetrics::server(&registry, "/items/{id}");
    let record = || route.start(&Method::GET).end_after(StatusCode::OK, Duration::from_millis(7));
    let exemplars = || {
        let points = histograms(&registry, DURATION, &[]);
        points.iter().flat_map(|point| point.exemplars.iter().flatten().copied()).collect::<Vec<_>>()
    };
    let context = |flags| {
        let mut trace = TraceContext::random();
        trace.flags = flags;
        Context::from_trace(trace)
    };
    let (sampled, other) = (context(TraceFlags::SAMPLED), context(TraceFlags::NONE));
    // Twice, so that everything has its place already.
    for _ in 0..2 {
        record();
        sampled.enter(|| other.enter(record));
    }
    assert_eq!(exemplars(), []);
    other.enter(|| sampled.enter(record));
    record();
    assert_eq!(exemplars().iter().map(|exemplar| exemplar.trace_id).collect::<Vec<_>>(), [sampled.trace_id()]);
    assert_eq!(count(&registry, DURATION, &[]), 6);
}
