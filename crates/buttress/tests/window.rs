//! Sliding windows against the exact answer: percentiles, rotation, readers that are late or many.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use buttress::window::{Distribution, Precision, SlidingWindow, Span};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];
const SECOND: Duration = Duration::from_secs(1);

/// Latencies as services have them: lognormal, median 20 ms, in microseconds.
fn lognormal(count: usize, seed: u64) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            // Box and Muller, 1958.
            let (radius, angle) = (1.0 - random.random::<f64>(), random.random::<f64>());
            let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
            (20_000.0 * normal.exp()) as u64
        })
        .collect()
}

/// The value whose rank is the part of all that is asked for, exact.
fn exact(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Each quantile is the exact one, or above it by the error of the precision at most.
fn check(seen: &Distribution, values: &[u64]) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    assert_eq!(seen.count(), sorted.len() as u64);
    assert_eq!(seen.sum(), sorted.iter().sum::<u64>());
    for quantile in QUANTILES {
        let (told, exact) = (seen.quantile(quantile).unwrap(), exact(&sorted, quantile));
        let most = exact as f64 * (1.0 + seen.precision().error());
        assert!(exact <= told && told as f64 <= most, "p{}: {told} for {exact}", 100.0 * quantile);
    }
}

#[test]
fn percentiles_are_within_the_stated_error_after_rotation() {
    let values = lognormal(300_000, 1);
    for precision in [Precision::ONE_DIGIT, Precision::DEFAULT, Precision::TWO_DIGITS, Precision::THREE_DIGITS] {
        let window = SlidingWindow::new(Span::default(), precision);
        let began = Instant::now();
        // 40 ticks, so that the first ten have left the window of 30.
        for (nth, chunk) in values.chunks(values.len() / 40).enumerate() {
            chunk.iter().for_each(|value| window.record(*value));
            window.tick(began + 10 * SECOND * (nth as u32 + 1));
        }
        let seen = window.read(began + 400 * SECOND);
        check(&seen, &values[values.len() / 4..]);
        assert_eq!(seen.covers(), 300 * SECOND);
        assert_eq!(seen.rate(), 750.0);
    }
}

#[test]
fn a_window_folds_into_an_hdrhistogram_bucket_for_bucket() {
    let values = lognormal(300_000, 2);
    for (precision, digits) in [(Precision::ONE_DIGIT, 1), (Precision::TWO_DIGITS, 2), (Precision::THREE_DIGITS, 3)] {
        let window = SlidingWindow::new(Span::default(), precision);
        let mut reference = hdrhistogram::Histogram::<u64>::new_with_bounds(1, (1 << 42) - 1, digits).unwrap();
        for value in &values {
            window.record(*value);
            reference.record(*value).unwrap();
        }
        let folded = window.read(Instant::now()).histogram();
        let buckets = |histogram: &hdrhistogram::Histogram<u64>| -> Vec<(u64, u64)> {
            histogram.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect()
        };
        assert_eq!(buckets(&folded), buckets(&reference), "{digits} digits");
    }
}

#[cfg(feature = "hdr-v2")]
#[test]
fn two_instances_are_merged_by_what_they_serialise() {
    use base64::Engine;
    use hdrhistogram::serialization::Deserializer;

    let (one, other) = (lognormal(10_000, 6), lognormal(10_000, 7));
    let serialised = |values: &[u64]| {
        let window = SlidingWindow::new(Span::default(), Precision::TWO_DIGITS);
        values.iter().for_each(|value| window.record(*value));
        window.read(Instant::now()).to_hdr_v2()
    };
    let read = |text: &str| -> hdrhistogram::Histogram<u64> {
        let packed = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        Deserializer::new().deserialize(&mut packed.as_slice()).unwrap()
    };
    // V2, compressed: how every log of HdrHistogram begins.
    assert!(serialised(&one).starts_with("HISTFAAA"));
    let mut merged = read(&serialised(&one));
    merged.add(read(&serialised(&other))).unwrap();
    let mut all = [one, other].concat();
    all.sort_unstable();
    assert_eq!(merged.len(), 20_000);
    let (told, exact) = (merged.value_at_quantile(0.95), exact(&all, 0.95));
    assert!(exact <= told && told as f64 <= exact as f64 * 1.0079, "{told} for {exact}");
}

#[test]
fn a_reader_that_comes_after_a_long_silence_of_the_ticker_misses_nothing() {
    let values = lognormal(10_000, 3);
    let window = SlidingWindow::new(Span::default(), Precision::DEFAULT);
    let began = Instant::now();
    values.iter().for_each(|value| window.record(*value));
    // Nobody ticked for an hour: all of it was counted since, and the window says how long that is.
    let seen = window.read(began + 3600 * SECOND);
    check(&seen, &values);
    assert!(seen.covers() >= 3599 * SECOND, "{:?}", seen.covers());
    // That reading closed the hour; five minutes later it is out.
    assert_eq!(window.read(began + 3899 * SECOND).count(), values.len() as u64);
    assert_eq!(window.read(began + 3900 * SECOND).count(), 0);
}

#[test]
fn readers_take_nothing_from_each_other() {
    let window = SlidingWindow::new(Span::default(), Precision::DEFAULT);
    let began = Instant::now();
    let done = AtomicBool::new(false);
    let values = lognormal(300_000, 4);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    while !done.load(Relaxed) {
                        let count = window.read(began).count();
                        assert!(count >= last, "{count} after {last}: somebody took it away");
                        last = count;
                    }
                })
            })
            .collect();
        let recorders = values.chunks(values.len() / 2).map(|chunk| {
            let window = &window;
            scope.spawn(move || chunk.iter().for_each(|value| window.record(*value)))
        });
        for recorder in recorders.collect::<Vec<_>>() {
            recorder.join().unwrap();
            window.tick(began);
        }
        done.store(true, Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    check(&window.read(began), &values);
    check(&window.read(began), &values);
}

#[test]
fn a_quantile_is_the_least_value_that_so_many_do_not_exceed() {
    let window = SlidingWindow::new(Span::default(), Precision::THREE_DIGITS);
    [10, 20, 30].into_iter().for_each(|value| window.record(value));
    let seen = window.read(Instant::now());
    let told = [-1.0, 0.0, 0.33, 0.34, 0.5, 0.66, 0.67, 1.0, 2.0].map(|quantile| seen.quantile(quantile).unwrap());
    assert_eq!(told, [10, 10, 10, 20, 20, 20, 30, 30, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_window_in_which_nothing_was_recorded_has_no_error_and_no_mean() {
    let window = SlidingWindow::new(Span::default(), Precision::DEFAULT);
    for now in [Instant::now(), Instant::now() + SECOND] {
        let seen = window.read(now);
        assert_eq!((seen.count(), seen.error_ratio(), seen.rate()), (0, 0.0, 0.0));
        assert_eq!((seen.mean(), seen.quantile(0.5), seen.max(), seen.apdex(100)), (None, None, None, None));
    }
}

#[test]
fn errors_and_the_share_of_the_satisfied_slide_with_the_rest() {
    let window = SlidingWindow::new(Span::new(60 * SECOND, 10 * SECOND).unwrap(), Precision::THREE_DIGITS);
    let began = Instant::now();
    (0..6).for_each(|_| window.record(100));
    (0..3).for_each(|_| window.record(400));
    window.record_error(5000);
    let seen = window.read(began);
    assert_eq!((seen.count(), seen.errors(), seen.error_ratio()), (10, 1, 0.1));
    // Six satisfied, three tolerating, one too slow that failed as well: it is frustrated once.
    assert_eq!(seen.apdex(100), Some(0.75));
    // Without the target's errors: whoever failed fast is not satisfied.
    window.record_error(50);
    window.record_error(300);
    assert_eq!(window.read(began).apdex(100), Some((6.0 + 3.0 / 2.0) / 12.0));
    assert_eq!(seen.mean(), Some(680.0));
    window.tick(began);
    assert_eq!(window.read(began).errors(), 3);
    let later = window.read(began + 60 * SECOND);
    assert_eq!((later.count(), later.errors(), later.apdex(100)), (0, 0, None));
}

#[test]
fn the_memory_of_a_busy_and_of_a_quiet_window_is_as_promised() {
    let fill = |per_tick: usize| {
        let window = SlidingWindow::new(Span::default(), Precision::DEFAULT);
        let began = Instant::now();
        for (nth, chunk) in lognormal(per_tick * 30, 5).chunks(per_tick).enumerate() {
            // From two threads, as in a service.
            std::thread::scope(|scope| {
                for half in chunk.chunks(per_tick.div_ceil(2)) {
                    scope.spawn(|| half.iter().for_each(|value| window.record(*value)));
                }
            });
            window.tick(began + 10 * SECOND * (nth as u32 + 1));
        }
        window.bytes()
    };
    // 1000 and 2 a second.
    let (busy, quiet) = (fill(10_000), fill(20));
    println!("busy {busy} bytes, quiet {quiet} bytes");
    assert!(busy <= 100_000, "busy: {busy}");
    assert!(quiet <= 15_000, "quiet: {quiet}");
}

#[derive(Clone, Debug)]
enum Step {
    Record(u64),
    Error(u64),
    Pass(u32),
    Tick,
    Read,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![0..100_u64, any::<u64>().prop_map(|value| value >> 22)];
    prop::collection::vec(
        prop_oneof![
            8 => value.clone().prop_map(Step::Record),
            1 => value.prop_map(Step::Error),
            2 => (1..40_u32).prop_map(Step::Pass),
            4 => Just(Step::Tick),
            2 => Just(Step::Read),
        ],
        0..300,
    )
}

proptest! {
    /// Against a list of everything that was recorded, with the tick that closed it.
    #[test]
    fn a_window_holds_what_a_list_of_all_values_says(steps in steps()) {
        let span = Span::new(60 * SECOND, 10 * SECOND).unwrap();
        let window = SlidingWindow::new(span, Precision::DEFAULT);
        let mut now = Instant::now();
        let mut ticked = now;
        // Value, whether it was an error, and when the tick came that closed it.
        let mut all: Vec<(u64, bool, Option<Instant>)> = Vec::new();
        for step in steps {
            match step {
                Step::Record(value) => {
                    window.record(value);
                    all.push((value, false, None));
                }
                Step::Error(value) => {
                    window.record_error(value);
                    all.push((value, true, None));
                }
                Step::Pass(seconds) => now += SECOND * seconds,
                Step::Tick | Step::Read => {
                    let is_tick = matches!(step, Step::Tick);
                    if is_tick || now - ticked >= 20 * SECOND {
                        ticked = now;
                        all.iter_mut().for_each(|(.., closed)| { closed.get_or_insert(now); });
                    }
                    if is_tick {
                        window.tick(now);
                        continue;
                    }
                    let seen = window.read(now);
                    let inside = |closed: &Option<Instant>| closed.is_none_or(|closed| now - closed < 60 * SECOND);
                    let held: Vec<_> = all.iter().filter(|(.., closed)| inside(closed)).collect();
                    prop_assert_eq!(seen.count(), held.len() as u64);
                    prop_assert_eq!(seen.errors(), held.iter().filter(|(_, error, _)| *error).count() as u64);
                    prop_assert_eq!(seen.sum(), held.iter().map(|(value, ..)| value).sum::<u64>());
                    if let Some(max) = held.iter().map(|(value, ..)| *value).max() {
                        let told = seen.max().unwrap();
                        prop_assert!(told >= max && told as f64 <= max as f64 * (1.0 + seen.precision().error()) + 1.0);
                    }
                }
            }
        }
    }
}
