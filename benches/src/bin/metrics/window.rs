//! Sliding windows: reading, ticking, memory.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress::window::{Precision, SlidingWindow, Span};
use buttress_benches::print;
use buttress_benches::time::{median, thread_time};
use tokio::time::Instant;

use crate::workload::Random;

const TICKS: u32 = 30;
const READS: usize = 2000;
const READ_NANOS: f64 = 10_000.0;
const BUSY_BYTES: f64 = 100_000.0;
const QUIET_BYTES: f64 = 15_000.0;

pub fn print_all(json: bool) {
    let line = |name: &str, value, unit, limit| print(json, &format!("window.{name}"), "buttress", value, unit, limit);
    let (busy, now) = filled(10_000);
    let reads = reads(&busy, now);
    line("read.ns", median(reads.clone()), "ns", Some(READ_NANOS));
    line("read.ns_p99", p99(reads), "ns", None);
    let reads = while_recorded(&busy, || self::reads(&busy, now));
    line("read_while_recorded.ns", median(reads.clone()), "ns", Some(READ_NANOS));
    line("read_while_recorded.ns_p99", p99(reads), "ns", None);
    line("busy.bytes", busy.bytes() as f64, "bytes", Some(BUSY_BYTES));
    let (quiet, _) = filled(20);
    line("quiet.bytes", quiet.bytes() as f64, "bytes", Some(QUIET_BYTES));
    line("tick.ns", median(ticks(10_000)), "ns", None);
    line("quiet_tick.ns", median(ticks(20)), "ns", None);
}

/// A window whose 30 ticks of ten seconds hold so many values each, and its time.
fn filled(each: u64) -> (SlidingWindow, Instant) {
    let (window, mut random) = (SlidingWindow::new(Span::default(), Precision::DEFAULT), Random(3));
    let mut now = Instant::now();
    for _ in 0..TICKS {
        (0..each).for_each(|_| window.record(random.lognormal()));
        now += Span::default().tick();
        window.tick(now);
    }
    // A moment later, with nothing fallen out.
    (window, now - Duration::from_secs(5))
}

fn reads(window: &SlidingWindow, now: Instant) -> Vec<f64> {
    let read = |_| {
        let from = thread_time();
        let seen = window.read(black_box(now));
        black_box([0.5, 0.9, 0.95, 0.99].map(|quantile| seen.quantile(quantile)));
        nanos_since(from)
    };
    (0..READS).map(read).collect()
}

fn while_recorded<T>(window: &SlidingWindow, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let record = |seed| {
        let (mut random, done) = (Random(seed), &done);
        let values: Vec<u64> = (0..4096).map(|_| random.lognormal()).collect();
        move || {
            while !done.load(Ordering::Relaxed) {
                values.iter().for_each(|value| window.record(*value));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(record(1));
        scope.spawn(record(2));
        std::thread::sleep(Duration::from_millis(20));
        let seen = work();
        done.store(true, Ordering::Relaxed);
        seen
    })
}

/// Ticks of a window that is full, so that each forgets a tick as well.
fn ticks(each: u64) -> Vec<f64> {
    let (window, mut now) = filled(each);
    let mut random = Random(5);
    let tick = |_| {
        (0..each).for_each(|_| window.record(random.lognormal()));
        now += Span::default().tick();
        let from = thread_time();
        window.tick(now);
        nanos_since(from)
    };
    (0..100).map(tick).collect()
}

fn nanos_since(from: Duration) -> f64 {
    (thread_time() - from).as_nanos() as f64
}

fn p99(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() * 99 / 100]
}
