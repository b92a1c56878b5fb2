//! What a cache's metrics tell is what happened to the cache.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::time::Duration;

use buttress::metrics::source::{CacheMetrics, EvictionCause, cache_totals};
use buttress::metrics::{LabelValue, Point, Registry};
use tokio::time::Instant;

const CAUSES: [EvictionCause; 4] =
    [EvictionCause::Capacity, EvictionCause::Expired, EvictionCause::Replaced, EvictionCause::Explicit];

/// The number of the series with these labels beside the cache's name; `None` when there is none.
fn number(registry: &Registry, metric: &str, cache: &str, label: Option<(&str, &str)>) -> Option<f64> {
    let snapshot = registry.snapshot();
    let family = snapshot.families.iter().find(|family| *family.name == *metric)?;
    let series = family.series.iter().find(|series| {
        let has = |(key, value): (&str, &str)| {
            series.labels.iter().any(|label| label.key == key && label.value == LabelValue::Text(value))
        };
        has(("cache.name", cache)) && label.is_none_or(has)
    })?;
    Some(match &series.point {
        Point::Int(number) => *number as f64,
        Point::Float(number) => *number,
        Point::Histogram(histogram) => histogram.counts.iter().sum::<u64>() as f64,
        point => panic!("{point:?}"),
    })
}

fn evicted(registry: &Registry, cache: &str, cause: EvictionCause) -> u64 {
    number(registry, "cache.evictions", cache, Some(("cache.eviction.cause", cause.as_str()))).unwrap() as u64
}

#[test]
fn each_thing_is_counted_where_it_belongs() {
    let registry = Registry::new();
    let cache = CacheMetrics::new(&registry, "sessions");
    (0..3).for_each(|_| cache.hit());
    (0..2).for_each(|_| cache.miss());
    cache.put();
    for (nth, cause) in CAUSES.into_iter().enumerate() {
        (0..=nth).for_each(|_| cache.evicted(cause));
    }
    let of = |metric, label| number(&registry, metric, "sessions", label).unwrap();
    assert_eq!(of("cache.gets", Some(("cache.result", "hit"))), 3.0);
    assert_eq!(of("cache.gets", Some(("cache.result", "miss"))), 2.0);
    assert_eq!(of("cache.puts", None), 1.0);
    assert_eq!(CAUSES.map(|cause| evicted(&registry, "sessions", cause)), [1, 2, 3, 4]);
    assert_eq!(cache.stats().evictions, 3, "what was replaced or removed is no eviction");
}

#[tokio::test(start_paused = true)]
async fn a_load_is_timed_however_it_ends() {
    let registry = Registry::new();
    let cache = CacheMetrics::new(&registry, "prices");
    cache.load(Duration::from_millis(20));
    let loading = cache.start_load();
    tokio::time::advance(Duration::from_millis(300)).await;
    drop(loading);
    let aborted = tokio::spawn({
        let loading = cache.start_load();
        async move {
            let _loading = loading;
            std::future::pending::<()>().await;
        }
    });
    aborted.abort();
    drop(aborted.await);
    let window = registry.timer("cache.load.duration").with([("cache.name", "prices")]).window().unwrap();
    assert_eq!((window.count(), window.sum()), (3, 320_000));
}

#[test]
fn what_nobody_measured_is_not_told() {
    let registry = Registry::new();
    let cache = CacheMetrics::new(&registry, "sessions");
    let told = || {
        ["cache.entries", "cache.size", "cache.load.duration"].map(|metric| number(&registry, metric, "sessions", None))
    };
    assert_eq!(told(), [None; 3]);
    assert_eq!((cache.stats().entries, cache.stats().bytes, cache.stats().hit_ratio), (None, None, None));
    assert_eq!((cache_totals(&registry.snapshot()).entries, cache_totals(&registry.snapshot()).bytes), (None, None));
    cache.set_entries(12);
    cache.set_bytes(3 << 33);
    assert_eq!(told(), [Some(12.0), Some((3_u64 << 33) as f64), None]);
    assert_eq!((cache.stats().entries, cache.stats().bytes), (Some(12), Some(3 << 33)));
}

#[test]
fn the_gauge_of_the_hit_ratio_forgets_after_five_minutes_and_the_stats_do_not() {
    let registry = Registry::new();
    let cache = CacheMetrics::new(&registry, "sessions");
    let gauge = || number(&registry, "cache.hit_ratio", "sessions", None).unwrap();
    let start = Instant::now();
    let tick = |seconds| registry.tick_at(start + Duration::from_secs(seconds));
    tick(5);
    assert!(gauge().is_nan(), "nobody has asked yet");
    (0..3).for_each(|_| cache.miss());
    cache.hit();
    tick(10);
    assert_eq!(gauge(), 0.25);
    (0..4).for_each(|_| cache.hit());
    tick(290);
    assert_eq!(gauge(), 5.0 / 8.0);
    tick(500);
    assert_eq!(gauge(), 1.0, "the misses are more than five minutes ago");
    tick(800);
    assert!(gauge().is_nan());
    assert_eq!(cache.stats().hit_ratio, Some(5.0 / 8.0));
}

#[test]
fn totals_are_over_all_caches_of_the_registry_and_of_no_other() {
    let registry = Registry::new();
    let [prices, sessions] = ["prices", "sessions"].map(|name| CacheMetrics::new(&registry, name));
    CacheMetrics::new(&Registry::new(), "prices").hit();
    (0..9).for_each(|_| prices.hit());
    sessions.miss();
    sessions.evicted(EvictionCause::Capacity);
    prices.evicted(EvictionCause::Expired);
    prices.evicted(EvictionCause::Explicit);
    prices.set_entries(100);
    sessions.set_entries(20);
    sessions.set_bytes(4096);
    let totals = serde_json::to_value(cache_totals(&registry.snapshot())).unwrap();
    let expected = serde_json::json!({
        "hits": 9, "misses": 1, "evictions": 2, "hit_ratio": 0.9, "entries": 120, "bytes": 4096,
    });
    assert_eq!(totals, expected);
}

#[test]
fn what_threads_count_is_not_lost() {
    let registry = Registry::new();
    let cache = CacheMetrics::new(&registry, "shared");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            // Two of them by metrics of their own: the same name is the same cache.
            let cache = if thread % 2 == 0 { cache.clone() } else { CacheMetrics::new(&registry, "shared") };
            scope.spawn(move || {
                (0..10_000).for_each(|nth| {
                    let wanted = (nth % 5 > 0).then_some(nth);
                    assert_eq!(cache.lookup(wanted), wanted);
                })
            });
        }
    });
    assert_eq!((cache.stats().hits, cache.stats().misses), (32_000, 8_000));
}

#[cfg(feature = "moka")]
mod moka {
    use std::sync::Barrier;

    use ::moka::sync::Cache;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_that_expire_in_an_idle_cache_are_gone_at_the_next_tick() {
        let registry = Registry::new();
        let metrics = CacheMetrics::new(&registry, "sessions");
        let cache = Cache::builder()
            .time_to_live(Duration::from_nanos(1))
            .weigher(|_key: &u32, value: &String| value.len() as u32)
            .eviction_listener(metrics.moka_listener())
            .build();
        registry.add_source(metrics.moka_source(cache.clone()).weighs_bytes());
        cache.insert(1, "gone".repeat(100));
        metrics.put();
        registry.tick();
        assert_eq!(evicted(&registry, "sessions", EvictionCause::Expired), 1);
        assert_eq!((metrics.stats().entries, metrics.stats().bytes), (Some(0), Some(0)));
    }

    #[test]
    fn the_weight_is_told_only_where_it_is_in_bytes() {
        let registry = Registry::new();
        let [by_number, by_size] = ["by_number", "by_size"].map(|name| CacheMetrics::new(&registry, name));
        let cache: Cache<u32, u32> = Cache::new(10);
        cache.insert(1, 1);
        registry.add_source(by_number.moka_source(cache));
        let cache = Cache::builder().weigher(|_key: &u32, value: &String| value.len() as u32).build();
        cache.insert(1, "x".repeat(300));
        registry.add_source(by_size.moka_source(cache).weighs_bytes());
        registry.tick();
        assert_eq!((by_number.stats().entries, by_number.stats().bytes), (Some(1), None));
        assert_eq!((by_size.stats().entries, by_size.stats().bytes), (Some(1), Some(300)));
    }

    #[test]
    fn of_many_who_load_the_same_one_misses() {
        const THREADS: u64 = 4;
        let registry = Registry::new();
        let metrics = CacheMetrics::new(&registry, "prices");
        let cache: Cache<&str, u32> = Cache::new(10);
        let together = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    assert_eq!(metrics.moka_entry(cache.entry("tea").or_insert_with(|| 3)), 3);
                });
            }
        });
        assert_eq!((metrics.stats().misses, metrics.stats().hits), (1, THREADS - 1));
        assert_eq!(number(&registry, "cache.puts", "prices", None), Some(1.0));
    }

    #[test]
    fn entries_for_which_there_is_no_room_are_evictions_for_want_of_capacity() {
        let registry = Registry::new();
        let metrics = CacheMetrics::new(&registry, "small");
        let cache = Cache::builder().max_capacity(4).eviction_listener(metrics.moka_listener()).build();
        registry.add_source(metrics.moka_source(cache.clone()));
        (0..10).for_each(|key| cache.insert(key, ()));
        registry.tick();
        assert_eq!(CAUSES.map(|cause| evicted(&registry, "small", cause)), [6, 0, 0, 0]);
        assert_eq!((metrics.stats().evictions, metrics.stats().entries), (6, Some(4)));
    }

    #[tokio::test]
    async fn a_cache_of_futures_is_counted_too() {
        let registry = Registry::new();
        let metrics = CacheMetrics::new(&registry, "prices");
        let cache =
            ::moka::future::Cache::builder().max_capacity(10).eviction_listener(metrics.moka_listener()).build();
        assert_eq!(metrics.lookup(cache.get(&1).await), None);
        assert_eq!(metrics.moka_entry(cache.entry(1).or_insert_with(async { "one" }).await), "one");
        assert_eq!(metrics.moka_entry(cache.entry(1).or_insert_with(async { "two" }).await), "one");
        cache.insert(1, "three").await;
        cache.invalidate(&1).await;
        cache.run_pending_tasks().await;
        assert_eq!((metrics.stats().hits, metrics.stats().misses), (1, 2));
        assert_eq!(CAUSES.map(|cause| evicted(&registry, "prices", cause)), [0, 0, 1, 1]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Get(u8),
        Load(u8),
        Insert(u8),
        Remove(u8),
        Tick,
    }

    fn act() -> impl Strategy<Value = Act> {
        let key = || 0..12_u8;
        prop_oneof![
            key().prop_map(Act::Get),
            key().prop_map(Act::Load),
            key().prop_map(Act::Insert),
            key().prop_map(Act::Remove),
            Just(Act::Tick),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_put_in_is_there_or_was_evicted(acts in prop::collection::vec(act(), 1..200)) {
            let registry = Registry::new();
            let metrics = CacheMetrics::new(&registry, "small");
            let cache = Cache::builder().max_capacity(5).eviction_listener(metrics.moka_listener()).build();
            registry.add_source(metrics.moka_source(cache.clone()));
            let (mut hits, mut misses, mut puts) = (0, 0, 0);
            for act in acts {
                match act {
                    Act::Get(key) => {
                        let found = metrics.lookup(cache.get(&key)).is_some();
                        hits += u64::from(found);
                        misses += u64::from(!found);
                    }
                    Act::Load(key) => {
                        let mut loaded = false;
                        metrics.moka_entry(cache.entry(key).or_insert_with(|| loaded = true));
                        hits += u64::from(!loaded);
                        misses += u64::from(loaded);
                        puts += u64::from(loaded);
                    }
                    Act::Insert(key) => {
                        cache.insert(key, ());
                        metrics.put();
                        puts += 1;
                    }
                    Act::Remove(key) => cache.invalidate(&key),
                    Act::Tick => registry.tick(),
                }
            }
            registry.tick();
            let stats = metrics.stats();
            let left: u64 = CAUSES.into_iter().map(|cause| evicted(&registry, "small", cause)).sum();
            prop_assert_eq!((stats.hits, stats.misses), (hits, misses));
            prop_assert_eq!(number(&registry, "cache.puts", "small", None), Some(puts as f64));
            prop_assert_eq!(stats.entries, Some(puts - left));
            prop_assert_eq!(stats.entries, Some(cache.iter().count() as u64));
        }
    }
}
