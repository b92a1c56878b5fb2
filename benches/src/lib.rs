//! What the measuring programs share: a counting allocator, interleaved rounds, and how figures are printed.

pub mod count;
pub mod subject;
pub mod time;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Counts the allocations of each thread, and the bytes that it holds.
pub struct Counting;

fn count(allocations: u64, bytes: i64) {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + allocations));
    let _ = BYTES.try_with(|count| count.set(count.get() + bytes));
}

// SAFETY: every call goes to the system allocator unchanged; counting touches a thread-local without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations of this thread while the work ran.
pub fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Bytes that this thread holds more than before the work.
pub fn held_bytes<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = BYTES.get();
    let made = work();
    (made, BYTES.get() - before)
}

/// Polls to the end without a runtime: nothing here waits for longer than another thread holds a lock.
pub fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

/// Something to be timed, and its name.
pub type Timed = (&'static str, Box<dyn FnMut()>);

/// Nanoseconds for each subject: the least of interleaved rounds, so that noise hits all of them alike.
pub fn nanoseconds(subjects: &mut [Timed], rounds: u32, calls: u32) -> Vec<f64> {
    let mut least = vec![f64::INFINITY; subjects.len()];
    for _ in 0..rounds {
        for (least, (_, work)) in least.iter_mut().zip(subjects.iter_mut()) {
            let start = Instant::now();
            (0..calls).for_each(|_| work());
            *least = least.min(start.elapsed().as_nanos() as f64 / f64::from(calls));
        }
    }
    least
}

/// One figure, as a line of a table or, with `--json`, as one object; what may be at most is its limit.
pub fn print(json: bool, name: &str, subject: &str, value: f64, unit: &str, limit: Option<f64>) {
    print_bound(json, name, subject, value, unit, limit.map(|limit| ("at most", limit)));
}

/// As [`print`], where the limit is what has to be reached.
pub fn print_least(json: bool, name: &str, subject: &str, value: f64, unit: &str, limit: Option<f64>) {
    print_bound(json, name, subject, value, unit, limit.map(|limit| ("at least", limit)));
}

fn print_bound(json: bool, name: &str, subject: &str, value: f64, unit: &str, bound: Option<(&str, f64)>) {
    if json {
        let limit = bound.map_or("null".to_owned(), |(_, limit)| limit.to_string());
        println!(r#"{{"name":"{name}","subject":"{subject}","value":{value},"unit":"{unit}","limit":{limit}}}"#);
    } else {
        let limit = bound.map_or(String::new(), |(is, limit)| format!("  ({is} {limit})"));
        let decimals = if value.abs() < 10.0 { 2 } else { 1 };
        println!("{name:<36} {subject:<19} {value:>11.decimals$} {unit}{limit}");
    }
}
