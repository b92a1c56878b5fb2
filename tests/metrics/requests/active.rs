//! What is under way: begun is ended and active, whenever one looks.

use std::convert::Infallible;

use buttress::metrics::{Label, MetricsConfig, Point, Registry, RequestMetricsLayer, RouteMetrics};
use buttress::observe::{Observe, ObserveLayer};
use buttress_tests::numbers::{count, family, labels, total};
use buttress_tests::plan::{Plan, Running, plans};
use buttress_tests::{ScriptBody, read};
use http::{Method, Request, Response, StatusCode};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use crate::{ACTIVE, CLIENT_ACTIVE, CLIENT_DURATION, DURATION, REQUESTS, answer, get, send};

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
