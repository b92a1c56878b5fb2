//! The handle that ties the parts together.
#![cfg(all(feature = "telemetry", feature = "axum"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get as on_get;
use buttress::Telemetry;
use buttress::observe::When;
use buttress::propagate::Hosts;
use buttress::settings::Settings;
use buttress::telemetry::Flush;
use buttress::trace::{FlushError, LateDecision, Sampler, SpanKind, SpanRecord, SpanSink};
use http::{Request, Response};
use http_body_util::BodyExt;
use support::{Answer, Canned, PARENT_ID, TRACE_ID, TRACEPARENT, answer, attribute, exchange, get};
use tower::{Service, ServiceExt};

fn telemetry(variables: &[(&str, &str)]) -> Telemetry {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Telemetry::new(Settings::read("storefront", find).expect("these values are accepted"))
}

/// A shop that asks its stock, which answers whatever it is asked.
fn shop(telemetry: &Telemetry, stock: &Canned) -> Router {
    let client = telemetry.watched_client("stock").service(stock.clone());
    let handler = async move || {
        let Ok(response) = client.oneshot(get("/items/7", &[])).await;
        drop(response.into_body().collect().await);
        "item"
    };
    Router::new().route("/items/{id}", on_get(handler)).layer(telemetry.server())
}

async fn ask<S>(mut service: S, headers: &[(&str, &str)]) -> http::HeaderMap
where
    S: Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible>,
{
    let Ok(response) = service.call(get("/items/7", headers).map(|()| Body::empty())).await;
    let (head, body) = response.into_parts();
    drop(body.collect().await);
    head.headers
}

#[tokio::test]
async fn a_call_from_a_handler_is_the_child_of_the_request() {
    let telemetry = telemetry(&[]);
    let stock = Canned::new(answer(200));
    let headers = ask(shop(&telemetry, &stock), &[("traceparent", TRACEPARENT)]).await;

    let [server, client] = &telemetry.latest_spans(9)[..] else { panic!("two spans") };
    assert_eq!((server.kind, server.name.as_ref()), (SpanKind::Server, "GET /items/{id}"));
    assert_eq!(server.parent_span_id.unwrap().to_string(), PARENT_ID);
    assert_eq!((client.kind, client.parent_span_id), (SpanKind::Client, Some(server.span_id)));
    assert_eq!(client.trace_id.to_string(), TRACE_ID);
    assert_eq!(attribute(client, "server.address").unwrap(), "stock");
    assert_eq!(headers["x-span-id"], server.span_id.to_string());
    assert_eq!(stock.seen().0["traceparent"], format!("00-{TRACE_ID}-{}-01", client.span_id));
}

#[tokio::test]
async fn disabled_it_passes_everything_through_untouched() {
    let telemetry = telemetry(&[("OTEL_SDK_DISABLED", "true")]);
    let stock = Canned::new(answer(200));
    let headers = ask(shop(&telemetry, &stock), &[("traceparent", TRACEPARENT)]).await;
    assert!(!headers.contains_key("x-trace-id") && !headers.contains_key("x-span-id"));
    assert!(stock.seen().0.is_empty() && stock.seen().1.is_none());
    assert_eq!(telemetry.spans().stats().recorded, 0);
    for layer in [telemetry.propagate().server_timing(true)] {
        assert!(exchange(layer, get("/", &[]), answer(200)).await.head.headers.is_empty());
    }
    assert!(exchange(telemetry.trace(), get("/", &[]), answer(200)).await.context.is_none());
}

#[tokio::test]
async fn a_public_service_restarts_traces_and_links_them() {
    let telemetry = telemetry(&[("BUTTRESS_TRUST", "public"), ("BUTTRESS_SERVER_TIMING", "true")]);
    let headers = ask(shop(&telemetry, &Canned::new(answer(200))), &[("traceparent", TRACEPARENT)]).await;
    let server = &telemetry.latest_spans(1)[0];
    assert_ne!(server.trace_id.to_string(), TRACE_ID);
    assert_eq!(server.links[0].trace.trace_id.to_string(), TRACE_ID);
    assert!(headers["server-timing"].to_str().unwrap().ends_with("-03"));
}

#[tokio::test]
async fn propagators_choose_the_headers_that_are_read_and_written() {
    let telemetry = telemetry(&[("OTEL_PROPAGATORS", "b3,b3multi")]);
    let stock = Canned::new(answer(200));
    let b3 = format!("0af7651916cd43dd8448eb211c80319c-{PARENT_ID}-1");
    let headers = [("traceparent", TRACEPARENT), ("baggage", "a=1"), ("b3", &b3)];
    ask(shop(&telemetry, &stock), &headers).await;
    let server = &telemetry.latest_spans(1)[0];
    assert_eq!(server.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    let sent = stock.seen().0;
    assert!(sent["b3"].to_str().unwrap().starts_with("0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!(sent["x-b3-traceid"], "0af7651916cd43dd8448eb211c80319c");
    assert!(!sent.contains_key("traceparent") && !sent.contains_key("baggage"));
}

#[tokio::test]
async fn the_sampler_of_the_settings_decides_for_server_and_client() {
    let telemetry = telemetry(&[("OTEL_TRACES_SAMPLER", "always_off")]);
    ask(shop(&telemetry, &Canned::new(answer(200))), &[("traceparent", TRACEPARENT)]).await;
    assert_eq!(telemetry.spans().stats().recorded, 0);
}

/// The lines of the page for Prometheus that begin so, after a tick.
async fn lines(telemetry: &Telemetry, begin: &str) -> Vec<String> {
    telemetry.metrics().tick();
    let Ok(page) = telemetry.metrics_endpoint().oneshot(get("/metrics", &[]).map(|()| Body::empty())).await;
    let page = page.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.into()).unwrap();
    page.lines().filter(|line| line.starts_with(begin)).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn the_page_tells_what_the_sampler_said_of_the_spans_that_were_started() {
    let quiet = [(When::method(http::Method::DELETE), Sampler::always_off())];
    let limited = Sampler::rules(quiet, Sampler::per_second(1));
    let telemetry = telemetry(&[]).with_sampler(Sampler::parent_based(limited));
    for nth in 0..3 {
        exchange(telemetry.trace(), get("/", &[]), answer(200)).await;
        assert_eq!(telemetry.spans().stats().rate_limited, nth, "one a second");
    }
    let request = || http::Request::delete("/").body(()).unwrap();
    exchange(telemetry.trace(), request(), answer(200)).await;
    ask(shop(&telemetry, &Canned::new(answer(200))), &[("traceparent", TRACEPARENT)]).await;
    let late = telemetry.trace().late_decision(LateDecision::errors(9));
    for status in [200, 500] {
        exchange(late.clone(), request(), answer(status)).await;
    }

    let started = |origin: &str, result: &str, count: u32| {
        let labels = format!("otel_span_parent_origin=\"{origin}\",otel_span_sampling_result=\"{result}\"");
        format!("otel_sdk_span_started_total{{{labels}}} {count}")
    };
    let mut lines_of_started = lines(&telemetry, "otel_sdk_span_started_total").await;
    lines_of_started.sort();
    assert_eq!(
        lines_of_started,
        [
            started("local", "RECORD_AND_SAMPLE", 1),
            started("none", "DROP", 3),
            started("none", "RECORD_AND_SAMPLE", 1),
            started("none", "RECORD_ONLY", 2),
            started("remote", "RECORD_AND_SAMPLE", 1),
        ]
    );
    assert_eq!(
        lines(&telemetry, "buttress_sampler_rate_limited_total").await,
        ["buttress_sampler_rate_limited_total 2"]
    );
    assert_eq!(lines(&telemetry, "buttress_sampler_kept_late_total").await, ["buttress_sampler_kept_late_total 1"]);
}

#[tokio::test]
async fn spans_and_metrics_of_both_sides_agree_on_the_methods_that_are_known() {
    let telemetry = telemetry(&[("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET,PROPFIND")]);
    let request = |method: &str| http::Request::builder().method(method).uri("http://stock/").body(()).unwrap();
    for method in ["PROPFIND", "POST", "propfind", "GET"] {
        let client = telemetry.watched_client("stock").service(Canned::new(answer(200)));
        for _ in 0..2 {
            let Ok(response) = client.clone().oneshot(request(method)).await;
            drop(response.into_body().collect().await);
        }
        exchange(telemetry.server(), request(method), answer(200)).await;
        let known = matches!(method, "GET" | "PROPFIND");
        for span in &telemetry.latest_spans(3) {
            assert_eq!(attribute(span, "http.request.method").unwrap(), if known { method } else { "_OTHER" });
            let original = attribute(span, "http.request.method_original");
            assert_eq!(original.as_deref(), (!known).then_some(method));
            assert_eq!(span.name, if known { method } else { "HTTP" });
        }
    }
    for (family, times) in [("http_server_request_duration_seconds", 1), ("http_client_request_duration_seconds", 2)] {
        let counts = lines(&telemetry, &format!("{family}_count")).await;
        let count = |method: &str| {
            let label = format!("http_request_method=\"{method}\"");
            let of_method = counts.iter().filter(|line| line.contains(&label));
            of_method.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum::<u32>()
        };
        assert_eq!(["GET", "PROPFIND", "_OTHER"].map(count), [times, times, 2 * times], "{counts:#?}");
        assert_eq!(counts.len(), 3);
    }
    let active = lines(&telemetry, "http_server_active_requests{").await;
    assert!(active.iter().any(|line| line.contains("PROPFIND") && line.ends_with(" 0")), "{active:?}");
}

#[tokio::test]
async fn both_parts_of_a_client_can_be_changed() {
    let telemetry = telemetry(&[]);
    let stock = Canned::new(answer(200));
    let client = telemetry
        .watched_client("stock")
        .trace(|trace| trace.scheme("https"))
        .inject(|inject| inject.trace(Hosts::none()))
        .service(stock.clone());
    drop(client.oneshot(get("/items", &[])).await);
    assert!(!stock.seen().0.contains_key("traceparent"));
    assert_eq!(attribute(&telemetry.latest_spans(1)[0], "url.full").unwrap(), "https://stock/items");
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Arc<SpanRecord>>>>);

impl SpanSink for Kept {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        self.0.lock().unwrap().extend_from_slice(spans);
    }
}

#[tokio::test]
async fn shutting_down_delivers_what_was_recorded() {
    let kept = Kept::default();
    let telemetry = telemetry(&[]).with_sink(kept.clone());
    let stock: Answer = answer(200);
    ask(shop(&telemetry, &Canned::new(stock)), &[]).await;
    telemetry.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(kept.0.lock().unwrap().len(), 2);
    assert_eq!(telemetry.spans().stats().exported, 2);
}

#[tokio::test]
async fn clones_share_their_spans() {
    let telemetry = telemetry(&[]);
    ask(shop(&telemetry.clone(), &Canned::new(answer(200))), &[]).await;
    assert_eq!(telemetry.latest_spans(9).len(), 2);
    assert!(telemetry.explain().contains("service_name = \"storefront\" (default)"));
}

/// Delivers nothing but this.
struct Delivers(fn() -> Result<(), FlushError>);

impl Flush for Delivers {
    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        Box::pin(async { (self.0)() })
    }
}

/// Never comes to an end.
struct Hangs;

impl Flush for Hangs {
    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_delivers_what_is_no_span_too_whatever_becomes_of_the_others() {
    static DELIVERED: AtomicUsize = AtomicUsize::new(0);
    let deliver = || {
        DELIVERED.fetch_add(1, Relaxed);
        Ok(())
    };
    let healthy = telemetry(&[]).with_flush(Delivers(deliver));
    // Clones share what is flushed.
    healthy.clone().shutdown(Duration::from_secs(5)).await.expect("it is delivered");

    let reason = |telemetry: Telemetry| async move {
        let error = telemetry.shutdown(Duration::from_secs(5)).await.expect_err("one of them fails");
        error.to_string()
    };
    let refused = healthy.with_flush(Delivers(|| Err(FlushError::new("refused")))).with_flush(Delivers(deliver));
    assert_eq!(reason(refused).await, "not everything was delivered: refused");
    let panics = telemetry(&[]).with_flush(Delivers(|| panic!("told to"))).with_flush(Delivers(deliver));
    assert!(reason(panics).await.contains("panicked"));
    let hangs = telemetry(&[]).with_flush(Hangs).with_flush(Delivers(deliver));
    assert!(reason(hangs).await.contains("deadline"));
    assert_eq!(DELIVERED.load(Relaxed), 5);
}
