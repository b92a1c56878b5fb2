//! Calls that hang, seen before any of them ends.

use std::collections::VecDeque;

/// Looks for every wait that is told.
const LOOKS: u64 = 8;
/// Slow when nothing else is said: four times the 95th percentile, and at least this, in milliseconds.
const AT_LEAST: u64 = 250;

/// What has been under way for longer than this, in milliseconds, is meant to last: a stream, or a call of before a
/// restart that may never end.
const ESTABLISHED: u64 = 10_000;

/// How many calls had been started by when. Times are milliseconds.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    /// Oldest first, from the latest that is as old as what counts as slow.
    history: VecDeque<(u64, u64)>,
    /// How many calls were under way some time ago, and later than that; the first is what is taken as established.
    under_way: [u64; 2],
    /// When the later becomes the first.
    turn: u64,
}

/// What counts as slow, where that is left to the calls. `p95` is in microseconds.
pub(super) fn slow(p95: Option<u64>) -> u64 {
    p95.map_or(AT_LEAST, |micros| (4 * micros / 1000).max(AT_LEAST))
}

/// How long until the next look.
pub(super) fn period(slow: u64) -> u64 {
    (slow / LOOKS).max(1)
}

impl Stuck {
    /// How many calls at least have been under way for `slow`, and were not long before: those started by then, less
    /// all that ended.
    ///
    /// Nothing is said after a gap: either there were no calls, or this process was held up and with it all those who
    /// would tell of the end of their calls.
    pub(super) fn look(&mut self, now: u64, started: u64, ended: u64, slow: u64) -> u64 {
        if self.history.back().is_some_and(|(last, _)| now.saturating_sub(*last) > slow / 2) {
            self.history.clear();
        }
        if now >= self.turn {
            self.under_way = [self.under_way[1], started.saturating_sub(ended)];
            self.turn = now + ESTABLISHED;
        }
        self.history.push_back((now, started));
        let is_old = |(time, _): &(u64, u64)| now.saturating_sub(*time) >= slow;
        while self.history.get(1).is_some_and(is_old) {
            self.history.pop_front();
        }
        let before = self.history.front().filter(|entry| is_old(entry));
        before.map_or(0, |(_, started)| started.saturating_sub(ended).saturating_sub(self.under_way[0]))
    }

    /// What is under way from before now does not matter any more.
    pub(super) fn restart(&mut self, now: u64, started: u64, ended: u64) {
        self.history.clear();
        self.under_way = [started.saturating_sub(ended); 2];
        self.turn = now + ESTABLISHED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: u64 = 250;

    /// Looks every 31 ms while a thousand calls a second start and end after `took` of them; the most that was stuck.
    fn most_stuck(times: impl Iterator<Item = u64>, ended: impl Fn(u64) -> u64) -> u64 {
        let mut stuck = Stuck::default();
        times.map(|now| stuck.look(now, now, ended(now), SLOW)).max().unwrap_or(0)
    }

    #[test]
    fn calls_that_end_are_not_stuck() {
        assert_eq!(most_stuck((0..5000).step_by(31), |now| now.saturating_sub(5)), 0);
    }

    #[test]
    fn calls_that_end_no_more_are_stuck_once_they_are_slow() {
        let mut stuck = Stuck::default();
        let looks = (0..5000).step_by(31).map(|now| (now, stuck.look(now, now, now.min(1000), SLOW)));
        let (when, _) = looks.into_iter().find(|(_, stuck)| *stuck >= 20).unwrap();
        assert!((1250..1250 + 20 + 2 * 31).contains(&when), "{when}");
    }

    #[test]
    fn nothing_is_said_after_a_gap_in_which_this_process_may_have_stood_still() {
        // 200 calls of a second ago, none of which has ended: they had no chance to.
        let times = (0..1000).step_by(31).chain([2000, 2031, 2062]);
        assert_eq!(most_stuck(times, |now| if now < 1000 { now } else { 800 }), 0);
    }

    #[test]
    fn a_gap_is_more_than_half_of_what_is_slow() {
        for (between, expected) in [(125, 50), (126, 0)] {
            let mut stuck = Stuck::default();
            let looks = (0..10).map(|nth| stuck.look(between * nth, 50, 0, SLOW));
            assert_eq!(looks.max(), Some(expected), "a look in {between} ms");
        }
    }

    #[test]
    fn calls_of_before_a_restart_do_not_count_even_if_they_never_end() {
        let mut stuck = Stuck::default();
        stuck.restart(0, 300, 0);
        let most = (0..2000).step_by(31).map(|now| stuck.look(now, 300 + now, now, SLOW)).max();
        assert_eq!(most, Some(0));
        let most = (2000..3000).step_by(31).map(|now| stuck.look(now, 300 + now, 2000, SLOW)).max();
        assert!(most >= Some(500), "{most:?}");
    }

    #[test]
    fn what_begins_after_a_restart_is_stuck_first_and_a_stream_once_it_has_lasted_for_long() {
        let mut stuck = Stuck::default();
        stuck.restart(5000, 0, 0);
        let looks: Vec<_> = (5000..40_000).step_by(31).map(|now| (now, stuck.look(now, 100, 0, SLOW))).collect();
        let most = |from, to| looks.iter().filter(|(now, _)| (from..to).contains(now)).map(|(_, stuck)| *stuck).max();
        assert_eq!((most(5000, 15_000), most(26_000, 40_000)), (Some(100), Some(0)));
    }

    #[test]
    fn streams_that_have_lasted_for_long_are_not_stuck() {
        let mut stuck = Stuck::default();
        // A hundred begin in the first minute and never end; a call in 50 ms comes and goes.
        let begun = |now: u64| (now / 600).min(100);
        let looks = (0..100_000).step_by(25).map(|now| stuck.look(now, begun(now) + now / 50, now / 50, SLOW));
        assert!(looks.max() < Some(20 + 15));
        // Then calls hang.
        let hung = (100_000..102_000).step_by(25).map(|now| stuck.look(now, 100 + now / 50, 2000, SLOW)).max();
        assert!(hung >= Some(20), "{hung:?}");
    }

    #[test]
    fn slow_is_four_times_the_95th_percentile_and_at_least_a_quarter_of_a_second() {
        assert_eq!(slow(None), 250);
        assert_eq!(slow(Some(5_000)), 250);
        assert_eq!(slow(Some(100_000)), 400);
        assert_eq!((period(250), period(1)), (31, 1));
    }
}
