//! Sliding windows: what the last minutes were like, from counters that are never reset.
//!
//! A [`SlidingWindow`] is recorded into without lock and clock. Whoever keeps the time [ticks](SlidingWindow::tick) it;
//! that stores what has moved since the tick before, and forgets what is older than the window.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::window::{Precision, SlidingWindow, Span};
//! use tokio::time::Instant;
//!
//! let window = SlidingWindow::new(Span::default(), Precision::DEFAULT);
//! (1..=1000).for_each(|micros| window.record(micros));
//! let seen = window.read(Instant::now());
//! assert_eq!(seen.count(), 1000);
//! // Within 3.1 %.
//! assert!((950..=982).contains(&seen.quantile(0.95).unwrap()));
//!
//! // Five minutes later nothing of it is left.
//! window.tick(Instant::now());
//! assert_eq!(window.read(Instant::now() + Duration::from_secs(300)).count(), 0);
//! ```
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `layout` | log-linear buckets, [`Precision`] |
//! | `counters`, `outcomes` | the buckets that are counted into, a copy for each thread; those of errors apart |
//! | `ring` | the differences that make up the window |
//! | `room` | how many bytes the buckets of several windows may take |
//! | `distribution` | what is read: quantiles, mean, Apdex |

mod counters;
mod distribution;
mod layout;
mod outcomes;
mod ring;
mod room;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::shard::{Own, Shard};

pub(crate) use counters::Counters;
pub use distribution::Distribution;
pub use layout::{Precision, PrecisionError};
pub(crate) use outcomes::{FoundOutcome, Outcomes};
pub(crate) use ring::Ring;
pub(crate) use room::Room;

/// How far back a window reaches, and how often it is ticked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    last: Duration,
    tick: Duration,
}

impl Span {
    /// The last `last`, told apart every `tick`: what falls out of the window does so a tick at a time.
    ///
    /// # Errors
    ///
    /// [`SpanError`] unless `tick` is at least 10 ms and goes 1 to 1000 times into `last`.
    pub const fn new(last: Duration, tick: Duration) -> Result<Self, SpanError> {
        let (last_ms, tick_ms) = (last.as_millis(), tick.as_millis());
        if tick_ms < 10 || last_ms < tick_ms || last_ms > 1000 * tick_ms {
            return Err(SpanError { last, tick });
        }
        Ok(Self { last, tick })
    }

    /// How far back it reaches.
    pub const fn last(self) -> Duration {
        self.last
    }

    /// How often it is ticked.
    pub const fn tick(self) -> Duration {
        self.tick
    }
}

impl Default for Span {
    /// Five minutes, every ten seconds.
    fn default() -> Self {
        Self { last: Duration::from_secs(300), tick: Duration::from_secs(10) }
    }
}

/// Two durations that do not make a [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanError {
    last: Duration,
    tick: Duration,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, tick } = self;
        write!(
            f,
            "a window of {last:?} with a tick of {tick:?}; accepted is a tick of at least 10 ms that goes 1 to 1000 times into the window"
        )
    }
}

impl std::error::Error for SpanError {}

/// The distribution of what was recorded in the last minutes.
pub struct SlidingWindow {
    span: Span,
    outcomes: Outcomes,
    // Of readers and the ticker; who records never touches it.
    ring: Mutex<Ring>,
}

impl SlidingWindow {
    /// Empty, from now on.
    pub fn new(span: Span, precision: Precision) -> Self {
        Self::of(span, Counters::new(precision))
    }

    /// As [`new`](Self::new), with buckets as long as there is room for them; after that values are told by the next power
    /// of two.
    pub(crate) fn within(span: Span, precision: Precision, room: Arc<Room>) -> Self {
        Self::of(span, Counters::within(precision, room))
    }

    fn of(span: Span, counters: Counters) -> Self {
        Self { span, outcomes: Outcomes::new(counters), ring: Mutex::new(Ring::new(span.last, clock::now())) }
    }

    /// Counts a value; in microseconds, bytes, or whatever one likes. What is above `2^42` counts as that.
    pub fn record(&self, value: u64) {
        self.count(Shard::mine(), value, false);
    }

    /// Counts the value of something that failed.
    pub fn record_error(&self, value: u64) {
        self.count(Shard::mine(), value, true);
    }

    #[inline]
    pub(crate) fn count(&self, shard: Shard, value: u64, is_error: bool) {
        self.outcomes.record(shard, value, is_error);
    }

    pub(crate) fn count_many(&self, shard: Shard, value: u64, times: u64) {
        self.outcomes.all().record_many(shard, value, times);
    }

    /// Where this thread has counted such a value before.
    #[inline]
    pub(crate) fn find(&self, own: Own, value: u64) -> Option<FoundOutcome<'_>> {
        self.outcomes.find(own, value)
    }

    /// Stores what has moved since the tick before. Late and early ticks lose nothing.
    pub fn tick(&self, now: Instant) {
        let mut ring = self.ring();
        ring.tick(&self.outcomes.totals(), now);
    }

    /// What was recorded in the window that ends now.
    ///
    /// Any number of readers may read at any time; none takes anything from another.
    pub fn read(&self, now: Instant) -> Distribution {
        let mut ring = self.ring();
        let totals = self.outcomes.totals();
        // Nobody ticked: better a late tick than a window that grows.
        if ring.since_tick(now) >= 2 * self.span.tick {
            ring.tick(&totals, now);
        }
        ring.forget(now);
        let covers = ring.covers(now);
        Distribution::new(self.outcomes.all().precision(), ring.read(totals), covers)
    }

    /// Tells time apart half as finely, to save memory. False when there is nothing more to save.
    pub(crate) fn coarsen(&self) -> bool {
        self.ring().coarsen()
    }

    pub(crate) fn is_rounded(&self) -> bool {
        self.outcomes.is_rounded()
    }

    /// Memory in use.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.outcomes.bytes() + self.ring().bytes()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SlidingWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlidingWindow").field("span", &self.span).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_in_the_middle_holds_up_nobody_who_records() {
        let window = SlidingWindow::new(Span::default(), Precision::DEFAULT);
        let reading = window.ring();
        std::thread::scope(|scope| scope.spawn(|| window.record(1)).join()).expect("it does not wait");
        drop(reading);
        assert_eq!(window.read(clock::now()).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_is_told_less_finely_leaves_the_window_when_the_last_of_it_is_too_old() {
        let second = Duration::from_secs(1);
        let window = SlidingWindow::new(Span::new(60 * second, 10 * second).unwrap(), Precision::DEFAULT);
        let began = clock::now();
        for tick in 1..=6 {
            window.record(1);
            window.tick(began + 10 * tick * second);
        }
        assert!(window.coarsen());
        // Of the first two ticks, which are one now, the second is within the window.
        let seen = window.read(began + 75 * second);
        assert_eq!((seen.count(), seen.covers()), (6, 75 * second));
        let seen = window.read(began + 79 * second);
        assert_eq!((seen.count(), seen.covers()), (6, 79 * second));
        assert_eq!(window.read(began + 80 * second).count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_as_long_as_its_tick_tells_of_all_the_time_since_the_tick() {
        let second = Duration::from_secs(1);
        let window = SlidingWindow::new(Span::new(10 * second, 10 * second).unwrap(), Precision::DEFAULT);
        window.record(1);
        let seen = window.read(clock::now() + 19 * second);
        assert_eq!((seen.count(), seen.covers()), (1, 19 * second));
    }

    #[test]
    fn errors_need_room_of_their_own_and_are_rounded_where_there_is_none() {
        const ALL: usize = 1 << 20;
        let room = Arc::new(Room::of(ALL));
        let within = |room: &Arc<Room>| SlidingWindow::within(Span::default(), Precision::DEFAULT, Arc::clone(room));
        let taken = || ALL - (0..=ALL).rev().find(|left| room.has(*left)).expect("nothing always fits");
        let window = within(&room);
        window.record(5);
        let of_all = taken();
        window.record_error(5);
        assert_eq!((taken(), window.is_rounded()), (2 * of_all, false));

        let window = within(&Arc::new(Room::of(2 * of_all - 1)));
        window.record(5);
        assert!(!window.is_rounded());
        window.record_error(5);
        assert!(window.is_rounded());
        let seen = window.read(clock::now());
        assert_eq!((seen.count(), seen.errors()), (2, 1));
    }
}
