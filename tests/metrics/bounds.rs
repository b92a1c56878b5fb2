//! Nothing grows without bound, whatever callers send.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire},
};

use buttress::metrics::{MetricsConfig, Registry, RequestMetricsLayer};
use buttress::observe::Route;
use buttress::window::Span;
use buttress_tests::numbers::{count, labels, total};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response};
use http_body_util::Empty;
use tower::{Layer, Service, service_fn};

const MILLION: u32 = 1_000_000;

fn answer(_: Request<()>) -> Ready<Result<Response<Empty<Bytes>>, Infallible>> {
    ready(Ok(Response::default()))
}

/// A million requests, half of them served and half of them sent.
fn storm(registry: &Registry) {
    let mut server = RequestMetricsLayer::server(registry).layer(service_fn(answer));
    let mut client = RequestMetricsLayer::client(registry).layer(service_fn(answer));
    let odd = Route::from(Arc::from("/a/router/that/tells/paths"));
    for nth in 0..MILLION {
        // One of ten is the same, so that there is somebody to be found out.
        let id = if nth % 10 == 0 { 0 } else { nth };
        let mut request = Request::new(());
        *request.uri_mut() = format!("http://host-{id}.example/path/{id}").parse().expect("a URI");
        *request.method_mut() = Method::from_bytes(format!("M{id}").as_bytes()).expect("a method");
        // What a router should never do: a template for each path.
        let template = if nth % 3 == 0 { odd.clone() } else { Route::from(Arc::from(format!("/path/{id}"))) };
        request.extensions_mut().insert(template);
        let service = if nth % 2 == 0 { &mut server } else { &mut client };
        service.call(request).now_or_never().expect("answers at once").unwrap();
        if nth % 10_000 == 0 {
            registry.tick();
        }
    }
    registry.tick();
}

#[test]
fn a_million_random_paths_hosts_and_methods_stay_within_the_bounds() {
    let registry = Registry::new();
    let memory = allocation_counter::measure(|| storm(&registry));
    let usage = registry.window_usage();
    assert_eq!(usage.budget, 16 << 20);
    // All of it: windows, the cells of 1,200 series and the tables that find them.
    assert!(memory.bytes_current <= i64::try_from(usage.budget).unwrap(), "{memory:?}");

    let half = u64::from(MILLION / 2);
    assert_eq!(total(&registry, "buttress.http.server.requests", &[]), i64::from(MILLION / 2));
    assert_eq!(count(&registry, "http.server.request.duration", &[]), half);
    assert_eq!(count(&registry, "http.client.request.duration", &[]), half);
    // So many and `_OTHER`, by default.
    assert_eq!(labels(&registry, "http.server.request.duration").len(), 1001);
    assert_eq!(labels(&registry, "http.client.request.duration").len(), 201);
    assert_eq!(labels(&registry, "http.client.active_requests").len(), 201);
    assert_eq!(total(&registry, "http.client.active_requests", &[]), 0);

    let snapshot = registry.snapshot();
    assert!(usage.bytes <= usage.budget, "{usage:?}");
    let overflowed = |metric: &str, label: &str| {
        let found = snapshot.overflowed.iter().find(|one| &*one.metric == metric && one.label == label);
        found.expect("it has overflown").clone()
    };
    let routes = overflowed("http.server.request.duration", "http.route");
    assert!(routes.count > 250_000, "{}", routes.count);
    let hosts = overflowed("http.client.request.duration", "server.address");
    assert!(hosts.count > 400_000, "{}", hosts.count);
    let methods = overflowed("http.server.request.duration", "http.request.method");
    assert_eq!((methods.count, methods.top[0].value.as_str()), (half, "M0"));
    assert!(methods.top.len() <= 16);
    let of_methods = [("buttress.metric", "http.server.request.duration"), ("buttress.label", "http.request.method")];
    assert_eq!(total(&registry, "buttress.metrics.overflow", &of_methods), methods.count as i64);
}

#[test]
fn so_many_grpc_methods_are_told_apart_and_no_more() {
    let registry = Registry::with_config(MetricsConfig::default().max_routes(3));
    let mut client = RequestMetricsLayer::client(&registry).layer(service_fn(answer));
    for nth in 0..10 {
        let call = Request::post(format!("http://shop.example/shop.Inventory/Method{nth}"));
        let call = call.header("content-type", "application/grpc").body(()).expect("a valid request");
        client.call(call).now_or_never().expect("answers at once").expect("answers");
    }
    assert_eq!(labels(&registry, "rpc.client.call.duration").len(), 4);
    assert_eq!(count(&registry, "rpc.client.call.duration", &[("rpc.method", "_OTHER")]), 7);
    let overflowed = &registry.snapshot().overflowed[0];
    assert_eq!((overflowed.label, overflowed.count), ("rpc.method", 7));
}

#[test]
fn a_family_that_is_full_counts_on_in_one_more_series() {
    let registry = Registry::with_config(MetricsConfig::default().max_series(3));
    let placed = registry.counter("orders.placed");
    for tenant in ["a", "b", "c", "d", "e", "d"] {
        placed.with([("tenant", tenant)]).add(1);
    }
    assert_eq!(labels(&registry, "orders.placed"), ["otel.metric.overflow=true", "tenant=a", "tenant=b", "tenant=c"]);
    assert_eq!(total(&registry, "orders.placed", &[("otel.metric.overflow", "true")]), 3);
    let overflowed = &registry.snapshot().overflowed[0];
    assert_eq!((&*overflowed.metric, overflowed.count), ("orders.placed", 3));
    assert_eq!((overflowed.top[0].value.as_str(), overflowed.top[0].count), ("tenant=d", 2));
}

#[test]
fn a_value_that_is_too_long_is_told_as_overflow_and_not_kept() {
    let registry = Registry::new();
    let placed = registry.counter("orders.placed");
    let long = "x".repeat(1 << 20);
    let memory = allocation_counter::measure(|| {
        for nth in 0..100 {
            placed.with([("tenant", format!("{nth}{long}").as_str())]).add(1);
        }
        placed.with([("tenant", "x".repeat(512).as_str())]).add(1);
    });
    assert!(memory.bytes_current < 1 << 16, "{memory:?}");
    assert_eq!(total(&registry, "orders.placed", &[("otel.metric.overflow", "true")]), 100);
    assert_eq!(labels(&registry, "orders.placed").len(), 2);

    let route = Route::from(Arc::from(format!("/{long}")));
    let mut server = RequestMetricsLayer::server(&registry).layer(service_fn(answer));
    let mut request = Request::new(());
    request.extensions_mut().insert(route);
    server.call(request).now_or_never().expect("answers at once").expect("answers");
    assert_eq!(count(&registry, "http.server.request.duration", &[("http.route", "_OTHER")]), 1);
}

#[test]
fn label_sets_are_told_apart_by_all_of_their_text() {
    let registry = Registry::new();
    let family = registry.counter("pairs");
    family.with([("x", "ab"), ("y", "c")]).add(1);
    family.with([("x", "a"), ("y", "bc")]).add(2);
    family.with([("y", "c"), ("x", "ab")]).add(4);
    assert_eq!(total(&registry, "pairs", &[("x", "ab"), ("y", "c")]), 5);
    assert_eq!(total(&registry, "pairs", &[("x", "a"), ("y", "bc")]), 2);
}

#[test]
fn one_name_is_one_kind_and_the_other_is_said_to_be_a_mistake() {
    let registry = Registry::new();
    registry.counter("jobs").with(()).add(1);
    registry.gauge("jobs").with(()).set(7.0);
    assert_eq!(total(&registry, "jobs", &[]), 1);
    assert_eq!(registry.snapshot().conflicts, ["jobs"]);
}

#[test]
fn a_source_may_add_another_and_may_panic() {
    let registry = Registry::new();
    let late = registry.counter("late").with(());
    let own = registry.clone();
    registry.add_source(move |_now| {
        let late = late.clone();
        own.add_source(move |_now| late.add(1));
        std::panic::resume_unwind(Box::new("after that"));
    });
    // One more each time, from the tick after it was added.
    (0..3).for_each(|_| registry.tick());
    assert_eq!(total(&registry, "late", &[]), 3);
}

#[test]
fn sources_are_asked_at_every_tick_without_anybody_asking_for_it() {
    let tick = std::time::Duration::from_millis(10);
    let span = Span::new(30 * tick, tick).expect("thirty ticks");
    let registry = Registry::with_config(MetricsConfig::default().span(span));
    let (ticked, ticks) = std::sync::mpsc::channel();
    registry.add_source(move |_now| ticked.send(()).expect("somebody listens"));
    registry.start_ticking();
    (0..3).for_each(|_| ticks.recv_timeout(std::time::Duration::from_secs(60)).expect("the thread ticks"));
}

#[test]
fn a_tick_has_asked_every_source_though_another_thread_ticks_as_well() {
    let registry = Registry::new();
    let latest = Arc::new(AtomicU64::new(0));
    let told = registry.counter("latest").with(());
    let source = latest.clone();
    registry.add_source(move |_now| told.advance_to(source.load(Acquire)));
    let round = || {
        for _ in 0..10_000 {
            let mine = latest.fetch_add(1, AcqRel) as i64 + 1;
            registry.tick();
            assert!(total(&registry, "latest", &[]) >= mine);
        }
    };
    std::thread::scope(|scope| [scope.spawn(round), scope.spawn(round)].map(|thread| thread.join().unwrap()));
}

#[test]
fn windows_that_need_too_much_are_told_less_finely_and_lose_nothing() {
    let registry = Registry::with_config(MetricsConfig::default().window_budget(256 << 10));
    let sizes = registry.histogram("sizes").with(());
    let others: Vec<_> = (0..12).map(|nth| registry.histogram("others").with([("nth", nth)])).collect();
    let (began, mut coarsened) = (tokio::time::Instant::now(), false);
    for tick in 1..30_u64 {
        for value in 0..3000 {
            sizes.record(value * value * tick);
            others.iter().for_each(|other| other.record(value * tick));
        }
        registry.tick_at(began + std::time::Duration::from_secs(10 * tick));
        let usage = registry.window_usage();
        assert!(usage.bytes <= usage.budget, "{usage:?}");
        coarsened |= usage.coarsened;
    }
    assert!(coarsened, "{:?}", registry.window_usage());
    assert_eq!((registry.window_usage().rounded, registry.window_usage().sharing), (0, 0));
    assert_eq!(sizes.window().expect("it has one").count(), 29 * 3000);
}

#[test]
fn that_time_is_told_less_finely_is_said_for_as_long_as_it_is_so() {
    let registry = Registry::with_config(MetricsConfig::default().window_budget(32 << 10));
    let sizes = registry.histogram("sizes").with(());
    let began = tokio::time::Instant::now();
    let tick = |nth: u32| registry.tick_at(began + std::time::Duration::from_secs(10) * nth);
    let mut nth = 0;
    while !registry.window_usage().coarsened {
        (0..3000_u64).for_each(|value| sizes.record(value * value));
        nth += 1;
        tick(nth);
        assert!(nth < 200, "{:?}", registry.window_usage());
    }
    let told = |registry: &Registry| total(registry, "buttress.metrics.window.coarsened", &[]);
    for later in 1..30 {
        tick(nth + later);
        assert_eq!(told(&registry), 1, "{later} ticks later");
    }
    tick(nth + 30);
    assert!(!registry.window_usage().coarsened);
}

#[test]
fn a_new_series_gets_a_window_as_long_as_time_can_be_told_less_finely() {
    let registry = Registry::with_config(MetricsConfig::default().window_budget(128 << 10));
    let sizes = registry.histogram("sizes");
    let began = tokio::time::Instant::now();
    for tick in 1..30_u64 {
        for series in 0..4_i64 {
            let series = sizes.with([("series", series)]);
            (0..3000).for_each(|value| series.record(value * tick));
        }
        registry.tick_at(began + std::time::Duration::from_secs(10 * tick));
    }
    for series in 4..12_i64 {
        sizes.with([("series", series)]).record(1);
    }
    let usage = registry.window_usage();
    assert_eq!((usage.windows, usage.sharing), (12, 0), "{usage:?}");
}

#[test]
fn windows_of_many_threads_and_of_values_of_every_size_keep_the_budget_and_lose_nothing() {
    let registry = Registry::with_config(MetricsConfig::default().window_budget(256 << 10));
    let all: Vec<_> = (0..30_i64).map(|nth| registry.histogram("sizes").with([("nth", nth)])).collect();
    let (began, mut recorded) = (tokio::time::Instant::now(), 0);
    for tick in 1..=10 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                // One of each power of two.
                scope.spawn(|| all.iter().for_each(|sizes| (0..40).for_each(|power| sizes.record(1 << power))));
            }
        });
        recorded += 4 * 40;
        registry.tick_at(began + std::time::Duration::from_secs(10 * tick));
        let usage = registry.window_usage();
        assert!(usage.bytes <= usage.budget, "{usage:?}");
    }
    let usage = registry.window_usage();
    assert!(usage.rounded > 0 && usage.sharing == 0, "{usage:?}");
    assert_eq!(total(&registry, "buttress.metrics.window.rounded", &[]), usage.rounded as i64);
    for sizes in &all {
        let window = sizes.window().expect("it has one");
        assert_eq!((window.count(), window.sum()), (recorded, 40 * ((1 << 40) - 1)));
        // The median is 2^19, told by a power of two at worst.
        let median = window.quantile(0.5).expect("there are values");
        assert!(((1 << 19)..(1 << 20)).contains(&median), "{median}");
    }
}

#[test]
fn windows_that_do_not_fit_are_shared_and_lose_nothing() {
    let registry = Registry::with_config(MetricsConfig::default().window_budget(64 << 10));
    let sizes = registry.histogram("sizes");
    for series in 0..100_i64 {
        sizes.with([("series", series)]).record(series as u64);
    }
    let usage = registry.window_usage();
    assert_eq!(usage.windows + usage.sharing, 100);
    assert!(usage.sharing > 50, "{usage:?}");
    let last = sizes.with([("series", 99_i64)]).window().unwrap();
    assert_eq!(last.count(), usage.sharing as u64, "of all that share it");
    assert_eq!(count(&registry, "sizes", &[("series", "99")]), 1);
    assert_eq!(total(&registry, "buttress.metrics.window.sharing", &[]), usage.sharing as i64);
}
