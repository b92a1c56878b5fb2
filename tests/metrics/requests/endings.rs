//! What becomes of requests, each counted once.

use std::time::Duration;

use buttress::classify::{Ending, Outcome};
use buttress::metrics::{Registry, RequestMetricsLayer};
use buttress_tests::numbers::{count, labels, sum, total};
use buttress_tests::read;
use http::{Method, Request, Version};
use tower::{Layer, ServiceExt, service_fn};

use crate::{ACTIVE, BODY, DURATION, FIRST_BYTE, REQUESTS, SIZE, answer, get, send};

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

#[tokio::test]
async fn a_layer_that_is_off_counts_nothing() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).enabled(false);
    read(layer.layer(service_fn(answer)).oneshot(get("/items/7")).await.unwrap().into_body()).await.unwrap();
    assert!(registry.snapshot().families.is_empty());
}
