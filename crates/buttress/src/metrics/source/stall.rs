//! Whether a worker is stuck, from counters that it keeps itself.

use std::time::Duration;

use super::probe::BEAT;
use crate::clock::Instant;

/// A worker that does not come round for longer than this is stuck.
pub(super) const LIMIT: Duration = Duration::from_millis(30);

/// Who was overdue itself for longer than this cannot tell a stuck worker from a machine that stood still.
const LATE: Duration = LIMIT.saturating_add(BEAT);

/// So much must have been seen of a stall that was over before it was found.
const SEEN: Duration = Duration::from_millis(15);

/// What a worker tells of itself, whenever it comes round: when it parks, when it wakes, and every 61 polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// How often it has parked and woken, in all.
    pub(super) turns: u64,
    /// How long it was not parked, as of its latest turn.
    pub(super) busy: Duration,
}

impl Reading {
    /// A worker that never parked may still be starting, which takes a busy machine its time.
    fn is_running(self) -> bool {
        self.turns > 0 && self.turns.is_multiple_of(2)
    }
}

/// What is known of one worker.
#[derive(Debug)]
pub(super) struct Worker {
    reading: Reading,
    /// When this reading was first seen.
    since: Instant,
    /// When it was last seen.
    seen: Instant,
    /// For how long it surely has not changed while the machine went on.
    unchanged: Duration,
    is_stuck: bool,
}

/// What has happened to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing new.
    None,
    /// It is stuck from now on.
    Stuck,
    /// It was stuck for so long, and goes on.
    Freed(Duration),
    /// It was stuck for so long, and goes on; nobody has noticed until now.
    WasStuck(Duration),
}

impl Worker {
    pub(super) fn new(reading: Reading, now: Instant) -> Self {
        Self { reading, since: now, seen: now, unchanged: Duration::ZERO, is_stuck: false }
    }

    pub(super) fn look(&mut self, reading: Reading, now: Instant) -> Change {
        let gap = now.saturating_duration_since(self.seen);
        if reading != self.reading {
            let change = self.changed(reading, gap);
            *self = Self::new(reading, now);
            return change;
        }
        self.seen = now;
        self.unchanged += if gap > LATE { BEAT } else { gap };
        if self.is_stuck || !reading.is_running() || self.unchanged <= LIMIT {
            return Change::None;
        }
        self.is_stuck = true;
        Change::Stuck
    }

    /// The worker tells how long it was busy when it comes round: more exact than two looks, and true even when the look
    /// that would have found the stall came too late.
    fn changed(&self, reading: Reading, gap: Duration) -> Change {
        let busy = reading.busy.saturating_sub(self.reading.busy);
        if self.is_stuck {
            Change::Freed(busy.max(self.seen.saturating_duration_since(self.since)))
        } else if self.reading.is_running() && self.unchanged >= SEEN && busy > LIMIT && gap <= LATE {
            Change::WasStuck(busy)
        } else {
            Change::None
        }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// How long it was not parked, in all; what it does not yet tell is estimated.
    pub(super) fn busy(&self, now: Instant) -> Duration {
        let untold = if self.reading.is_running() { now.saturating_duration_since(self.since) } else { Duration::ZERO };
        self.reading.busy + untold
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A worker that is parked but for these times, in milliseconds: its reading at a time.
    fn reading(runs: &[(u64, u64)], at: u64) -> Reading {
        let mut reading = Reading { turns: 1, busy: Duration::ZERO };
        for (from, to) in runs.iter().filter(|(from, _)| *from <= at) {
            reading.turns += 1;
            if *to <= at {
                reading.turns += 1;
                reading.busy += millis(to - from);
            }
        }
        reading
    }

    /// What is found in such a worker by looks at these times.
    fn found(runs: &[(u64, u64)], looks: impl IntoIterator<Item = u64>) -> Vec<Change> {
        let start = clock::now();
        let mut worker = Worker::new(reading(runs, 0), start);
        let look = |at| worker.look(reading(runs, at), start + millis(at));
        looks.into_iter().map(look).filter(|change| *change != Change::None).collect()
    }

    fn beats(offset: u64) -> impl Iterator<Item = u64> {
        (0..100).map(move |beat| offset + 10 * beat)
    }

    #[test]
    fn a_stall_of_fifty_milliseconds_is_found_wherever_the_beats_fall() {
        for offset in 0..10 {
            let changes = found(&[(100, 150)], beats(offset));
            assert_eq!(changes, [Change::Stuck, Change::Freed(millis(50))]);
        }
    }

    #[test]
    fn a_stall_whose_last_look_came_too_late_is_found_by_what_the_worker_tells() {
        assert_eq!(found(&[(100, 150)], [99, 109, 119, 129, 158]), [Change::WasStuck(millis(50))]);
    }

    #[test]
    fn a_worker_that_is_parked_or_comes_round_in_time_is_not_stuck() {
        assert_eq!(found(&[], beats(3)), []);
        let short: Vec<(u64, u64)> = (0..30).map(|run| (run * 30, run * 30 + 29)).collect();
        assert_eq!(found(&short, beats(3)), []);
    }

    #[test]
    fn a_machine_that_stood_still_is_no_stall() {
        // Everything stops for a second while the worker is at work.
        assert_eq!(found(&[(100, 1105)], [95, 105, 1104, 1114]), []);
    }

    #[test]
    fn a_worker_that_has_not_yet_started_is_not_stuck() {
        let start = clock::now();
        let fresh = Reading { turns: 0, busy: Duration::ZERO };
        let mut worker = Worker::new(fresh, start);
        assert!((1..50).all(|beat| worker.look(fresh, start + beat * BEAT) == Change::None));
    }

    #[test]
    fn a_stuck_worker_is_busy_although_it_does_not_tell() {
        let start = clock::now();
        let mut worker = Worker::new(reading(&[(5, 1000)], 0), start);
        worker.look(reading(&[(5, 1000)], 10), start + millis(10));
        assert_eq!(worker.busy(start + millis(500)), millis(490));
    }

    proptest! {
        #[test]
        fn each_stall_is_counted_once_however_late_the_looks_are(
            stalls in proptest::collection::vec((41_u64..200, 60_u64..100), 0..10),
            lateness in proptest::collection::vec(0_u64..5, 300),
        ) {
            let (mut runs, mut at) = (Vec::new(), 50);
            for (length, pause) in stalls {
                runs.push((at, at + length));
                at += length + pause;
            }
            let looks = lateness.iter().enumerate().map(|(beat, late)| 10 * beat as u64 + late);
            let changes = found(&runs, looks.take_while(|look| *look < at + 20));
            let over: Vec<Duration> = changes
                .iter()
                .filter_map(|change| match change {
                    Change::Freed(length) | Change::WasStuck(length) => Some(*length),
                    _ => None,
                })
                .collect();
            prop_assert_eq!(over, runs.iter().map(|(from, to)| millis(to - from)).collect::<Vec<_>>());
        }
    }
}
