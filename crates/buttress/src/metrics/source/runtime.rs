//! How late the runtime is: the public side.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use super::watch::Watch;
use crate::metrics::registry::WeakRegistry;
use crate::metrics::{Buckets, Registry, Timer};

/// Measures how late tokio's runtime is, and which worker is stuck. It needs no `tokio_unstable`.
///
/// A thread of its own asks the runtime every 10 ms: a task that has nothing to do is spawned, and tells when it is first
/// polled; a timer of 5 ms, when it fires. The thread also reads what each worker tells of itself: one that runs, and has
/// not come round for more than 30 ms, is stuck. A runtime that answers nothing at all is seen too, and while it lasts: an
/// answer that is 200 ms overdue is among the delays, along with those that were not asked for meanwhile
/// ("coordinated omission").
///
/// | metric | |
/// |---|---|
/// | `buttress.runtime.injection_delay` | timer; from `spawn` to the first poll: the "event loop lag" |
/// | `buttress.runtime.timer_lag` | timer; how late timers fire, beyond the millisecond that tokio's are coarse |
/// | `buttress.runtime.monitor_lag` | timer; how late the monitor's own thread is: when it is late too, the machine is |
/// | `buttress.runtime.stalls` | counter, by `buttress.runtime.worker`; counted when the worker is found stuck |
/// | `buttress.runtime.stall.duration` | timer; recorded when the worker comes round |
/// | `buttress.runtime.stuck_workers` | gauge; right now |
/// | `buttress.runtime.worker.utilization` | gauge, by `buttress.runtime.worker`; the part of the last second, 0 to 1 |
/// | `buttress.runtime.workers`, `buttress.runtime.alive_tasks`, `buttress.runtime.global_queue_depth` | gauges, every second |
/// | `buttress.runtime.blocking_threads`, `buttress.runtime.blocking_queue_depth`, `buttress.runtime.worker.mean_poll_time` (by `buttress.runtime.worker`) | gauges, every second; with `--cfg tokio_unstable` only |
/// | `buttress.runtime.poll_time`, `buttress.runtime.schedule_latency` (feature `schedule-latency`) | timers, every second, in the runtime's own buckets (their sums by the middles of those); with `--cfg tokio_unstable` only, and where the runtime was built with these histograms |
///
/// The thread ends when the last clone of the monitor is dropped, when the registry is, and when the runtime is shut down;
/// it keeps neither. Starting a second monitor for the same runtime and registry gives a clone of the first. A registry
/// should watch one runtime: the numbers of two would be thrown together.
///
/// It wakes three threads each beat: about 120 us of processor time in 10 ms, or 1.2 % of one core, where it was measured
/// (a small virtual machine that others used too; nearly all of it is the waking).
///
/// # What it cannot tell
///
/// - A worker tells of itself when it parks, and every 61 polls. One that polls for 0.5 ms each, 61 times without pause,
///   does not turn to its timers and sockets for 30 ms, and counts as stuck.
/// - Whether a worker blocks or waits for a processor: on a machine that is much too busy both are stalls.
/// - What happens while its own thread waits for a processor. A time that it missed by more than 30 ms is held against
///   nobody, and a stall that it saw once only is not found.
/// - A current-thread runtime that is between two `block_on` counts as stuck: its tasks are.
/// - Nothing, where a test has paused the time: no delay is recorded, and no timer is set that would move the time on.
///
/// ```
/// use buttress::metrics::Registry;
/// use buttress::metrics::source::RuntimeMonitor;
///
/// let runtime = tokio::runtime::Runtime::new()?;
/// let monitor = RuntimeMonitor::start_on(&Registry::new(), runtime.handle());
/// assert_eq!(monitor.lag().stalls, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct RuntimeMonitor(Arc<Running>);

/// How late the runtime was in the sliding window: five minutes by default.
///
/// The durations are those of `buttress.runtime.injection_delay`, to within the registry's
/// [`Precision`](crate::window::Precision); zero while nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeLag {
    /// Whether the thread is there. It is not when it could not be started, or when registry or runtime are gone.
    pub monitoring_active: bool,
    /// How many delays were measured.
    pub samples: u64,
    /// Their mean.
    pub average: Duration,
    /// Half of them were not longer.
    pub p50: Duration,
    /// 95 of 100 were not longer.
    pub p95: Duration,
    /// 99 of 100 were not longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
    /// Stalls of workers: those that ended in the window, and those that go on.
    pub stalls: u64,
    /// Workers that are stuck right now.
    pub stuck_workers: usize,
}

impl RuntimeMonitor {
    /// Watches the runtime that this is called on.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[track_caller]
    pub fn start(registry: &Registry) -> Self {
        Self::start_on(registry, &Handle::current())
    }

    /// Watches this runtime.
    ///
    /// Without a time driver ([`enable_time`](tokio::runtime::Builder::enable_time)) there is no timer lag: the first
    /// timer then panics in its task, and no other is set.
    pub fn start_on(registry: &Registry, runtime: &Handle) -> Self {
        let mut all = running();
        all.retain(|running| running.strong_count() > 0);
        let running = all.iter().filter_map(Weak::upgrade).find(|running| running.watches(registry, runtime));
        let running = running.unwrap_or_else(|| {
            let running = Arc::new(Running::new(registry, runtime));
            all.push(Arc::downgrade(&running));
            running
        });
        Self(running)
    }

    /// The monitor that reports to this registry, if somebody has started one and keeps it.
    pub fn of(registry: &Registry) -> Option<Self> {
        let all = running();
        let running = all.iter().filter_map(Weak::upgrade).find(|running| running.registry.is(registry));
        running.map(Self)
    }

    /// How late the runtime was in the sliding window that ends now.
    pub fn lag(&self) -> RuntimeLag {
        let shared = &self.0.shared;
        let stuck_workers = shared.stuck_workers.load(Ordering::Relaxed);
        let ended = shared.stall.window().map_or(0, |window| window.count());
        let mut lag = RuntimeLag {
            monitoring_active: shared.is_active.load(Ordering::Acquire),
            stalls: ended + stuck_workers as u64,
            stuck_workers,
            ..RuntimeLag::default()
        };
        if let Some(window) = shared.injection.window() {
            let quantile = |quantile| Duration::from_micros(window.quantile(quantile).unwrap_or(0));
            lag.samples = window.count();
            lag.average = Duration::from_micros(window.mean().map_or(0, |mean| mean.round() as u64));
            (lag.p50, lag.p95, lag.p99) = (quantile(0.5), quantile(0.95), quantile(0.99));
            lag.max = Duration::from_micros(window.max().unwrap_or(0));
        }
        lag
    }
}

fn running() -> MutexGuard<'static, Vec<Weak<Running>>> {
    static RUNNING: Mutex<Vec<Weak<Running>>> = Mutex::new(Vec::new());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for RuntimeMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeMonitor").field("runtime", &self.0.runtime).finish_non_exhaustive()
    }
}

/// What the thread and the monitors share.
pub(super) struct Shared {
    pub(super) is_stopped: AtomicBool,
    pub(super) is_active: AtomicBool,
    pub(super) stuck_workers: AtomicUsize,
    pub(super) injection: Timer,
    pub(super) stall: Timer,
}

/// A thread that watches; ends with the last monitor.
struct Running {
    shared: Arc<Shared>,
    thread: Option<Thread>,
    runtime: Id,
    registry: WeakRegistry,
}

impl Running {
    fn new(registry: &Registry, runtime: &Handle) -> Self {
        let stall = registry
            .timer("buttress.runtime.stall.duration")
            .description("How long a worker of the runtime was stuck")
            .buckets(millis(&[50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000]));
        let shared = Arc::new(Shared {
            is_stopped: AtomicBool::new(false),
            is_active: AtomicBool::new(true),
            stuck_workers: AtomicUsize::new(0),
            injection: delays(registry, "buttress.runtime.injection_delay", "From spawning a task to its first poll"),
            stall: stall.with(()),
        });
        let watch = Watch::new(registry, runtime, Arc::clone(&shared));
        // A service that cannot start a thread has other sorrows than its lag: it goes on, and the monitor is not active.
        let thread = thread::Builder::new().name("buttress-lag".to_owned()).spawn(move || watch.run());
        Self {
            shared,
            thread: thread.ok().map(|join| join.thread().clone()),
            runtime: runtime.id(),
            registry: registry.downgrade(),
        }
    }

    fn watches(&self, registry: &Registry, runtime: &Handle) -> bool {
        self.runtime == runtime.id() && self.registry.is(registry) && self.shared.is_active.load(Ordering::Acquire)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

/// A timer of delays, most of which are far below a millisecond.
pub(super) fn delays(registry: &Registry, name: &str, description: &'static str) -> Timer {
    let micros =
        [100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];
    let buckets = Buckets::durations(micros.map(Duration::from_micros)).expect("the bounds rise");
    registry.timer(name).description(description).buckets(buckets).with(())
}

fn millis(bounds: &[u64]) -> Buckets {
    Buckets::durations(bounds.iter().copied().map(Duration::from_millis)).expect("the bounds rise")
}
