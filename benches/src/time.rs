//! Processor time of a stretch of work, of one thread or of two at once.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::subject::Subject;

/// A stretch of work on one thread.
pub struct Stretch {
    processor: Duration,
    from: Instant,
    to: Instant,
}

impl Stretch {
    pub fn of(work: impl FnOnce()) -> Self {
        let (from, processor) = (Instant::now(), thread_time());
        work();
        Self { processor: thread_time() - processor, from, to: Instant::now() }
    }

    fn was_interrupted(&self) -> bool {
        self.to - self.from > self.processor.mul_f64(1.1)
    }

    /// The part of the longer one in which both ran.
    fn overlap(&self, other: &Self) -> f64 {
        let both = self.to.min(other.to).saturating_duration_since(self.from.max(other.from));
        let longer = (self.to - self.from).max(other.to - other.from);
        both.as_secs_f64() / longer.as_secs_f64()
    }

    /// Nanoseconds of each of so many calls.
    pub fn nanos(&self, calls: usize) -> f64 {
        self.processor.as_nanos() as f64 / calls as f64
    }
}

/// Of this thread, as the kernel accounts it.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of a call with one thread, after so many to warm up.
pub fn alone(subject: &dyn Subject, warm_up: usize, calls: usize) -> f64 {
    let mut nanos = f64::NAN;
    subject.enter(&mut |work| {
        work(warm_up);
        nanos = Stretch::of(|| work(calls)).nanos(calls);
    });
    nanos
}

/// Nanoseconds of a call with two threads; `None` when they did not really run at once.
pub fn both(subject: &dyn Subject, warm_up: usize, calls: usize) -> Option<f64> {
    let [one, other] = at_once(subject, warm_up, calls);
    subject.settle();
    let ran = !one.was_interrupted() && !other.was_interrupted() && one.overlap(&other) > 0.9;
    ran.then(|| (one.nanos(calls) + other.nanos(calls)) / 2.0)
}

fn at_once(subject: &dyn Subject, warm_up: usize, calls: usize) -> [Stretch; 2] {
    let ready = AtomicUsize::new(0);
    let run = || {
        let mut stretch = None;
        subject.enter(&mut |work| {
            work(warm_up);
            ready.fetch_add(1, Ordering::AcqRel);
            while ready.load(Ordering::Acquire) < 2 {
                spin_loop();
            }
            stretch = Some(Stretch::of(|| work(calls)));
        });
        stretch.expect("the subject hands its work over")
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(run);
        let one = run();
        [one, other.join().expect("the work does not panic")]
    })
}

pub fn least(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
