//! The page of metrics as it is served: paths, methods, formats, frameworks.
#![cfg(feature = "metrics")]

use axum::Router;
use axum::body::Body;
use buttress::metrics::{MetricsEndpoint, Registry};
use http::header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};

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
async fn the_internal_alias_can_be_turned_off() {
    let path = || request(Method::GET, "/internal/metrics?verbose=1");
    assert_eq!(ask(endpoint(), path()).await.0.status, StatusCode::OK);
    assert_eq!(ask(endpoint().internal(false), path()).await.0.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn it_is_a_service_for_each_place_of_a_router() {
    let places = [
        (Router::new().route_service("/metrics", endpoint()), "/metrics"),
        (Router::new().fallback_service(endpoint()), "/metrics"),
        (Router::new().nest_service("/ops", endpoint()), "/ops/metrics"),
        (Router::new().nest_service("/ops", endpoint()), "/ops/internal/metrics"),
    ];
    for (router, path) in places {
        let (head, page) = ask(router, request(Method::GET, path)).await;
        assert_eq!(head.status, StatusCode::OK, "{path}");
        assert!(page.contains("hits_total 1\n"), "{path}: {page}");
    }
}
