//! What is counted along while jobs come, move and go, so that nobody looks at all of them to tell what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::super::{Contents, Depth, Usage};
use super::Place;
use crate::job::{Envelope, Priority};

/// Where a job is that is not over.
#[derive(Clone, Copy)]
pub(super) enum At {
    Queued(Place),
    Active,
}

#[derive(Default)]
pub(super) struct Depths {
    kinds: BTreeMap<Arc<str>, [Lane; 4]>,
    usage: [Usage; 4],
}

/// What there is of one type and priority.
#[derive(Default)]
struct Lane {
    /// Those that can be claimed, and those whose time has not come: as it was when each was put there, until somebody
    /// asks.
    due: BTreeSet<Place>,
    later: BTreeSet<Place>,
    active: u64,
    bytes: u64,
}

impl Depths {
    /// Of each priority what there is.
    pub(super) const fn usage(&self) -> &[Usage; 4] {
        &self.usage
    }

    /// A job came from nowhere, went there, or is elsewhere than before.
    pub(super) fn moved(&mut self, job: &Envelope, from: Option<At>, to: Option<At>, now: u64) {
        let (rank, size) = (job.priority.rank(), job.size());
        let lanes = self.kinds.entry(Arc::clone(&job.kind)).or_default();
        let (lane, usage) = (&mut lanes[rank], &mut self.usage[rank]);
        match from {
            Some(At::Queued(place)) => _ = lane.later.remove(&place) || lane.due.remove(&place),
            Some(At::Active) => lane.active -= 1,
            None => {
                lane.bytes += size;
                usage.add(size);
            }
        }
        match to {
            Some(At::Queued(place)) if place.0 > now => _ = lane.later.insert(place),
            Some(At::Queued(place)) => _ = lane.due.insert(place),
            Some(At::Active) => lane.active += 1,
            None => {
                lane.bytes -= size;
                usage.take(size);
            }
        }
        if to.is_none() && lanes.iter().all(Lane::is_empty) {
            self.kinds.remove(&job.kind);
        }
    }

    /// What there is now. Looks at no job but those whose time has come since somebody asked.
    pub(super) fn contents(&mut self, now: u64, dead: u64) -> Contents {
        let mut depths = Vec::new();
        for (kind, lanes) in &mut self.kinds {
            for (priority, lane) in Priority::ALL.into_iter().zip(lanes).filter(|(_, lane)| !lane.is_empty()) {
                lane.sort(now);
                depths.push(Depth {
                    waiting: lane.due.len() as u64,
                    delayed: lane.later.len() as u64,
                    active: lane.active,
                    bytes: lane.bytes,
                    oldest: lane.due.first().map(|&(due, _)| due),
                    ..Depth::none(Arc::clone(kind), priority)
                });
            }
        }
        Contents { depths, dead }
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.due.is_empty() && self.later.is_empty() && self.active == 0
    }

    /// Moves those whose time has come, and, when the clock was set back, those of which that is no longer true; answers how
    /// many there were.
    fn sort(&mut self, now: u64) -> usize {
        let mut moved = 0;
        while let Some(place) = self.later.first().copied().filter(|&(due, _)| due <= now) {
            self.later.remove(&place);
            self.due.insert(place);
            moved += 1;
        }
        while let Some(place) = self.due.last().copied().filter(|&(due, _)| due > now) {
            self.due.remove(&place);
            self.later.insert(place);
            moved += 1;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::job::JobId;

    const JOBS: u64 = 10_000;

    fn envelope() -> Envelope {
        Envelope::new(JobId::new("one").unwrap(), "test", 0, to_raw_value("").unwrap())
    }

    /// Half of them can be claimed at the time 0, and one more at each millisecond after it.
    fn filled() -> Depths {
        let mut depths = Depths::default();
        for order in 0..JOBS {
            let place = (order.saturating_sub(JOBS / 2), order);
            depths.moved(&envelope(), None, Some(At::Queued(place)), 0);
        }
        depths
    }

    fn lane(depths: &mut Depths) -> &mut Lane {
        &mut depths.kinds.get_mut("test").unwrap()[Priority::Normal.rank()]
    }

    #[test]
    fn whoever_asks_looks_at_those_alone_whose_time_has_come_since() {
        let mut depths = filled();
        let lane = lane(&mut depths);
        assert_eq!([0, 10, 10, 25].map(|now| lane.sort(now)), [0, 10, 0, 15]);
        assert_eq!(lane.sort(20), 5, "the clock was set back");
    }

    #[test]
    fn what_is_told_is_what_there_is_however_the_clock_goes() {
        let mut depths = filled();
        for now in [0, 10, 4_000, 3, JOBS] {
            let contents = depths.contents(now, 0);
            let waiting = (JOBS / 2 + 1 + now).min(JOBS);
            let depth = &contents.depths[0];
            assert_eq!((depth.waiting, depth.delayed, depth.oldest), (waiting, JOBS - waiting, Some(0)));
        }
    }

    #[test]
    fn of_a_type_of_which_there_is_nothing_nothing_is_kept() {
        let mut depths = Depths::default();
        let job = envelope();
        depths.moved(&job, None, Some(At::Queued((5, 1))), 0);
        depths.moved(&job, Some(At::Queued((5, 1))), Some(At::Active), 5);
        assert_eq!((depths.contents(5, 0).depths[0].active, depths.usage[Priority::Normal.rank()].jobs), (1, 1));
        depths.moved(&job, Some(At::Active), None, 6);
        assert!(depths.kinds.is_empty());
        assert_eq!(depths.usage, [Usage::default(); 4]);
    }
}
