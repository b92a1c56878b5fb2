//! Processor time of recording, in rounds that take turns.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::workload::Subject;

/// Records of a round: a few milliseconds, so that most rounds are not interrupted.
const RECORDS: usize = 1 << 15;
const WARM_UP: usize = 1 << 13;
const ROUNDS: usize = 25;
/// Rounds of two threads that are tried for those that overlap.
const TRIES: usize = 100;

/// Nanoseconds of a record.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub median: f64,
    pub least: f64,
    /// Of what [`Subject::settle`] did for each record.
    pub settled: f64,
}

/// A stretch of work on one thread.
struct Stretch {
    processor: Duration,
    from: Instant,
    to: Instant,
}

impl Stretch {
    fn of(work: impl FnOnce()) -> Self {
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

    fn nanos(&self, records: usize) -> f64 {
        self.processor.as_nanos() as f64 / records as f64
    }
}

/// Of this thread, as the kernel accounts it.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// With one thread.
pub fn one_thread(subjects: &[Box<dyn Subject>]) -> Vec<Figures> {
    let mut rounds = vec![Vec::new(); subjects.len()];
    let mut settled = vec![Vec::new(); subjects.len()];
    for _ in 0..ROUNDS {
        for (nth, subject) in subjects.iter().enumerate() {
            subject.enter(&mut |work| {
                work(WARM_UP);
                rounds[nth].push(Stretch::of(|| work(RECORDS)).nanos(RECORDS));
            });
            settled[nth].push(Stretch::of(|| subject.settle()).nanos(RECORDS + WARM_UP));
        }
    }
    let figures = rounds.into_iter().zip(settled);
    figures.map(|(rounds, settled)| Figures { settled: median(settled), ..Figures::of(rounds) }).collect()
}

/// With two threads that record into the same series; only rounds in which both ran at once count. `None` when there were
/// fewer than three.
pub fn two_threads(subjects: &[Box<dyn Subject>]) -> Vec<Option<Figures>> {
    let mut rounds = vec![Vec::new(); subjects.len()];
    for _ in 0..TRIES {
        for (rounds, subject) in rounds.iter_mut().zip(subjects).filter(|(rounds, _)| rounds.len() < ROUNDS) {
            let [one, other] = at_once(subject.as_ref());
            subject.settle();
            if !one.was_interrupted() && !other.was_interrupted() && one.overlap(&other) > 0.9 {
                rounds.push((one.nanos(RECORDS) + other.nanos(RECORDS)) / 2.0);
            }
        }
    }
    rounds.into_iter().map(|rounds| (rounds.len() >= 3).then(|| Figures::of(rounds))).collect()
}

fn at_once(subject: &dyn Subject) -> [Stretch; 2] {
    let ready = AtomicUsize::new(0);
    let run = || {
        let mut stretch = None;
        subject.enter(&mut |work| {
            work(WARM_UP);
            ready.fetch_add(1, Ordering::AcqRel);
            while ready.load(Ordering::Acquire) < 2 {
                spin_loop();
            }
            stretch = Some(Stretch::of(|| work(RECORDS)));
        });
        stretch.expect("the subject hands its work over")
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(run);
        let one = run();
        [one, other.join().expect("recording does not panic")]
    })
}

impl Figures {
    fn of(rounds: Vec<f64>) -> Self {
        let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        Self { median: median(rounds), least, settled: 0.0 }
    }
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
