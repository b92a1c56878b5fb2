//! The lag of real runtimes: stalls that are found, and none that are not there.
#![cfg(feature = "metrics")]
#![allow(clippy::disallowed_methods, reason = "real stalls in real time are the subject")]

use std::sync::mpsc;
use std::thread::sleep;
use std::time::Duration;

use buttress::metrics::source::RuntimeMonitor;
use buttress::metrics::{Point, Registry};
use tokio::runtime::{Builder, Runtime};

const MILLI: Duration = Duration::from_millis(1);

fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be started")
}

/// Waits for what is bound to happen, however busy the machine is.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        sleep(10 * MILLI);
    }
    panic!("a minute went by without {what}");
}

/// Blocks a worker for so long, and returns when it is over.
fn stall(runtime: &Runtime, length: Duration) {
    let (done, is_done) = mpsc::channel();
    runtime.spawn(async move {
        sleep(length);
        let _ = done.send(());
    });
    is_done.recv().expect("the task ends");
}

/// Blocks a worker until this is dropped.
fn block(runtime: &Runtime) -> mpsc::Sender<()> {
    let (free, is_free) = mpsc::channel();
    runtime.spawn(async move {
        let _ = is_free.recv();
    });
    free
}

fn counted(registry: &Registry) -> i64 {
    let families = registry.snapshot().families;
    let stalls = families.iter().find(|family| &*family.name == "buttress.runtime.stalls");
    let stalls = stalls.expect("each worker has a series from the start");
    let count = |point: &Point| match point {
        Point::Int(count) => *count,
        other => panic!("{other:?}"),
    };
    stalls.series.iter().map(|series| count(&series.point)).sum()
}

/// How often the monitor's own thread was 10 ms late or later, and how often it has looked.
fn looks(registry: &Registry) -> (u64, u64) {
    let lag = registry.timer("buttress.runtime.monitor_lag").with(()).window().expect("timers have windows");
    (lag.buckets().filter(|(micros, _)| *micros >= 10_000).map(|(_, count)| count).sum(), lag.count())
}

/// Waits until every worker is at rest, and the monitor has seen it.
fn settle(runtime: &Runtime, registry: &Registry) {
    let metrics = runtime.metrics();
    let is_parked = |worker| metrics.worker_park_unpark_count(worker) % 2 == 1;
    wait_for("workers at rest", || (0..metrics.num_workers()).all(is_parked));
    let (_, seen) = looks(registry);
    wait_for("two looks", || looks(registry).1 >= seen + 2);
}

#[test]
fn forty_stalls_of_fifty_milliseconds_are_forty() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("a sample", || monitor.lag().samples > 0);
    let (mut injected, mut found, mut unseen) = (0, 0, 0);
    while injected < 40 {
        settle(&runtime, &registry);
        let (late, before) = (looks(&registry).0, counted(&registry));
        stall(&runtime, 50 * MILLI);
        settle(&runtime, &registry);
        // On a machine so busy that nobody looked in time, nobody can tell.
        if looks(&registry).0 == late {
            injected += 1;
            found += counted(&registry) - before;
        } else {
            unseen += 1;
            assert!(unseen < 2000, "the monitor was hardly ever in time");
        }
    }
    println!("{unseen} stalls were not looked at in time");
    assert_eq!(found, 40);
    assert!(monitor.lag().stalls >= 40);
}

#[test]
fn an_idle_runtime_has_no_stalls() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    sleep(2000 * MILLI);
    let lag = monitor.lag();
    assert_eq!((counted(&registry), lag.stalls, lag.stuck_workers), (0, 0, 0));
    assert!(lag.samples > 0 && lag.monitoring_active);
    assert!(lag.p50 <= lag.p95 && lag.p95 <= lag.p99 && lag.p99 <= lag.max);
}

#[test]
fn a_runtime_that_answers_nothing_is_seen_while_it_lasts() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("a sample", || monitor.lag().samples > 0);
    let blocked = [block(&runtime), block(&runtime)];
    wait_for("two stuck workers", || monitor.lag().stuck_workers == 2);
    wait_for("a delay of 200 ms", || monitor.lag().max >= 200 * MILLI);
    let lag = monitor.lag();
    assert_eq!(lag.stalls, 2);
    // Those that were not asked for meanwhile count too: one slow answer would be one slow sample.
    let slow = registry.timer("buttress.runtime.injection_delay").with(()).window().unwrap();
    assert!(slow.buckets().filter(|(micros, _)| *micros >= 50_000).map(|(_, count)| count).sum::<u64>() >= 10);
    drop(blocked);
    wait_for("free workers", || monitor.lag().stuck_workers == 0);
    assert_eq!(registry.timer("buttress.runtime.stall.duration").with(()).window().unwrap().count(), 2);
}

#[test]
fn timers_that_fire_late_are_measured() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let _monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    let timer = registry.timer("buttress.runtime.timer_lag").with(());
    wait_for("a sample", || timer.window().unwrap().count() > 10);
}

#[test]
fn a_runtime_without_a_time_driver_is_watched_all_the_same() {
    let registry = Registry::new();
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("samples", || monitor.lag().samples > 20);
    assert_eq!(registry.timer("buttress.runtime.timer_lag").with(()).window().unwrap().count(), 0);
}

#[test]
fn a_second_monitor_of_the_same_runtime_measures_nothing_twice() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let first = RuntimeMonitor::start_on(&registry, runtime.handle());
    let second = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("a sample", || second.lag().samples > 0);
    let blocked = block(&runtime);
    wait_for("the stall", || second.lag().stuck_workers == 1);
    drop(blocked);
    wait_for("its end", || second.lag().stuck_workers == 0);
    assert_eq!(counted(&registry), 1);
    drop(first);
    let before = second.lag().samples;
    wait_for("another sample", || second.lag().samples > before);
}

#[test]
fn the_thread_ends_with_the_last_monitor_with_the_runtime_and_with_the_registry() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let is_watched = || registry.gauge("buttress.runtime.workers").with(()).value() > 0.0;
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("the monitor's start", is_watched);
    drop(monitor);
    wait_for("the monitor's end", || !is_watched());

    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("the monitor's start", || is_watched() && monitor.lag().monitoring_active);
    drop(runtime);
    wait_for("the runtime's end", || !monitor.lag().monitoring_active && !is_watched());

    let runtime = two_workers();
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("another start", is_watched);
    drop(registry);
    wait_for("the registry's end", || !monitor.lag().monitoring_active);
}

#[test]
fn a_monitor_that_lives_does_not_hold_up_the_end_of_its_runtime() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    let (gone, is_gone) = mpsc::channel::<()>();
    runtime.spawn(async move {
        std::future::pending::<()>().await;
        drop(gone);
    });
    drop(runtime);
    assert_eq!(is_gone.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    drop(monitor);
}

#[test]
fn a_worker_without_rest_is_busy_and_one_without_work_is_not() {
    let (registry, runtime) = (Registry::new(), Builder::new_current_thread().enable_all().build().unwrap());
    let _monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    let utilization = registry.gauge("buttress.runtime.worker.utilization").with([("buttress.runtime.worker", 0)]);
    let seen = utilization.clone();
    runtime.block_on(async move {
        tokio::time::sleep(MILLI).await;
        wait_for("a busy worker", || seen.value() > 0.9);
    });
    runtime.block_on(async {
        while utilization.value() > 0.5 {
            tokio::time::sleep(10 * MILLI).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn paused_time_is_left_alone() {
    let registry = Registry::new();
    let monitor = RuntimeMonitor::start(&registry);
    let before = tokio::time::Instant::now();
    // No timer of ours is there to leap to, while the runtime waits for something real.
    let (send, receive) = tokio::sync::oneshot::channel();
    let other = std::thread::spawn(move || {
        sleep(200 * MILLI);
        send.send(()).unwrap();
    });
    receive.await.unwrap();
    other.join().unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
    let began = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(3600));
    assert!(monitor.lag().monitoring_active);
}
