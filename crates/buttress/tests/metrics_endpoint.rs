//! The page of metrics as it is served: paths, methods, formats, frameworks.
#![cfg(all(feature = "telemetry", feature = "axum"))]

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use buttress::Telemetry;
use buttress::metrics::source::{CacheMetrics, RuntimeMonitor, StreamKind, StreamMetrics};
use buttress::metrics::{Buckets, MetricsConfig, MetricsEndpoint, Registry, RequestMetricsLayer};
use buttress::settings::Settings;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};

fn endpoint() -> MetricsEndpoint {
    let registry = Registry::new();
    registry.counter("hits").with(()).add(1);
    MetricsEndpoint::new(&registry).resource([("service.name", "shop")])
}

fn request(method: Method, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).expect("a valid request")
}

async fn ask<S, B>(service: S, request: Request<Body>) -> (http::response::Parts, String)
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible>,
    B: http_body::Body<Data: Send, Error: std::fmt::Debug>,
{
    let Ok(answer) = service.oneshot(request).await;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("the page is in memory").to_bytes();
    (head, String::from_utf8(body.into()).expect("text"))
}

#[tokio::test]
async fn who_says_nothing_gets_text_and_who_asks_for_open_metrics_gets_that() {
    let (head, page) = ask(endpoint(), request(Method::GET, "/metrics")).await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.headers[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(page.contains("hits_total 1\n") && page.contains("target_info{service_name=\"shop\"} 1\n"), "{page}");

    let mut asks = request(Method::GET, "/metrics");
    asks.headers_mut().insert(ACCEPT, "application/openmetrics-text".parse().expect("a valid value"));
    let (head, page) = ask(endpoint(), asks).await;
    assert_eq!(head.headers[CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(page.ends_with("# EOF\n"), "{page}");
}

#[tokio::test]
async fn caches_are_told_that_the_page_depends_on_who_asks() {
    let (head, _) = ask(endpoint(), request(Method::GET, "/metrics")).await;
    assert_eq!(head.headers[VARY], "accept");
}

#[tokio::test]
async fn head_tells_the_length_of_the_page_that_it_leaves_out() {
    let (full, page) = ask(endpoint(), request(Method::GET, "/metrics")).await;
    let (head, nothing) = ask(endpoint(), request(Method::HEAD, "/metrics")).await;
    assert_eq!(head.headers, full.headers);
    assert_eq!(head.headers[CONTENT_LENGTH], page.len().to_string());
    assert_eq!(nothing, "");
}

#[tokio::test]
async fn other_methods_are_not_allowed_and_other_paths_not_found() {
    let (head, _) = ask(endpoint(), request(Method::POST, "/metrics")).await;
    assert_eq!(head.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(head.headers[ALLOW], "GET, HEAD");
    for path in ["/", "/metrics/", "/METRICS", "/other"] {
        assert_eq!(ask(endpoint(), request(Method::POST, path)).await.0.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn pages_of_prometheus_can_be_turned_on_and_off() {
    let alias = || request(Method::GET, "/internal/metrics?verbose=1");
    assert_eq!(ask(endpoint(), alias()).await.0.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(endpoint().internal(true), alias()).await.0.status, StatusCode::OK);
    let silent = endpoint().internal(true).prometheus(false);
    for path in ["/metrics", "/internal/metrics"] {
        assert_eq!(ask(silent.clone(), request(Method::GET, path)).await.0.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_alias_is_there_when_a_setting_says_so() {
    let answer = async |value: Option<&str>| {
        let read = |name: &str| value.filter(|_| name == "BUTTRESS_METRICS_INTERNAL").map(str::to_owned);
        let telemetry = Telemetry::new(Settings::read("shop", read).unwrap());
        ask(telemetry.metrics_endpoint(), request(Method::GET, "/internal/metrics")).await.0.status
    };
    assert_eq!(answer(None).await, StatusCode::NOT_FOUND);
    assert_eq!(answer(Some("false")).await, StatusCode::NOT_FOUND);
    assert_eq!(answer(Some("true")).await, StatusCode::OK);
}

#[tokio::test]
async fn it_is_a_service_for_each_place_of_a_router() {
    let places = [
        (Router::new().route_service("/metrics", endpoint()), "/metrics"),
        (endpoint().router(), "/metrics"),
        (Router::new().fallback_service(endpoint()), "/metrics"),
        (Router::new().nest_service("/ops", endpoint()), "/ops/metrics"),
        (Router::new().nest_service("/ops", endpoint().internal(true)), "/ops/internal/metrics"),
    ];
    for (router, path) in places {
        let (head, page) = ask(router, request(Method::GET, path)).await;
        assert_eq!(head.status, StatusCode::OK, "{path}");
        assert!(page.contains("hits_total 1\n"), "{path}: {page}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_summary_has_the_numbers_of_a_service() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry);
    for (millis, status) in [(20, 200), (20, 200), (300, 500), (20_000, 200)] {
        let service = layer.layer(service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
        }));
        service.oneshot(request(Method::GET, "/")).await.unwrap();
    }
    let cache = CacheMetrics::new(&registry, "prices");
    (0..3).for_each(|_| cache.hit());
    cache.miss();
    let sockets = StreamMetrics::new(&registry, StreamKind::Websocket);
    drop(sockets.open());
    let socket = sockets.open();
    socket.message_out(10);
    (0..2).for_each(|_| socket.message_in(10));

    let (head, page) = ask(MetricsEndpoint::new(&registry), request(Method::GET, "/diagnostics/metrics")).await;
    assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["total_requests"], 4);
    assert_eq!(page["error_rate"], 0.25);
    assert_eq!(page["avg_latency_ms"], 5085.0);
    let p50 = page["p50_latency_ms"].as_f64().unwrap();
    assert!((20.0..20.7).contains(&p50), "{p50}");
    assert_eq!(page["apdex"], 0.5, "of two that are fast, one that failed and one that is slow");
    let (rate, seconds) = (page["requests_per_second"].as_f64().unwrap(), page["window_seconds"].as_f64().unwrap());
    assert!((20.0..21.0).contains(&seconds) && (rate * seconds - 4.0).abs() < 1e-9, "{rate} in {seconds}");
    let histogram = page["latency_histogram"].as_object().unwrap();
    assert_eq!((&histogram["25"], &histogram["500"], &histogram["10000"]), (&json!(2), &json!(3), &json!(3)));
    assert_eq!(histogram["+Inf"], 4);
    assert_eq!(page["cache"], json!({ "hits": 3, "misses": 1, "evictions": 0, "hit_rate": 0.75 }));
    let websocket = json!({ "open_connections_estimate": 1, "messages_sent": 1, "messages_received": 2 });
    assert_eq!(page["websocket"], websocket);
    let usage = registry.window_usage();
    assert!(usage.bytes > 0);
    let windows = json!({
        "bytes": usage.bytes, "budget": 16 << 20, "windows": usage.windows, "coarsened": false, "rounded": 0, "sharing": 0,
    });
    assert_eq!(page["windows"], windows);
    assert_eq!(page["event_loop"]["monitoring_active"], false);
}

#[tokio::test(start_paused = true)]
async fn calls_of_grpc_are_among_the_latencies_of_the_summary() {
    let registry = Registry::new();
    let service = RequestMetricsLayer::server(&registry).layer(service_fn(async |_: Request<Body>| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let mut call = request(Method::POST, "/shop.Inventory/Reserve");
    call.headers_mut().insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    service.clone().oneshot(call).await.unwrap();
    service.oneshot(request(Method::GET, "/")).await.unwrap();
    let (_, page) = ask(MetricsEndpoint::new(&registry), request(Method::GET, "/diagnostics/metrics")).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["latency_histogram"]["10"], &page["latency_histogram"]["25"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn bounds_of_the_summary_are_milliseconds_as_people_write_them() {
    let bounds = [2050, 2500].map(Duration::from_micros);
    let buckets = Buckets::durations(bounds).unwrap();
    let registry = Registry::with_config(MetricsConfig::default().duration_buckets(buckets));
    let (_, page) = ask(MetricsEndpoint::new(&registry), request(Method::GET, "/diagnostics/metrics")).await;
    assert!(page.contains("\"latency_histogram\":{\"2.05\":0,\"2.5\":0,\"+Inf\":0}"), "{page}");
}

#[tokio::test]
async fn the_performance_page_tells_numbers_of_the_process_by_name_and_labels_and_no_others() {
    let registry = Registry::new();
    let told = [
        "buttress.cgroup.cpu.limit",
        "buttress.process.file_descriptor.limit",
        "buttress.runtime.workers",
        "container.memory.usage",
        "process.uptime",
        "system.memory.limit",
    ];
    told.iter().for_each(|name| registry.gauge(name).with([("of", "this"), ("and", "that")]).set(2.5));
    registry.counter("process.disk.io").with(()).add(7);
    registry.gauge("orders.open").with(()).set(1.0);
    registry.timer("buttress.runtime.timer_lag").with(()).record(Duration::ZERO);
    let (_, page) = ask(MetricsEndpoint::new(&registry), request(Method::GET, "/diagnostics/performance")).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let gauges = told.iter().map(|name| (format!("{name}{{of=this,and=that}}"), json!(2.5)));
    let expected = gauges.chain([("process.disk.io".to_owned(), json!(7.0))]).collect();
    assert_eq!(page["process"], Value::Object(expected));
}

/// Each of these is told as that, or above it by the error of a window, but for some that are hardly there.
fn are_told(page: &Value, what: &str, numbers: &[(&str, f64)]) {
    for (name, exact) in numbers {
        let told = page[format!("{name}_{what}_ms")].as_f64().expect("a number");
        assert!((exact * 0.999..=exact * 1.032).contains(&told), "{name} of {what}: {told} for {exact}");
    }
}

#[tokio::test(start_paused = true)]
async fn percentiles_of_the_summary_are_those_that_their_names_say() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry);
    for millis in 1..=100 {
        let service = layer.layer(service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        service.oneshot(request(Method::GET, "/")).await.unwrap();
    }
    let monitor = RuntimeMonitor::start(&registry);
    // So many that its own, which are few, do not count.
    let delay = registry.timer("buttress.runtime.injection_delay").with(());
    (1..=100).for_each(|millis| delay.record_many(Duration::from_millis(10 * millis), 10_000));
    let (_, page) = ask(MetricsEndpoint::new(&registry), request(Method::GET, "/diagnostics/metrics")).await;
    drop(monitor);
    let page: Value = serde_json::from_str(&page).unwrap();
    let latency = [("avg", 50.5), ("p50", 50.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("max", 100.0)];
    are_told(&page, "latency", &latency);
    let lag = [("avg", 505.0), ("p50", 500.0), ("p95", 950.0), ("p99", 990.0), ("max", 1000.0)];
    are_told(&page["event_loop"], "lag", &lag);
}

#[tokio::test]
async fn the_summary_tells_what_did_not_fit_and_what_was_asked_for_twice() {
    let registry = Registry::with_config(MetricsConfig::default().max_series(1).window_budget(0));
    let placed = registry.counter("orders.placed");
    for tenant in ["acme", "other", "other", "third"] {
        placed.with([("tenant", tenant)]).add(1);
    }
    registry.gauge("orders.placed").with(()).set(1.0);
    registry.histogram("sizes").with(()).record(1);
    let (_, page) = ask(MetricsEndpoint::new(&registry), request(Method::GET, "/diagnostics/metrics")).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let refused = json!({
        "metric": "orders.placed", "label": "", "count": 3, "top": [["tenant=other", 2], ["tenant=third", 1]],
    });
    assert_eq!((&page["overflowed"], &page["conflicts"]), (&json!([refused]), &json!(["orders.placed"])));
    let windows = &page["windows"];
    assert_eq!((&windows["budget"], &windows["windows"], &windows["sharing"]), (&json!(0), &json!(0), &json!(1)));
}

#[tokio::test]
async fn the_buckets_of_the_summary_are_those_of_the_setting() {
    let text = "25,50,100,200,350,500,750,1000,1500,2500,5000";
    let settings =
        Settings::read("shop", |name| (name == "METRICS_HISTOGRAM_BUCKETS").then(|| text.to_owned())).unwrap();
    let telemetry = Telemetry::new(settings);
    let (_, before) = ask(telemetry.metrics_endpoint(), request(Method::GET, "/diagnostics/metrics")).await;
    // In their order, whether there was a request or not.
    let none: Vec<String> = text.split(',').chain(["+Inf"]).map(|bound| format!("\"{bound}\":0")).collect();
    assert!(before.contains(&format!("\"latency_histogram\":{{{}}}", none.join(","))), "{before}");
    let served = telemetry
        .server()
        .layer(service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))));
    served.oneshot(request(Method::GET, "/")).await.unwrap();
    let (_, page) = ask(telemetry.metrics_endpoint(), request(Method::GET, "/diagnostics/metrics")).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let bounds: Vec<&str> = page["latency_histogram"].as_object().unwrap().keys().map(String::as_str).collect();
    // In whatever order the map of the parser has them.
    let mut expected: Vec<&str> = text.split(',').chain(["+Inf"]).collect();
    expected.sort_unstable();
    assert_eq!(bounds, expected);
    assert_eq!(page["event_loop"]["monitoring_active"], true);
}

#[tokio::test]
async fn the_performance_page_tells_routes_and_the_process() {
    let telemetry = Telemetry::from_env("shop").unwrap();
    let app: Router = Router::new()
        .route("/items/{id}", axum::routing::get(async || "item"))
        .layer(telemetry.server())
        .merge(telemetry.metrics_endpoint().router());
    app.clone().oneshot(request(Method::GET, "/items/7")).await.unwrap().into_body().collect().await.unwrap();
    telemetry.metrics().tick();
    let (head, page) = ask(app, request(Method::GET, "/diagnostics/performance")).await;
    assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["server"]["routes"][0]["route"], "/items/{id}");
    assert_eq!(page["server"]["routes"][0]["endings"], json!({ "complete": 1 }));
    assert_eq!((&page["server"]["total_requests"], &page["client"]["total_requests"]), (&json!(1), &json!(0)));
    assert!(page["process"]["process.uptime"].is_f64(), "{page}");
}
