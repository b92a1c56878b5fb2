//! Memory of series.

use buttress_benches::{held_bytes, print};

use crate::registries::{ALL, Make};
use crate::workload::WORKLOAD;

const SERIES: usize = 1000;
const SAMPLES: usize = 100;

pub fn print_all(json: bool) {
    for make in ALL {
        let (name, each, threads) = held(make);
        print(json, "heap.per_series", name, each, "bytes", None);
        print(json, "heap.per_series_2threads", name, threads, "bytes", None);
        let (_kept, family) = held_bytes(|| make(1, 0));
        print(json, "heap.per_family", name, family as f64, "bytes", None);
    }
}

/// Bytes of a series that one thread has recorded into, and once another one has too. What puts work off has done it.
fn held(make: Make) -> (&'static str, f64, f64) {
    let record = |series: &dyn Fn(std::time::Duration), nth: usize| {
        WORKLOAD.times.iter().cycle().skip(nth).take(SAMPLES).for_each(|took| series(*took));
    };
    let (registered, one) = held_bytes(|| {
        let registered = make(1, SERIES);
        registered.series.iter().enumerate().for_each(|(nth, series)| record(series, nth));
        (registered.settle)();
        registered
    });
    let other = std::thread::scope(|scope| {
        let recording = scope.spawn(|| {
            let work = || registered.series.iter().enumerate().for_each(|(nth, series)| record(series, nth));
            held_bytes(work).1
        });
        recording.join().expect("recording does not panic")
    });
    let ((), settled) = held_bytes(|| (registered.settle)());
    let each = |bytes: i64| bytes as f64 / SERIES as f64;
    (registered.name, each(one), each(one + other + settled))
}
