//! Processor time of a stretch of work, of one thread or of two at once.
//!
//! Two virtual processors may be two threads of one core, for a while or for good: then two loops that touch nothing but
//! registers take twice as long side by side as one alone. Such a loop runs before and after each stretch of calls, and what
//! it saw of one core does not count.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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

/// Nanoseconds of a call with one thread, after so many to warm up; `None` when it had no core of its own.
pub fn alone(subject: &dyn Subject, warm_up: usize, calls: usize) -> Option<f64> {
    let mut nanos = None;
    subject.enter(&mut |work| {
        work(warm_up);
        let before = has_core();
        let timed = Stretch::of(|| work(calls));
        nanos = (before && has_core()).then(|| timed.nanos(calls));
    });
    nanos
}

/// Nanoseconds of a call with two threads; `None` when they did not really run at once, each on a core of its own.
pub fn both(subject: &dyn Subject, warm_up: usize, calls: usize) -> Option<f64> {
    let [one, other] = at_once(subject, warm_up, calls);
    subject.settle();
    let ran = |(stretch, has_core): &(Stretch, bool)| *has_core && !stretch.was_interrupted();
    let ran = ran(&one) && ran(&other) && one.0.overlap(&other.0) > 0.9;
    ran.then(|| (one.0.nanos(calls) + other.0.nanos(calls)) / 2.0)
}

/// The stretch of each, and whether it had a core of its own before and after.
fn at_once(subject: &dyn Subject, warm_up: usize, calls: usize) -> [(Stretch, bool); 2] {
    let arrived = AtomicUsize::new(0);
    let together = |nth: usize| {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < 2 * nth {
            spin_loop();
        }
    };
    let run = || {
        let mut stretch = None;
        subject.enter(&mut |work| {
            work(warm_up);
            together(1);
            let before = has_core();
            together(2);
            let timed = Stretch::of(|| work(calls));
            together(3);
            stretch = Some((timed, before && has_core()));
        });
        stretch.expect("the subject hands its work over")
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(run);
        let one = run();
        [one, other.join().expect("the work does not panic")]
    })
}

/// Whether a loop that needs a whole core takes about as long as it ever took.
fn has_core() -> bool {
    static LEAST: AtomicU64 = AtomicU64::new(u64::MAX);
    const TURNS: u64 = 1 << 14;
    let from = Instant::now();
    black_box(independent_sums(black_box(TURNS)));
    let took = from.elapsed().as_nanos() as u64;
    let least = LEAST.fetch_min(took, Ordering::Relaxed).min(took);
    took * 4 < least * 5
}

/// As many additions at once as a core can do, none of which waits for another.
fn independent_sums(turns: u64) -> u64 {
    let mut sums = [1_u64, 2, 3, 4, 5, 6];
    for turn in 0..turns {
        for (nth, sum) in sums.iter_mut().enumerate() {
            *sum = (*sum ^ turn).rotate_left(3 + nth as u32);
        }
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}

pub fn least(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
