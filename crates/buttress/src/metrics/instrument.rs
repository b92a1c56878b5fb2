//! What is counted with. Handles are cheap to clone, and are best resolved once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::buckets::nanos;
use super::family::FamilyCore;
use super::measure::Measure;
use super::series::{HistogramSeries, Sum};
use crate::clock::{self, Instant};
use crate::shard::Shard;
use crate::window::Distribution;

/// One of the kinds of instruments. There are no others.
pub trait Instrument: sealed::Make {}

/// [`Histogram`] and [`Timer`]: those that count in buckets.
pub trait Bucketed: Instrument {}

impl Bucketed for Histogram {}
impl Bucketed for Timer {}

#[allow(private_interfaces, unnameable_types, reason = "nobody outside can name, call or implement this")]
pub(super) mod sealed {
    use super::{FamilyCore, Kind, Measure, Series};

    pub trait Make: Clone {
        #[doc(hidden)]
        const KIND: Kind;
        #[doc(hidden)]
        const MEASURE: Measure;
        #[doc(hidden)]
        fn series(family: &FamilyCore) -> Series;
        #[doc(hidden)]
        fn handle(series: &Series) -> Self;
    }
}

/// What a family of metrics is, in OpenTelemetry's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A sum that only rises.
    Counter,
    /// A sum that rises and falls.
    UpDownCounter,
    /// The latest value.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// The numbers of one series.
#[derive(Clone)]
pub(super) enum Series {
    Sum(Arc<Sum>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<HistogramSeries>),
}

/// A sum that only rises.
#[derive(Clone)]
pub struct Counter(Arc<Sum>);

impl Counter {
    /// Adds.
    pub fn add(&self, value: u64) {
        self.0.add(Shard::mine(), value);
    }

    /// For a total that somebody else counts: the operating system, a cache. It never goes back.
    pub fn advance_to(&self, total: u64) {
        self.0.advance_to(total);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.total()
    }
}

/// A sum of time that only rises; told in seconds.
#[derive(Clone)]
pub struct TimeCounter(Arc<Sum>);

impl TimeCounter {
    /// Adds.
    pub fn add(&self, time: Duration) {
        self.0.add(Shard::mine(), nanos(time));
    }

    /// For a total that somebody else counts. It never goes back.
    pub fn advance_to(&self, total: Duration) {
        self.0.advance_to(nanos(total));
    }

    /// The sum so far.
    pub fn value(&self) -> Duration {
        Duration::from_nanos(self.0.total())
    }
}

/// A sum that rises and falls: how many there are right now.
#[derive(Clone)]
pub struct UpDownCounter(Arc<Sum>);

impl UpDownCounter {
    /// Adds, or takes away.
    pub fn add(&self, value: i64) {
        self.0.add(Shard::mine(), value as u64);
    }

    /// Adds one, and takes it away when the guard is dropped, however that comes about.
    #[must_use = "the one is taken away when the guard is dropped"]
    pub fn hold(&self) -> Held {
        self.add(1);
        Held(self.clone())
    }

    /// The sum.
    pub fn value(&self) -> i64 {
        self.0.total() as i64
    }
}

/// One that is there until this is dropped; of [`UpDownCounter::hold`].
#[derive(Debug)]
pub struct Held(UpDownCounter);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// The latest value.
#[derive(Clone)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Release);
    }

    /// The latest value; 0 at first.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Acquire))
    }
}

/// Counts of whole numbers in buckets: sizes, lengths.
#[derive(Clone)]
pub struct Histogram(Arc<HistogramSeries>);

impl Histogram {
    /// Counts a value, with an exemplar of the current trace if that is sampled.
    pub fn record(&self, value: u64) {
        self.0.record_here(value, Measure::Plain);
    }

    /// Counts a value so many times: for what somebody else has put into buckets already. Without exemplars.
    pub fn record_many(&self, value: u64, times: u64) {
        self.0.record_many(value, times, Measure::Plain);
    }

    /// What was recorded in the window that ends now; `None` for a family without windows.
    pub fn window(&self) -> Option<Distribution> {
        Some(self.0.window()?.read(clock::now()))
    }
}

/// Counts of durations in buckets; told in seconds, in windows in microseconds.
#[derive(Clone)]
pub struct Timer(Arc<HistogramSeries>);

impl Timer {
    /// Counts a duration, with an exemplar of the current trace if that is sampled.
    pub fn record(&self, duration: Duration) {
        self.0.record_here(nanos(duration), Measure::Time);
    }

    /// Counts a duration so many times: for what somebody else has put into buckets already. Without exemplars.
    pub fn record_many(&self, duration: Duration, times: u64) {
        self.0.record_many(nanos(duration), times, Measure::Time);
    }

    /// Counts the time until the guard is dropped, however that comes about.
    #[must_use = "the time ends when the guard is dropped"]
    pub fn start(&self) -> Timed {
        Timed { timer: self.clone(), started: clock::now() }
    }

    /// What was recorded in the window that ends now, in microseconds; `None` for a family without windows.
    pub fn window(&self) -> Option<Distribution> {
        Some(self.0.window()?.read(clock::now()))
    }
}

/// A time that runs until this is dropped; of [`Timer::start`].
#[derive(Debug)]
pub struct Timed {
    timer: Timer,
    started: Instant,
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.timer.record(clock::now().saturating_duration_since(self.started));
    }
}

macro_rules! instrument {
    ($instrument:ident, $kind:ident, $measure:ident, $series:ident, $make:expr) => {
        impl Instrument for $instrument {}

        #[allow(private_interfaces, reason = "of the sealed trait")]
        impl sealed::Make for $instrument {
            const KIND: Kind = Kind::$kind;
            const MEASURE: Measure = Measure::$measure;

            fn series(family: &FamilyCore) -> Series {
                let make: fn(&FamilyCore) -> _ = $make;
                Series::$series(Arc::new(make(family)))
            }

            fn handle(series: &Series) -> Self {
                match series {
                    Series::$series(series) => Self(Arc::clone(series)),
                    _ => unreachable!("a family has series of its own kind only"),
                }
            }
        }

        impl fmt::Debug for $instrument {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($instrument))
            }
        }
    };
}

instrument!(Counter, Counter, Plain, Sum, |_| Sum::new());
instrument!(TimeCounter, Counter, Time, Sum, |_| Sum::new());
instrument!(UpDownCounter, UpDownCounter, Plain, Sum, |_| Sum::new());
instrument!(Gauge, Gauge, Plain, Gauge, |_| AtomicU64::new(0));
instrument!(Histogram, Histogram, Plain, Histogram, FamilyCore::histogram);
instrument!(Timer, Histogram, Time, Histogram, FamilyCore::histogram);
