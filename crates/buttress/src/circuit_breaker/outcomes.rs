//! What came of the calls: totals that only grow, and the window that is computed from them.
//!
//! A call that went well touches only words of its own thread: a total and the slice of time that it ended in. Failures
//! and slow calls also go into one ring, each with the total of the good calls at its moment: how many outcomes have
//! come since follows from that, so that nobody has to write down the good calls one by one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::{CircuitConfig, Window};
use crate::shard::{Shard, Sharded, Word};

/// Parts of the longest age of an outcome that good calls are told apart by.
const SLICES: u64 = 16;
/// Durations that each thread remembers.
const SAMPLES: usize = 32;
/// As many are looked at; and as many where few threads call.
const MOST_SAMPLES: usize = 1024;
const FEW_SAMPLES: usize = 128;
/// Longer is as long as this: a minute, in microseconds.
const LONGEST_SAMPLE: u64 = 60_000_000;

/// What a call counts as. The first four are rows of slices and kinds in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ok,
    Failed,
    /// Succeeded, but slowly.
    Slow,
    /// Failed, and slowly.
    FailedSlow,
    Ignored,
    Cancelled,
    /// Rejected further in.
    Rejected,
}

/// The totals of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) enum Total {
    /// Calls that count, by their kind; then those whose outcome decides nothing.
    Counted(Kind),
    Other(Kind),
    /// Calls admitted whose outcomes count.
    Started,
    /// Other calls admitted.
    Passed,
    /// Outcomes that came too late.
    Stale,
    /// Admissions refused.
    Refused,
    /// Admissions that would have been refused.
    WouldRefuse,
    Probes,
}

const KINDS: usize = 7;
const TOTALS: usize = 2 * KINDS + 6;

/// Rows beyond those of the window, for the throttle.
const IGNORED_ROW: usize = 4;
const REFUSED_ROW: usize = 5;

impl Total {
    const fn index(self) -> usize {
        match self {
            Self::Counted(kind) => kind as usize,
            Self::Other(kind) => KINDS + kind as usize,
            Self::Started => 2 * KINDS,
            Self::Passed => 2 * KINDS + 1,
            Self::Stale => 2 * KINDS + 2,
            Self::Refused => 2 * KINDS + 3,
            Self::WouldRefuse => 2 * KINDS + 4,
            Self::Probes => 2 * KINDS + 5,
        }
    }
}

impl Kind {
    pub(super) const ALL: [Self; KINDS] =
        [Self::Ok, Self::Failed, Self::Slow, Self::FailedSlow, Self::Ignored, Self::Cancelled, Self::Rejected];
}

/// What the window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
    /// Failures since the last call that went well, as far as they are remembered.
    pub(super) row: u64,
    /// Milliseconds from the first of them to the last.
    pub(super) row_span: u64,
}

/// What a throttle looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) requests: u64,
    pub(super) accepts: u64,
}

pub(super) struct Outcomes<W = AtomicU64> {
    shape: Shape,
    blocks: Sharded<Block<W>>,
    /// Milliseconds that the window is ahead of the clock. It leaps ahead to forget everything.
    ahead: W,
    /// How often it has; each time ends a row of failures.
    leaps: W,
    /// Failures and slow calls that were ever written down.
    written: W,
    ring: OnceLock<Box<[W]>>,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    /// The last so many; `None` is a window of time.
    calls: Option<u64>,
    slices: u64,
    /// The last place of a row, of which there are a power of two and two at least: so that a thread that is still in the
    /// slice before does not write over the new one.
    last: usize,
    /// How long a slice is, in milliseconds.
    slice: u64,
    rows: usize,
    /// Entries of the ring.
    ring: usize,
}

struct Block<W> {
    totals: [W; TOTALS],
    /// Rows of slices: `number of the slice << 32 | count`.
    slices: Box<[W]>,
    /// Microseconds that good calls took, and 1.
    samples: [W; SAMPLES],
}

impl<W: Word> Outcomes<W> {
    pub(super) fn new(config: &CircuitConfig) -> Self {
        Self {
            shape: Shape::new(config),
            blocks: Sharded::new(),
            ahead: W::zero(),
            leaps: W::zero(),
            written: W::zero(),
            ring: OnceLock::new(),
        }
    }

    #[inline]
    fn block(&self, shard: Shard) -> &Block<W> {
        self.blocks.of(shard, || Block::new(self.shape.rows * self.shape.width()))
    }

    /// Makes what would be made when it is first needed.
    #[cfg(test)]
    pub(super) fn prepare(&self, shards: &[Shard]) {
        self.ring();
        for shard in shards {
            self.block(*shard);
        }
    }

    #[inline]
    pub(super) fn add(&self, shard: Shard, total: Total) {
        shard.add(&self.block(shard).totals[total.index()], 1);
    }

    /// A call that went well.
    #[inline]
    pub(super) fn ok(&self, shard: Shard, now: u64, micros: u64) {
        let block = self.block(shard);
        let total = &block.totals[Total::Counted(Kind::Ok).index()];
        let sample = &block.samples[total.load(Ordering::Relaxed) as usize % SAMPLES];
        sample.store(micros.min(LONGEST_SAMPLE) + 1, Ordering::Relaxed);
        shard.add(total, 1);
        self.slice(block, shard, Kind::Ok as usize, now);
    }

    /// A call that failed or was slow. Whoever reads the window afterwards sees it: of two that end at the same time,
    /// at least one sees both.
    pub(super) fn bad(&self, shard: Shard, kind: Kind, now: u64) {
        let ring = self.ring();
        let good = self.good();
        let at = self.written.fetch_add(1, Ordering::AcqRel) as usize % ring.len();
        let time = now + self.ahead.load(Ordering::Relaxed);
        ring[at].store(Entry { kind, good, time }.pack(), Ordering::Release);
        self.slice(self.block(shard), shard, kind as usize, now);
        W::fence(Ordering::SeqCst);
    }

    /// A call that was ignored, where the throttle wants to know.
    pub(super) fn ignored(&self, shard: Shard, now: u64) {
        self.slice(self.block(shard), shard, IGNORED_ROW, now);
    }

    /// A call that the throttle refused.
    pub(super) fn refused(&self, shard: Shard, now: u64) {
        self.slice(self.block(shard), shard, REFUSED_ROW, now);
    }

    /// Forgets the window. Whoever is just about to write down something from before writes it into the past.
    pub(super) fn restart(&self) {
        self.leaps.fetch_add(1, Ordering::AcqRel);
        self.ahead.fetch_add((self.shape.width() as u64 + 1) * self.shape.slice, Ordering::AcqRel);
    }

    pub(super) fn total(&self, total: Total) -> u64 {
        self.sum(|block| block.totals[total.index()].load(Ordering::Acquire))
    }

    pub(super) fn read(&self, now: u64) -> Seen {
        let now = now + self.ahead.load(Ordering::Acquire);
        let mut seen = self.walk(now);
        let ok = self.in_row(Kind::Ok as usize, now);
        match self.shape.calls {
            Some(most) => seen.calls = (ok + seen.calls).min(most),
            None => {
                let [failed, slow, both] =
                    [Kind::Failed, Kind::Slow, Kind::FailedSlow].map(|kind| self.in_row(kind as usize, now));
                (seen.failed, seen.slow) = (failed + both, slow + both);
                seen.calls = ok + failed + slow + both;
            }
        }
        seen
    }

    /// What a throttle looks at: slices from the newest on, up to that with which there are as many calls as the window
    /// counts, so that it does not take longer than the rate to see what is different now.
    pub(super) fn demand(&self, now: u64) -> Demand {
        let current = (now + self.ahead.load(Ordering::Acquire)) / self.shape.slice;
        let mut demand = Demand::default();
        for age in 0..self.shape.slices.min(current + 1) {
            let of = |rows: [usize; 3]| rows.map(|row| self.in_slice(row, current - age)).iter().sum::<u64>();
            let accepts = of([Kind::Ok as usize, Kind::Slow as usize, IGNORED_ROW]);
            demand.accepts += accepts;
            demand.requests += accepts + of([Kind::Failed as usize, Kind::FailedSlow as usize, REFUSED_ROW]);
            if self.shape.calls.is_some_and(|calls| demand.requests >= calls) {
                break;
            }
        }
        demand
    }

    /// The 95th percentile of what good calls took last, in microseconds; of how many.
    pub(super) fn p95(&self) -> Option<(u64, usize)> {
        // Most circuits are called by few threads, and room has to be cleared.
        match self.blocks.iter().nth(FEW_SAMPLES / SAMPLES) {
            None => self.p95_of::<FEW_SAMPLES>(),
            Some(_) => self.p95_of::<MOST_SAMPLES>(),
        }
    }

    fn p95_of<const N: usize>(&self) -> Option<(u64, usize)> {
        let words = self.blocks.iter().flat_map(|block| &block.samples);
        let (mut micros, mut len) = ([0; N], 0_usize);
        let taken = words.filter_map(|word| word.load(Ordering::Relaxed).checked_sub(1));
        for (place, taken) in micros.iter_mut().zip(taken) {
            *place = taken as u32;
            len += 1;
        }
        let at = (len * 95).div_ceil(100).checked_sub(1)?;
        let (_, p95, _) = micros[..len].select_nth_unstable(at);
        Some((u64::from(*p95), len))
    }

    /// Failures and slow calls in the window, as `calls` both, and the row of failures that it ends with.
    fn walk(&self, now: u64) -> Seen {
        let mut seen = Seen::default();
        let Some(ring) = self.ring.get() else { return seen };
        let (written, good) = (self.written.load(Ordering::Acquire), self.good());
        let (mut in_a_row, mut last) = (true, None);
        for newer in 0..written.min(ring.len() as u64) {
            let at = (written - 1 - newer) as usize % ring.len();
            let Some(entry) = Entry::unpack(ring[at].load(Ordering::Acquire)) else { continue };
            let (since, age) = (entry.good_since(good), entry.age(now));
            in_a_row &= entry.failed() && since == 0;
            if in_a_row {
                seen.row += 1;
                seen.row_span = age.saturating_sub(*last.get_or_insert(age));
            }
            let fits = self.shape.calls.is_some_and(|calls| since + newer < calls);
            if fits && age < self.shape.slices * self.shape.slice {
                seen.calls += 1;
                seen.failed += u64::from(entry.failed());
                seen.slow += u64::from(entry.slow());
            } else if !in_a_row {
                break;
            }
        }
        seen
    }

    /// Good calls that count, and leaps; whatever changes it ends a row of failures.
    fn good(&self) -> u64 {
        self.total(Total::Counted(Kind::Ok)) + self.leaps.load(Ordering::Acquire)
    }

    fn ring(&self) -> &[W] {
        self.ring.get_or_init(|| (0..self.shape.ring).map(|_| W::zero()).collect())
    }

    #[inline]
    fn slice(&self, block: &Block<W>, shard: Shard, row: usize, now: u64) {
        if row >= self.shape.rows {
            return;
        }
        let number = (now + self.ahead.load(Ordering::Relaxed)) / self.shape.slice;
        let word = &block.slices[self.shape.place(row, number)];
        let number = number & COUNT;
        shard.update(word, |slice| if slice >> 32 == number { slice + 1 } else { number << 32 | 1 });
    }

    /// The counts of a row's slices in the window.
    fn in_row(&self, row: usize, now: u64) -> u64 {
        let (slices, current) = (self.shape.slices, now / self.shape.slice);
        let (first, last) = (row * self.shape.width(), (row + 1) * self.shape.width());
        self.sum(|block| {
            let counts = block.slices[first..last].iter().map(|slice| {
                let slice = slice.load(Ordering::Acquire);
                let age = since(current, slice >> 32, COUNT);
                if age < slices { slice & COUNT } else { 0 }
            });
            counts.sum()
        })
    }

    /// The count of one slice of a row.
    fn in_slice(&self, row: usize, number: u64) -> u64 {
        let at = self.shape.place(row, number);
        self.sum(|block| {
            let slice = block.slices[at].load(Ordering::Acquire);
            if slice >> 32 == number & COUNT { slice & COUNT } else { 0 }
        })
    }

    fn sum(&self, of: impl Fn(&Block<W>) -> u64) -> u64 {
        self.blocks.iter().map(of).sum()
    }
}

impl Shape {
    fn new(config: &CircuitConfig) -> Self {
        let row = config.row().map_or(1, |row| row.count as usize);
        let millis = |duration: std::time::Duration| duration.as_millis() as u64;
        let (calls, span, slices, rows, ring) = match config.window {
            Window::Count { calls, within } => {
                (Some(u64::from(calls)), millis(within), SLICES, 1, row.max(calls as usize))
            }
            Window::Time { length, buckets } => (None, millis(length), u64::from(buckets), IGNORED_ROW, row),
        };
        let rows = if config.throttle.is_some() { REFUSED_ROW + 1 } else { rows };
        let last = slices.max(2).next_power_of_two() as usize - 1;
        Self { calls, slices, last, slice: span.div_ceil(slices).max(1), rows, ring }
    }

    /// Words of a row: a power of two, so that no record has to divide for its place.
    #[inline]
    const fn width(&self) -> usize {
        self.last + 1
    }

    /// Where a slice of a row is.
    #[inline]
    const fn place(&self, row: usize, number: u64) -> usize {
        row * self.width() + (number as usize & self.last)
    }
}

impl<W: Word> Block<W> {
    fn new(slices: usize) -> Self {
        Self {
            totals: std::array::from_fn(|_| W::zero()),
            slices: (0..slices).map(|_| W::zero()).collect(),
            samples: std::array::from_fn(|_| W::zero()),
        }
    }
}

/// What the ring remembers of a failure or a slow call, in one word. Good calls and time wrap around: an entry would be
/// taken for a new one if 2^28 good calls and 2^34 ms both had gone by to the very call and second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    good: u64,
    time: u64,
}

const TIME: u64 = (1 << 34) - 1;
const GOOD: u64 = (1 << 28) - 1;
/// Of a slice.
const COUNT: u64 = (1 << 32) - 1;

impl Entry {
    fn pack(self) -> u64 {
        (self.kind as u64) << 62 | (self.good & GOOD) << 34 | self.time & TIME
    }

    /// `None` is a place that nothing has been written to.
    fn unpack(word: u64) -> Option<Self> {
        let kind = match word >> 62 {
            0 => return None,
            1 => Kind::Failed,
            2 => Kind::Slow,
            _ => Kind::FailedSlow,
        };
        Some(Self { kind, good: word >> 34 & GOOD, time: word & TIME })
    }

    fn failed(self) -> bool {
        matches!(self.kind, Kind::Failed | Kind::FailedSlow)
    }

    fn slow(self) -> bool {
        matches!(self.kind, Kind::Slow | Kind::FailedSlow)
    }

    /// Good calls since.
    fn good_since(self, good: u64) -> u64 {
        since(good, self.good, GOOD)
    }

    fn age(self, now: u64) -> u64 {
        since(now, self.time, TIME)
    }
}

/// How far a number that wraps around has come. What another thread writes at the same time may be a little ahead:
/// nothing has gone by since.
fn since(now: u64, then: u64, mask: u64) -> u64 {
    let since = now.wrapping_sub(then) & mask;
    if since > mask - (mask >> 12) { 0 } else { since }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::circuit_breaker::{Consecutive, Throttle};

    const MINE: Shard = Shard::SHARED;

    fn outcomes(config: &CircuitConfig) -> Outcomes {
        Outcomes::new(config)
    }

    fn count(calls: u32) -> CircuitConfig {
        CircuitConfig::default().window(Window::count(calls, Duration::from_secs(16)).unwrap())
    }

    #[test]
    fn the_last_so_many_are_looked_at_whatever_they_are() {
        let outcomes = outcomes(&count(10));
        let seen = |calls, failed, slow| (calls, failed, slow);
        let read = || {
            let Seen { calls, failed, slow, .. } = outcomes.read(0);
            (calls, failed, slow)
        };
        (0..3).for_each(|_| outcomes.bad(MINE, Kind::Failed, 0));
        (0..2).for_each(|_| outcomes.bad(MINE, Kind::Slow, 0));
        outcomes.bad(MINE, Kind::FailedSlow, 0);
        assert_eq!(read(), seen(6, 4, 3));
        (0..4).for_each(|_| outcomes.ok(MINE, 0, 5));
        assert_eq!(read(), seen(10, 4, 3));
        (0..3).for_each(|_| outcomes.ok(MINE, 0, 5));
        assert_eq!(read(), seen(10, 1, 3));
        (0..20).for_each(|_| outcomes.bad(MINE, Kind::Failed, 0));
        assert_eq!(read(), seen(10, 10, 0));
    }

    #[test]
    fn the_age_of_failures_is_exact_and_that_of_good_calls_to_a_sixteenth() {
        let outcomes = outcomes(&count(10));
        outcomes.ok(MINE, 999, 5);
        outcomes.bad(MINE, Kind::Failed, 999);
        let read = |now| (outcomes.read(now).calls, outcomes.read(now).failed);
        assert_eq!(read(15_999), (2, 1));
        assert_eq!(read(16_000), (1, 1));
        assert_eq!(read(16_998), (1, 1));
        assert_eq!(read(16_999), (0, 0));
    }

    #[test]
    fn a_row_of_failures_ends_with_a_good_call_or_a_slow_one_or_a_restart() {
        let ends: [fn(&Outcomes); 3] =
            [|outcomes| outcomes.ok(MINE, 0, 5), |outcomes| outcomes.bad(MINE, Kind::Slow, 0), Outcomes::restart];
        for end in ends {
            let outcomes = outcomes(&count(10));
            outcomes.bad(MINE, Kind::Failed, 0);
            end(&outcomes);
            outcomes.bad(MINE, Kind::Failed, 100);
            outcomes.bad(MINE, Kind::FailedSlow, 250);
            assert_eq!((outcomes.read(300).row, outcomes.read(300).row_span), (2, 150));
        }
    }

    #[test]
    fn a_restart_is_one_also_for_a_reader_whose_clock_is_a_little_behind() {
        let outcomes = outcomes(&count(10));
        outcomes.bad(MINE, Kind::Failed, 500);
        outcomes.ok(MINE, 500, 5);
        outcomes.restart();
        assert_eq!(outcomes.read(499), Seen::default());
        assert_eq!(outcomes.read(0), Seen::default());
    }

    #[test]
    fn who_is_late_at_the_end_of_the_only_bucket_takes_nothing_from_the_next() {
        let window = Window::time(Duration::from_secs(1), 1).unwrap();
        let outcomes = outcomes(&CircuitConfig::default().window(window).throttle(Throttle::default()));
        let read = |now| (outcomes.read(now).calls, outcomes.read(now).failed, outcomes.demand(now).requests);
        (0..3).for_each(|_| outcomes.ok(MINE, 1000, 5));
        (0..2).for_each(|_| outcomes.bad(MINE, Kind::Failed, 1000));
        outcomes.ok(MINE, 999, 5);
        outcomes.bad(MINE, Kind::Failed, 999);
        assert_eq!(read(1000), (5, 2, 5));
        assert_eq!(read(1999), (5, 2, 5));
        assert_eq!(read(2000), (0, 0, 0), "one bucket ago");
        outcomes.ok(MINE, 3000, 5);
        outcomes.restart();
        assert_eq!(read(3000), (0, 0, 0));
    }

    #[test]
    fn a_row_is_remembered_beyond_the_window() {
        let window = Window::time(Duration::from_secs(1), 10).unwrap();
        let row = Consecutive { count: 4, over: Duration::ZERO };
        let outcomes = outcomes(&CircuitConfig::default().window(window).consecutive_failures(row));
        (0..6).for_each(|nth| outcomes.bad(MINE, Kind::Failed, 60_000 * nth));
        let seen = outcomes.read(300_000);
        assert_eq!((seen.calls, seen.row, seen.row_span), (1, 4, 180_000));
    }

    #[test]
    fn the_throttle_sees_what_was_asked_for_and_what_was_served() {
        let outcomes = outcomes(&count(10).throttle(Throttle::default()));
        let calls: [fn(&Outcomes); 6] = [
            |outcomes| outcomes.ok(MINE, 0, 5),
            |outcomes| outcomes.bad(MINE, Kind::Slow, 0),
            |outcomes| outcomes.ignored(MINE, 0),
            |outcomes| outcomes.bad(MINE, Kind::Failed, 0),
            |outcomes| outcomes.bad(MINE, Kind::FailedSlow, 0),
            |outcomes| outcomes.refused(MINE, 0),
        ];
        for (nth, call) in calls.iter().enumerate() {
            (0..1 << nth).for_each(|_| call(&outcomes));
        }
        assert_eq!(outcomes.demand(15_999), Demand { requests: 0b11_1111, accepts: 0b111 });
        assert_eq!(outcomes.demand(16_000), Demand::default());
        outcomes.restart();
        assert_eq!(outcomes.demand(0), Demand::default());
        outcomes.ok(MINE, 0, 5);
        assert_eq!(outcomes.demand(0), Demand { requests: 1, accepts: 1 });
    }

    #[test]
    fn the_95th_percentile_is_that_of_the_last_good_calls() {
        let outcomes = outcomes(&count(10));
        assert_eq!(outcomes.p95(), None);
        (1..=20).for_each(|micros| outcomes.ok(MINE, 0, micros));
        assert_eq!(outcomes.p95(), Some((19, 20)));
        (0..100).for_each(|_| outcomes.ok(MINE, 0, u64::MAX));
        assert_eq!(outcomes.p95(), Some((LONGEST_SAMPLE, 32)));
    }

    #[test]
    fn a_place_that_nothing_was_written_to_is_no_failure() {
        assert_eq!(Entry::unpack(0), None);
    }

    #[test]
    fn what_wraps_around_may_be_a_little_ahead() {
        assert_eq!(since(5, 3, TIME), 2);
        assert_eq!(since(3, 5, TIME), 0);
        assert_eq!(since(2, TIME, TIME), 3);
        assert_eq!(since(TIME / 2, 0, TIME), TIME / 2);
        // A little is a 4096th of all.
        let little = TIME >> 12;
        assert_eq!(since(TIME - little, 0, TIME), TIME - little);
        assert_eq!(since(TIME - little + 1, 0, TIME), 0);
    }

    proptest! {
        #[test]
        fn a_word_holds_an_entry(kind in 1..4usize, good in 0..=GOOD, time in 0..=TIME) {
            let entry = Entry { kind: Kind::ALL[kind], good, time };
            prop_assert_eq!(Entry::unpack(entry.pack()), Some(entry));
            let beyond = Entry { good: good + GOOD + 1, time: time + TIME + 1, ..entry };
            prop_assert_eq!(beyond.pack(), entry.pack());
        }
    }
}
