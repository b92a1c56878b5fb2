//! All sliding windows of a registry, within one budget of bytes.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::clock::{self, Instant};
use crate::window::{Precision, Room, SlidingWindow, Span};

/// What a new window is taken to need until it is measured.
const EXPECTED: usize = 8 << 10;

pub(super) struct Windows {
    span: Span,
    precision: Precision,
    budget: usize,
    /// Half of the budget is for what is counted into; the other half for what has been, which can be told less finely.
    room: Arc<Room>,
    // Taken when a series is made and when a tick begins and ends, never while something is recorded or read.
    open: Mutex<Open>,
    shared: OnceLock<Arc<SlidingWindow>>,
}

#[derive(Default)]
struct Open {
    windows: Vec<Arc<SlidingWindow>>,
    /// How many of them the latest tick has measured.
    measured: usize,
    used: usize,
    sharing: usize,
    /// What was made coarse is out of every window then.
    coarse_until: Option<Instant>,
    is_coarse: bool,
    /// Whether nothing more could be saved, as of the latest tick or since.
    is_exhausted: bool,
}

/// What the windows need, and what was given up so that they fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowUsage {
    /// Bytes at the latest tick, and those that newer windows are taken to need.
    pub bytes: usize,
    /// Bytes that there may be.
    pub budget: usize,
    /// Windows with a series of their own.
    pub windows: usize,
    /// Whether windows tell time apart less finely than they should. They do so until what was put together is out of
    /// them.
    pub coarsened: bool,
    /// Windows that know some of their values only to the next power of two.
    pub rounded: usize,
    /// Series that had to share one window.
    pub sharing: usize,
}

impl Windows {
    pub(super) fn new(span: Span, precision: Precision, budget: usize) -> Self {
        let room = Arc::new(Room::of(budget / 2));
        Self { span, precision, budget, room, open: Mutex::default(), shared: OnceLock::new() }
    }

    /// A window, its own if there is room for one.
    pub(super) fn open(&self) -> Arc<SlidingWindow> {
        let make = || Arc::new(SlidingWindow::within(self.span, self.precision, Arc::clone(&self.room)));
        let mut open = self.lock();
        // Seldom: each tick sees to it that there is room for some.
        if open.used + EXPECTED > self.budget && !open.is_exhausted {
            self.make_room(&mut open);
        }
        if open.used + EXPECTED > self.budget {
            open.sharing += 1;
            return Arc::clone(self.shared.get_or_init(make));
        }
        open.used += EXPECTED;
        let window = make();
        open.windows.push(Arc::clone(&window));
        window
    }

    fn make_room(&self, open: &mut Open) {
        while open.used + EXPECTED > self.budget {
            if !coarsen(&open.windows) {
                open.is_exhausted = true;
                return;
            }
            open.coarse(clock::now() + self.span.last());
            let (measured, newer) = open.windows.split_at(open.measured);
            let newer: usize = newer.iter().map(|window| window.bytes().max(EXPECTED)).sum();
            open.used = bytes(measured) + newer + bytes(self.shared.get());
        }
    }

    pub(super) fn tick(&self, now: Instant) {
        let mut windows = self.lock().windows.clone();
        let measured = windows.len();
        windows.extend(self.shared.get().cloned());
        windows.iter().for_each(|window| window.tick(now));
        let mut used = bytes(&windows);
        let (mut coarsened, mut is_exhausted) = (false, false);
        // Some room is left for series to come.
        while used > self.budget - self.budget / 8 && !is_exhausted {
            is_exhausted = !coarsen(&windows);
            coarsened |= !is_exhausted;
            used = bytes(&windows);
        }
        let mut open = self.lock();
        open.measured = measured;
        open.used = used + EXPECTED * (open.windows.len() - measured);
        open.is_exhausted = is_exhausted;
        open.is_coarse = open.coarse_until.is_some_and(|until| now < until);
        if coarsened {
            open.coarse(now + self.span.last());
        }
    }

    pub(super) fn usage(&self) -> WindowUsage {
        let open = self.lock();
        WindowUsage {
            bytes: open.used,
            budget: self.budget,
            windows: open.windows.len(),
            coarsened: open.is_coarse,
            rounded: open.windows.iter().chain(self.shared.get()).filter(|window| window.is_rounded()).count(),
            sharing: open.sharing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn coarse(&mut self, until: Instant) {
        self.coarse_until = Some(until);
        self.is_coarse = true;
    }
}

/// All of them alike: a window that is told less finely than its neighbour would mislead who compares the two. False when
/// there was nothing to save.
fn coarsen(windows: &[Arc<SlidingWindow>]) -> bool {
    windows.iter().filter(|window| window.coarsen()).count() > 0
}

fn bytes<'a>(windows: impl IntoIterator<Item = &'a Arc<SlidingWindow>>) -> usize {
    windows.into_iter().map(|window| window.bytes()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TICK: Duration = Duration::from_secs(10);
    const LAST: Duration = Duration::from_secs(300);

    fn windows(budget: usize) -> Windows {
        Windows::new(Span::default(), Precision::DEFAULT, budget)
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_is_told_less_finely_for_a_new_series_is_said_at_once_and_for_as_long_as_it_is_so() {
        let (windows, began) = (windows(64 << 10), clock::now());
        let old = windows.open();
        for tick in 1..=2 {
            old.record(1);
            windows.tick(began + tick * TICK);
        }
        while windows.usage().sharing == 0 {
            assert!(!windows.usage().coarsened);
            windows.open();
        }
        assert!(windows.usage().coarsened, "before there was nothing left but to share");
        for (after, is_coarse) in [(3 * TICK, true), (LAST - TICK, true), (LAST, false)] {
            windows.tick(began + after);
            assert_eq!(windows.usage().coarsened, is_coarse, "{after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_new_window_needs_is_guessed_until_it_is_measured() {
        let windows = windows(1 << 20);
        let window = windows.open();
        assert_eq!(windows.usage().bytes, EXPECTED);
        windows.tick(clock::now());
        assert_eq!(windows.usage().bytes, window.bytes());
        windows.open();
        assert_eq!(windows.usage().bytes, window.bytes() + EXPECTED);
    }

    #[test]
    fn the_window_that_is_shared_is_measured_and_said_to_be_rounded_as_the_others_are() {
        let windows = windows(EXPECTED);
        let (own, shared) = (windows.open(), windows.open());
        assert_eq!((windows.usage().windows, windows.usage().sharing, windows.usage().rounded), (1, 1, 0));
        // Half of the budget is room for buckets.
        (0..40).for_each(|power| shared.record(1 << power));
        assert_eq!(windows.usage().rounded, 1);
        (0..40).for_each(|power| own.record(1 << power));
        assert_eq!(windows.usage().rounded, 2);
        windows.tick(clock::now());
        assert_eq!(windows.usage().bytes, own.bytes() + shared.bytes());
    }
}
