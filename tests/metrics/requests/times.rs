//! How long requests take, in which bucket, and with which exemplar.

use std::convert::Infallible;
use std::time::Duration;

use buttress::context::{Context, TraceContext, TraceFlags};
use buttress::metrics::{Registry, RequestMetricsLayer, RouteMetrics};
use buttress_tests::numbers::{count, histograms, sum, total};
use buttress_tests::{ScriptBody, Step, read};
use http::{Method, Request, Response, StatusCode};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

use crate::{ACTIVE, BODY, DURATION, FIRST_BYTE, REQUESTS, SIZE, answer, get, send};

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

#[tokio::test(start_paused = true)]
async fn an_exchange_ends_with_its_head_where_the_layer_is_told_so() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).end_with_head(true);
    let response = layer.layer(service_fn(answer)).oneshot(get("/stream")).await.unwrap();
    assert_eq!((count(&registry, DURATION, &[]), total(&registry, ACTIVE, &[])), (1, 0));
    read(response.into_body()).await.unwrap();
    assert_eq!((count(&registry, DURATION, &[]), sum(&registry, DURATION, &[])), (1, 0.0));
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

/// On the longer path, which makes the places, and on the shorter, which finds them.
#[tokio::test(start_paused = true)]
async fn a_body_that_takes_no_time_is_no_body_of_no_length_among_those_that_take_some() {
    let registry = Registry::new();
    let send = async |millis| {
        let service = service_fn(move |_: Request<()>| async move {
            let body = [Step::Wait(Duration::from_millis(millis)), Step::Data("chunk")];
            // Nothing to wait for is no step.
            let body = body.into_iter().skip(usize::from(millis == 0));
            Ok::<_, Infallible>(Response::new(ScriptBody::new(body)))
        });
        let service = RequestMetricsLayer::server(&registry).layer(service);
        read(service.oneshot(get("/")).await.unwrap().into_body()).await.unwrap();
    };
    for (millis, bodies) in [(0, 0), (0, 0), (100, 1), (100, 2), (0, 2), (0, 2)] {
        send(millis).await;
        assert_eq!(count(&registry, BODY, &[]), bodies);
    }
    assert_eq!((count(&registry, FIRST_BYTE, &[]), count(&registry, DURATION, &[])), (6, 6));
}
