//! The lag of real runtimes: stalls that are found, and none that are not there.
#![cfg(feature = "metrics")]
#![allow(clippy::disallowed_methods, reason = "real stalls in real time are the subject")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::Duration;

use buttress::metrics::source::RuntimeMonitor;
use buttress::metrics::{MetricsEndpoint, Point, Registry};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tower::Service;

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
        // Another thread, in real time: there is nothing to wait on but what it says.
        sleep(10 * MILLI);
    }
    panic!("a minute went by without {what}");
}

/// Blocks a worker for so long, and returns when it is over.
fn stall(runtime: &Runtime, length: Duration) {
    let (done, is_done) = mpsc::channel();
    runtime.spawn(async move {
        // What is to be found.
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

/// Blocks two workers, and waits until the monitor has seen it.
fn block_both(runtime: &Runtime, monitor: &RuntimeMonitor) -> [mpsc::Sender<()>; 2] {
    wait_for("a sample", || monitor.lag().samples > 0);
    let blocked = [block(runtime), block(runtime)];
    wait_for("two stuck workers", || monitor.lag().stuck_workers == 2);
    blocked
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

/// How long each worker thread of this process has waited for a processor, where Linux tells (proc(5), `schedstat`).
fn waits() -> HashMap<OsString, Duration> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let wait = |thread: &DirEntry| {
        let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).ok();
        let is_worker = read("comm")?.starts_with("tokio-rt-worker");
        let nanos = read("schedstat")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        is_worker.then(|| Duration::from_nanos(nanos))
    };
    threads.filter_map(|thread| Some((thread.file_name(), wait(&thread)?))).collect()
}

/// A time in which the machine had a processor for whoever needed one. At no other time can a stall be told from a
/// worker that has to wait, or be looked for.
struct Quiet {
    late: u64,
    waits: HashMap<OsString, Duration>,
}

impl Quiet {
    fn from_now_on(registry: &Registry) -> Self {
        Self { late: looks(registry).0, waits: waits() }
    }

    fn lasts(&self, registry: &Registry) -> bool {
        let before = |thread| self.waits.get(thread).copied().unwrap_or_default();
        looks(registry).0 == self.late && waits().iter().all(|(thread, wait)| *wait < before(thread) + 25 * MILLI)
    }
}

/// Does this until the machine was quiet so many times; returns how many stalls were found each of those times, so that
/// one that is missed does not make up for one that is found twice.
fn stalls_while_quiet(times: usize, runtime: &Runtime, registry: &Registry, act: impl Fn()) -> Vec<i64> {
    let mut stalls = Vec::new();
    for _ in 0..100 * times {
        settle(runtime, registry);
        let (since, before) = (Quiet::from_now_on(registry), counted(registry));
        act();
        settle(runtime, registry);
        if since.lasts(registry) {
            stalls.push(counted(registry) - before);
        }
        if stalls.len() == times {
            return stalls;
        }
    }
    panic!("the machine was quiet {} times only, of the {times} that are to be looked at", stalls.len());
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
    let found = stalls_while_quiet(40, &runtime, &registry, || stall(&runtime, 50 * MILLI));
    assert_eq!(found, [1; 40]);
    assert!(monitor.lag().stalls >= 40);
}

#[test]
fn an_idle_runtime_has_no_stalls() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    // Real time, in which nothing shall be found.
    let found = stalls_while_quiet(20, &runtime, &registry, || sleep(100 * MILLI));
    assert_eq!(found, [0; 20]);
    let lag = monitor.lag();
    assert!(lag.samples > 0 && lag.monitoring_active);
    assert!(lag.p50 <= lag.p95 && lag.p95 <= lag.p99 && lag.p99 <= lag.max);
}

#[test]
fn a_runtime_that_answers_nothing_is_seen_while_it_lasts() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    let blocked = block_both(&runtime, &monitor);
    wait_for("a delay of 200 ms", || monitor.lag().max >= 200 * MILLI);
    assert!(monitor.lag().stalls >= 2);
    // Those that were not asked for meanwhile count too: one slow answer would be one slow sample.
    let slow = registry.timer("buttress.runtime.injection_delay").with(()).window().unwrap();
    assert!(slow.buckets().filter(|(micros, _)| *micros >= 50_000).map(|(_, count)| count).sum::<u64>() >= 10);
    drop(blocked);
    wait_for("free workers", || monitor.lag().stuck_workers == 0);
    assert!(registry.timer("buttress.runtime.stall.duration").with(()).window().unwrap().count() >= 2);
}

#[test]
fn both_pages_tell_of_workers_that_are_stuck() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    let blocked = block_both(&runtime, &monitor);
    for path in ["/diagnostics/metrics", "/diagnostics/performance"] {
        let request = http::Request::get(path).body(()).expect("a valid request");
        let Ok(answer) = MetricsEndpoint::new(&registry).call(request).into_inner();
        let page = answer.into_body().collect().now_or_never().expect("it is in memory").expect("it is whole");
        let page: serde_json::Value = serde_json::from_slice(&page.to_bytes()).expect("JSON");
        let event_loop = &page["event_loop"];
        assert_eq!(
            (&event_loop["monitoring_active"], &event_loop["stuck_workers"]),
            (&true.into(), &2.into()),
            "{path}"
        );
        assert!(event_loop["stalls"].as_u64() >= Some(2) && event_loop["max_lag_ms"].is_f64(), "{path}: {event_loop}");
    }
    drop(blocked);
}

#[test]
fn timers_that_fire_late_are_measured() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let _monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    let timer = registry.timer("buttress.runtime.timer_lag").with(());
    wait_for("a sample", || timer.window().unwrap().count() > 10);
    // The next one fires when there is a worker again, and is later with each look until then.
    let blocked = [block(&runtime), block(&runtime)];
    wait_for("a timer that is 200 ms late", || timer.window().unwrap().max() >= Some(200_000));
    drop(blocked);
}

#[test]
fn what_was_last_seen_of_a_runtime_is_gone_with_its_monitor() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("a sample", || monitor.lag().samples > 0);
    let blocked = [block(&runtime), block(&runtime)];
    let _waits = runtime.spawn(async {});
    let names = ["workers", "stuck_workers", "alive_tasks", "global_queue_depth"];
    let mut gauges = names.map(|name| registry.gauge(&format!("buttress.runtime.{name}")).with(())).to_vec();
    let utilization = registry.gauge("buttress.runtime.worker.utilization");
    gauges.extend([0, 1].map(|worker| utilization.with([("buttress.runtime.worker", worker)])));
    wait_for("something to see everywhere", || gauges.iter().all(|gauge| gauge.value() > 0.0));
    drop(monitor);
    wait_for("nothing to see any more", || gauges.iter().all(|gauge| gauge.value() == 0.0));
    drop(blocked);
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
fn tasks_that_have_not_ended_and_those_that_wait_for_a_worker_are_counted() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let _monitor = RuntimeMonitor::start_on(&registry, runtime.handle());
    let gauge = |name: &str| registry.gauge(name).with(());
    let (alive, waiting) = (gauge("buttress.runtime.alive_tasks"), gauge("buttress.runtime.global_queue_depth"));
    wait_for("the monitor's start", || gauge("buttress.runtime.workers").value() == 2.0);
    let pending: Vec<_> = (0..50).map(|_| runtime.spawn(std::future::pending::<()>())).collect();
    wait_for("fifty tasks", || alive.value() == 50.0);
    let blocked = [block(&runtime), block(&runtime)];
    wait_for("two stuck workers", || gauge("buttress.runtime.stuck_workers").value() == 2.0);
    let more: Vec<_> = (0..30).map(|_| runtime.spawn(async {})).collect();
    // The monitor's own question waits, too.
    wait_for("a queue", || (30.0..=32.0).contains(&waiting.value()) && alive.value() == 82.0);
    drop(blocked);
    pending.iter().for_each(tokio::task::JoinHandle::abort);
    wait_for("nothing to do", || alive.value() == 0.0 && waiting.value() == 0.0);
    assert!(more.iter().all(|task| task.is_finished()));
}

#[test]
fn a_second_monitor_of_the_same_runtime_measures_nothing_twice() {
    let (registry, runtime) = (Registry::new(), two_workers());
    let first = RuntimeMonitor::start_on(&registry, runtime.handle());
    let second = RuntimeMonitor::start_on(&registry, runtime.handle());
    wait_for("a sample", || second.lag().samples > 0);
    let found = stalls_while_quiet(1, &runtime, &registry, || {
        let blocked = block(&runtime);
        wait_for("the stall", || second.lag().stuck_workers > 0);
        drop(blocked);
    });
    assert_eq!(found, [1]);
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
        // Gives the monitor's own task a turn; the worker's real time is the subject.
        tokio::time::sleep(MILLI).await;
        wait_for("a busy worker", || seen.value() > 0.9);
    });
    runtime.block_on(async {
        while utilization.value() > 0.5 {
            // Rest, in real time, is what makes it so.
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
    let watched = registry.clone();
    let other = std::thread::spawn(move || {
        // So often the monitor has asked by then, and could have made the time leap.
        wait_for("twenty looks", || looks(&watched).1 >= 20);
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
