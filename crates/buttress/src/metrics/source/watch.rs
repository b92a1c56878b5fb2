//! The thread that watches a runtime.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};

use super::probe::{BEAT, Looked, Mark, Probe};
use super::runtime::{Shared, delays};
use super::stall::{Change, Reading, Worker};
use super::unstable::Unstable;
use crate::clock::{self, Instant};
use crate::metrics::registry::WeakRegistry;
use crate::metrics::{Counter, Gauge, Registry, Timer};

/// How far ahead timers are set: so that they are over by the next beat.
const TIMER: Duration = Duration::from_millis(5);

/// Tokio's timers fire up to this much late by design.
const COARSENESS: Duration = Duration::from_millis(1);

/// Gauges are told less often than is measured: utilization over a beat would be noise.
const BEATS_PER_GAUGE: u32 = 100;

pub(super) const WORKER: &str = "buttress.runtime.worker";

/// Everything that the thread has. It holds neither registry nor runtime, only instruments and a handle.
pub(super) struct Watch {
    shared: Arc<Shared>,
    registry: WeakRegistry,
    runtime: Handle,
    metrics: RuntimeMetrics,
    injection: Probe,
    timer: Probe,
    timer_lag: Timer,
    own_lag: Timer,
    /// Whether the runtime has timers; unknown until the first has fired or failed.
    has_timers: Option<bool>,
    /// Whether the task that was asked last sets the timer; an earlier one may still wait for its own.
    is_one_task: bool,
    /// Whether the runtime's clock is the real one, as of its latest answer.
    is_real_time: bool,
    workers: Vec<Watched>,
    gauges: Gauges,
    unstable: Unstable,
    beats: u32,
}

struct Watched {
    worker: Worker,
    busy_before: Duration,
    stalls: Counter,
    utilization: Gauge,
}

struct Gauges {
    before: Instant,
    workers: Gauge,
    stuck_workers: Gauge,
    alive_tasks: Gauge,
    global_queue_depth: Gauge,
}

impl Watch {
    pub(super) fn new(registry: &Registry, runtime: &Handle, shared: Arc<Shared>) -> Self {
        let (metrics, now) = (runtime.metrics(), clock::now());
        let unstable = Unstable::new(registry, &metrics);
        let workers = (0..metrics.num_workers()).map(|index| Watched::new(registry, &metrics, index, now)).collect();
        Self {
            shared,
            registry: registry.downgrade(),
            runtime: runtime.clone(),
            metrics,
            injection: Probe::default(),
            timer: Probe::default(),
            timer_lag: delays(registry, "buttress.runtime.timer_lag", "How late timers of the runtime fire"),
            own_lag: delays(registry, "buttress.runtime.monitor_lag", "How late the thread that watches is itself"),
            has_timers: None,
            is_one_task: false,
            is_real_time: false,
            workers,
            gauges: Gauges::new(registry, now),
            unstable,
            beats: 0,
        }
    }

    /// Until nobody wants to know any more, or there is nothing left to watch.
    pub(super) fn run(mut self) {
        let mut due = clock::now();
        loop {
            let now = self.wait_until(due);
            if self.is_over() || self.beat(now).is_break() {
                return;
            }
            // Open loop: beats keep their times, and those that were missed are late, not left out.
            while due <= now {
                self.own_lag.record(now.saturating_duration_since(due));
                due += BEAT;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire) || self.registry.is_gone()
    }

    fn wait_until(&self, next: Instant) -> Instant {
        loop {
            let now = clock::now();
            if now >= next || self.is_over() {
                return now;
            }
            std::thread::park_timeout(next.saturating_duration_since(now));
        }
    }

    fn beat(&mut self, now: Instant) -> ControlFlow<()> {
        self.look_at_workers(now);
        self.look_at_answers(now)?;
        if self.beats.is_multiple_of(BEATS_PER_GAUGE) {
            self.set_gauges(now);
        }
        self.beats = self.beats.wrapping_add(1);
        if !self.injection.is_waiting() {
            self.ask();
        }
        ControlFlow::Continue(())
    }

    fn look_at_workers(&mut self, now: Instant) {
        for (index, watched) in self.workers.iter_mut().enumerate() {
            match watched.worker.look(reading(&self.metrics, index), now) {
                Change::None => continue,
                Change::Stuck => watched.stalls.add(1),
                Change::Freed(length) => self.shared.stall.record(length),
                Change::WasStuck(length) => {
                    watched.stalls.add(1);
                    self.shared.stall.record(length);
                }
            }
        }
        let stuck = self.workers.iter().filter(|watched| watched.worker.is_stuck()).count();
        if self.shared.stuck_workers.swap(stuck, Ordering::Relaxed) != stuck {
            self.gauges.stuck_workers.set(stuck as f64);
        }
    }

    fn look_at_answers(&mut self, now: Instant) -> ControlFlow<()> {
        match self.injection.look(now, |delay| self.shared.injection.record(delay)) {
            // Only a runtime that is shut down drops a task which has not yet run.
            Looked::Lost => return ControlFlow::Break(()),
            Looked::ForeignClock => self.is_real_time = false,
            Looked::Answered => self.is_real_time = true,
            Looked::Idle | Looked::Waiting => {}
        }
        // A timer that will never fire is not late.
        let is_known = self.has_timers == Some(true);
        let record = |lag| {
            if is_known {
                self.timer_lag.record(lag)
            }
        };
        match self.timer.look(now, record) {
            Looked::Answered => self.has_timers = Some(true),
            Looked::Lost => self.has_timers = Some(false),
            Looked::Idle | Looked::Waiting | Looked::ForeignClock => {}
        }
        ControlFlow::Continue(())
    }

    fn ask(&mut self) {
        let now = clock::now();
        let polled = self.injection.ask(now, now);
        // In paused time a timer would be what the time leaps to.
        let sets_timer = self.has_timers != Some(false) && self.is_real_time && !self.timer.is_waiting();
        let timer = sets_timer.then(|| (now + TIMER, self.timer.ask(now, now + TIMER + COARSENESS)));
        self.is_one_task = sets_timer;
        self.runtime.spawn(answer(polled, timer));
    }

    fn set_gauges(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.gauges.before).as_secs_f64();
        self.gauges.before = now;
        for watched in &mut self.workers {
            let busy = watched.worker.busy(now);
            let more = busy.saturating_sub(watched.busy_before).as_secs_f64();
            watched.utilization.set(if passed > 0.0 { (more / passed).min(1.0) } else { 0.0 });
            watched.busy_before = busy;
        }
        let own = match (self.injection.is_waiting(), self.timer.is_waiting()) {
            (true, true) if !self.is_one_task => 2,
            (false, false) => 0,
            _ => 1,
        };
        self.gauges.workers.set(self.workers.len() as f64);
        self.gauges.stuck_workers.set(self.shared.stuck_workers.load(Ordering::Relaxed) as f64);
        self.gauges.alive_tasks.set(self.metrics.num_alive_tasks().saturating_sub(own) as f64);
        self.gauges.global_queue_depth.set(self.metrics.global_queue_depth() as f64);
        self.unstable.set(&self.metrics);
    }
}

impl Drop for Watch {
    /// When the thread ends, whatever the reason: what was last seen must not look like what is.
    fn drop(&mut self) {
        self.shared.is_active.store(false, Ordering::Release);
        self.shared.stuck_workers.store(0, Ordering::Relaxed);
        let Gauges { before: _, workers, stuck_workers, alive_tasks, global_queue_depth } = &self.gauges;
        [workers, stuck_workers, alive_tasks, global_queue_depth].into_iter().for_each(|gauge| gauge.set(0.0));
        self.workers.iter().for_each(|watched| watched.utilization.set(0.0));
        self.unstable.reset();
    }
}

/// The task that is spawned at each beat.
async fn answer(polled: Mark, timer: Option<(Instant, Mark)>) {
    polled.reached();
    if let Some((deadline, fired)) = timer {
        tokio::time::sleep_until(deadline).await;
        fired.reached();
    }
}

fn reading(metrics: &RuntimeMetrics, worker: usize) -> Reading {
    Reading { turns: metrics.worker_park_unpark_count(worker), busy: metrics.worker_total_busy_duration(worker) }
}

impl Watched {
    fn new(registry: &Registry, metrics: &RuntimeMetrics, index: usize, now: Instant) -> Self {
        let labels = [(WORKER, index as i64)];
        let reading = reading(metrics, index);
        Self {
            worker: Worker::new(reading, now),
            busy_before: reading.busy,
            stalls: registry
                .counter("buttress.runtime.stalls")
                .unit("{stall}")
                .description("How often a worker of the runtime did not come round for more than 30 ms")
                .with(labels),
            utilization: registry
                .gauge("buttress.runtime.worker.utilization")
                .unit("1")
                .description("The part of its time for which a worker of the runtime is not parked")
                .with(labels),
        }
    }
}

impl Gauges {
    fn new(registry: &Registry, now: Instant) -> Self {
        let gauge = |name: &str, unit: &'static str, description: &'static str| {
            registry.gauge(name).unit(unit).description(description).with(())
        };
        Self {
            before: now,
            workers: gauge("buttress.runtime.workers", "{worker}", "Workers of the runtime"),
            stuck_workers: gauge("buttress.runtime.stuck_workers", "{worker}", "Workers that are stuck right now"),
            alive_tasks: gauge("buttress.runtime.alive_tasks", "{task}", "Tasks of the runtime that have not ended"),
            global_queue_depth: gauge(
                "buttress.runtime.global_queue_depth",
                "{task}",
                "Tasks that wait in the runtime's common queue",
            ),
        }
    }
}
