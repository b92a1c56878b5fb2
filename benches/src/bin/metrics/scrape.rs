//! Telling everything there is, and what that does to who records meanwhile.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use buttress_benches::time::{median, thread_time};
use buttress_benches::{allocations, print};

use crate::registries::{ALL, Make, Registered, Render};
use crate::workload::WORKLOAD;

const FAMILIES: usize = 100;
const SERIES: usize = 10;
const RENDERS: usize = 40;
const RENDER_MILLIS: f64 = 5.0;
/// How long records are timed, one by one, and how often; the median of each figure counts.
const TAIL: Duration = Duration::from_millis(300);
const TAILS: usize = 7;

pub fn print_all(json: bool) {
    let alone =
        Registered { name: "nothing", series: vec![Box::new(|_| {})], renders: vec![], settle: Box::new(|| {}) };
    print_tail(json, "nothing", &alone, None);
    for make in ALL {
        print_of(json, make);
    }
}

fn print_of(json: bool, make: Make) {
    let registered = make(FAMILIES, SERIES);
    for (nth, series) in registered.series.iter().enumerate() {
        WORKLOAD.times.iter().cycle().skip(nth).take(100).for_each(|took| series(*took));
    }
    (registered.settle)();
    for (way, render) in &registered.renders {
        let times = (0..RENDERS).map(|_| {
            let from = thread_time();
            black_box(render());
            (thread_time() - from).as_secs_f64() * 1e3
        });
        let limit = registered.name.starts_with("buttress").then_some(RENDER_MILLIS);
        print(json, &format!("scrape.{way}.ms"), registered.name, median(times.collect()), "ms", limit);
        let allocated = allocations(|| {
            black_box(render());
        }) as f64;
        print(json, &format!("scrape.{way}.allocations"), registered.name, allocated, "allocations", None);
    }
    for (way, render) in &registered.renders {
        print_tail(json, way, &registered, Some(render));
        (registered.settle)();
    }
}

/// Records are timed one by one on this thread, while another one renders without a pause.
fn print_tail(json: bool, way: &str, registered: &Registered, render: Option<&Render>) {
    let done = AtomicBool::new(false);
    let tails = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                black_box(render.map(|render| render()));
            }
        });
        let tails: Vec<Tail> = (0..TAILS).map(|_| Tail::of(registered)).collect();
        done.store(true, Ordering::Relaxed);
        tails
    });
    let line = |figure: &str, unit, of: fn(&Tail) -> f64| {
        let value = median(tails.iter().map(of).collect());
        print(json, &format!("record_during_{way}.{figure}"), registered.name, value, unit, None);
    };
    line("p999_ns", "ns", |tail| tail.quantile(0.999));
    line("p9999_ns", "ns", |tail| tail.quantile(0.9999));
    line("over_10us", "per million", Tail::over_10_micros);
}

/// How often a record took how many nanoseconds, the clock's own among them.
struct Tail(Vec<u64>);

impl Tail {
    fn of(registered: &Registered) -> Self {
        let mut counts = vec![0; 20_000];
        let last = counts.len() - 1;
        let until = Instant::now() + TAIL;
        for (series, took) in registered.series.iter().cycle().zip(WORKLOAD.times.iter().cycle()) {
            let from = Instant::now();
            series(*took);
            let to = Instant::now();
            counts[((to - from).as_nanos() as usize).min(last)] += 1;
            if to > until {
                break;
            }
        }
        Self(counts)
    }

    fn quantile(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.0.iter().sum::<u64>() as f64) as u64;
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count;
            seen > rank
        });
        at.unwrap_or(self.0.len()) as f64
    }

    fn over_10_micros(&self) -> f64 {
        self.0[10_000..].iter().sum::<u64>() as f64 / self.0.iter().sum::<u64>() as f64 * 1e6
    }
}
