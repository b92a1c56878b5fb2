//! The part of a cache's gets that were hits, in the last minutes.

use std::collections::VecDeque;

use crate::clock::Instant;
use crate::window::Span;

/// Totals of a cache's gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gets {
    pub(super) hits: u64,
    pub(super) misses: u64,
}

impl Gets {
    /// `None` when there are none: a cache that nobody asks is neither good nor bad.
    pub(super) fn ratio(self) -> Option<f64> {
        let gets = self.hits + self.misses;
        (gets > 0).then(|| self.hits as f64 / gets as f64)
    }

    fn since(self, earlier: Self) -> Self {
        Self { hits: self.hits.saturating_sub(earlier.hits), misses: self.misses.saturating_sub(earlier.misses) }
    }
}

/// Totals as they were at the ticks of the last [`Span::default`], oldest first, and of one tick before them.
#[derive(Debug)]
pub(super) struct HitRatio {
    span: Span,
    marks: VecDeque<(Instant, Gets)>,
}

impl HitRatio {
    pub(super) fn new(now: Instant, gets: Gets) -> Self {
        Self { span: Span::default(), marks: VecDeque::from([(now, gets)]) }
    }

    /// The ratio of the window that ends now, `None` when nobody asked in it.
    pub(super) fn tick(&mut self, now: Instant, gets: Gets) -> Option<f64> {
        // The oldest that stays is the last one at or before the window's start.
        while self.marks.get(1).is_some_and(|(at, _)| *at + self.span.last() <= now) {
            self.marks.pop_front();
        }
        let (_, start) = *self.marks.front().expect("one mark always stays");
        // Whoever ticks more often than expected must not make it remember more.
        if self.marks.back().is_some_and(|(at, _)| *at + self.span.tick() <= now) {
            self.marks.push_back((now, gets));
        }
        gets.since(start).ratio()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn gets(hits: u64, misses: u64) -> Gets {
        Gets { hits, misses }
    }

    #[test]
    fn what_was_counted_before_the_start_does_not_matter() {
        let start = Instant::now();
        let mut ratio = HitRatio::new(start, gets(1000, 0));
        assert_eq!(ratio.tick(start, gets(1000, 0)), None);
        assert_eq!(ratio.tick(start, gets(1001, 3)), Some(0.25));
    }

    #[test]
    fn hasty_ticks_are_not_remembered() {
        let start = Instant::now();
        let mut ratio = HitRatio::new(start, Gets::default());
        for nth in 0..1_000_000 {
            ratio.tick(start + Duration::from_millis(nth), gets(nth, 0));
        }
        assert!(ratio.marks.len() <= 32, "{}", ratio.marks.len());
    }

    proptest! {
        #[test]
        fn the_ratio_is_that_of_the_last_thirty_ticks(ticks in prop::collection::vec((0..5_u64, 0..5_u64), 1..80)) {
            let span = Span::default();
            let start = Instant::now();
            let mut ratio = HitRatio::new(start, Gets::default());
            let mut all = Gets::default();
            for nth in 0..ticks.len() {
                all = gets(all.hits + ticks[nth].0, all.misses + ticks[nth].1);
                let seen = ratio.tick(start + span.tick() * (nth as u32 + 1), all);
                let last = &ticks[(nth + 1).saturating_sub(30)..=nth];
                let (hits, misses) = last.iter().fold((0, 0), |sum, tick| (sum.0 + tick.0, sum.1 + tick.1));
                let naive = (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64);
                prop_assert_eq!(seen, naive);
            }
        }
    }
}
