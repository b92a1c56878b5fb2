//! What tokio tells only with `--cfg tokio_unstable`, which the gate sets for this one file.
#![allow(unexpected_cfgs, reason = "a switch of tokio's, not of ours")]
#![cfg(all(feature = "metrics", tokio_unstable))]
#![allow(clippy::disallowed_methods, reason = "the runtime counts in real time")]

use std::time::Duration;

use buttress::metrics::source::RuntimeMonitor;
use buttress::metrics::{HistogramPoint, Point, Registry};
use tokio::runtime::{Builder, Runtime};

fn histogram(registry: &Registry, name: &str) -> Option<HistogramPoint> {
    let families = registry.snapshot().families;
    let family = families.into_iter().find(|family| &*family.name == name)?;
    match family.series.into_iter().next()?.point {
        Point::Histogram(point) => Some(point),
        other => panic!("{other:?}"),
    }
}

/// Looks until as many have been counted, however busy the machine is.
fn wait_for(registry: &Registry, name: &str, least: u64) -> HistogramPoint {
    for _ in 0..6000 {
        if let Some(point) = histogram(registry, name).filter(|point| point.count() >= least) {
            return point;
        }
        // The monitor's thread looks once a second.
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("a minute went by without {least} of {name}: {:?}", histogram(registry, name));
}

fn polls(runtime: &Runtime, times: usize) {
    for _ in 0..times {
        runtime.block_on(async { tokio::spawn(async {}).await }).expect("it does not panic");
    }
}

#[test]
fn polls_are_told_in_the_runtimes_own_buckets_once_each() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .enable_metrics_poll_time_histogram()
        .build()
        .unwrap();
    let (registry, metrics) = (Registry::new(), runtime.metrics());
    let _monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    polls(&runtime, 500);
    let told = wait_for(&registry, "buttress.runtime.poll_time", 500);
    let ends = (0..metrics.poll_time_histogram_num_buckets() - 1)
        .map(|bucket| metrics.poll_time_histogram_bucket_range(bucket).end.as_secs_f64());
    assert_eq!(told.bounds.to_vec(), ends.collect::<Vec<_>>());
    let counted: u64 = (0..metrics.num_workers())
        .flat_map(|worker| (0..metrics.poll_time_histogram_num_buckets()).map(move |bucket| (worker, bucket)))
        .map(|(worker, bucket)| metrics.poll_time_histogram_bucket_count(worker, bucket))
        .sum();
    assert!(told.count() <= counted, "{} of {counted}", told.count());
    assert!(told.sum > 0.0);
}

#[test]
#[cfg(feature = "schedule-latency")]
fn how_long_woken_tasks_wait_is_told() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .enable_metrics_schedule_latency_histogram()
        .build()
        .unwrap();
    let registry = Registry::new();
    let _monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    polls(&runtime, 500);
    wait_for(&registry, "buttress.runtime.schedule_latency", 500);
}

#[test]
fn a_runtime_that_keeps_no_histograms_has_none() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = Registry::new();
    let _monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for(&registry, "buttress.runtime.injection_delay", 1);
    assert_eq!(histogram(&registry, "buttress.runtime.poll_time"), None);
}
