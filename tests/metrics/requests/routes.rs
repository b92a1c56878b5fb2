//! Routes: without a layer, and as one looks at their performance.

use std::time::Duration;

use buttress::metrics::{Registry, RouteMetrics};
use buttress_tests::numbers::{count, sum, total};
use http::{Method, StatusCode};

use crate::{ACTIVE, DURATION, REQUESTS, get, send};

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
