//! How much a queue takes, and what happens with the next one.

use std::fmt;

use crate::job::Priority;

/// How much there may be of something; 0 of either is nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Jobs.
    pub jobs: u64,
    /// Bytes, as [`Envelope::size`](crate::Envelope::size) counts them.
    pub bytes: u64,
}

impl Bound {
    /// No bound.
    pub const NONE: Self = Self { jobs: u64::MAX, bytes: u64::MAX };

    /// Whether so much is no more than this.
    pub(crate) const fn holds(self, usage: Usage) -> bool {
        usage.jobs <= self.jobs && usage.bytes <= self.bytes
    }
}

/// What happens with a job for which there is no room. Complete by nature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The push fails, with [`Full`].
    #[default]
    Reject,
    /// The oldest of the least urgent is thrown away for it: never something more urgent than itself, nothing critical, and
    /// nothing that somebody works on. When there is nothing to throw away the push fails.
    Evict,
    /// The push waits until there is room. Whoever pushes sets the time limit.
    Wait,
}

/// How much a queue takes in all and of each priority: jobs that wait, are delayed or are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "bounds do nothing until an engine is made with them"]
pub struct Bounds {
    total: Bound,
    each: [Bound; 4],
    on_full: OnFull,
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new(Bound { jobs: 1_000_000, bytes: 1 << 30 })
    }
}

impl Bounds {
    /// So much in all.
    pub const fn new(total: Bound) -> Self {
        Self { total, each: [Bound::NONE; 4], on_full: OnFull::Reject }
    }

    /// So much of this priority.
    pub const fn of(mut self, priority: Priority, bound: Bound) -> Self {
        self.each[priority.rank()] = bound;
        self
    }

    /// What happens with one too many. [`OnFull::Reject`] by default.
    pub const fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// How many jobs there may be.
    pub(crate) const fn most(&self) -> u64 {
        self.total.jobs
    }

    /// Whether there is room for a job of this priority and size among what is there; asked again after each eviction.
    pub(crate) fn room(&self, priority: Priority, size: u64, there: &[There; 4]) -> Room {
        let one = Usage { jobs: 1, bytes: size };
        let lane = self.each[priority.rank()];
        let total = there.iter().fold(Usage::default(), |sum, there| sum.and(there.usage));
        let full = |bound| Room::Full(Full { priority, bound, waits: self.on_full == OnFull::Wait });
        if !lane.holds(one) || !lane.holds(there[priority.rank()].usage.and(one)) {
            return match self.evicts(priority) && lane.holds(one) && there[priority.rank()].evictable {
                true => Room::Evict(priority),
                false => full(lane),
            };
        }
        if self.total.holds(total.and(one)) {
            return Room::Yes;
        }
        if !self.evicts(Priority::Low) || !self.total.holds(one) {
            return full(self.total);
        }
        let least = (priority.rank()..Priority::ALL.len()).rev().map(Priority::of_rank);
        let mut least = least.filter(|&candidate| candidate != Priority::Critical && there[candidate.rank()].evictable);
        least.next().map_or_else(|| full(self.total), Room::Evict)
    }

    fn evicts(&self, priority: Priority) -> bool {
        self.on_full == OnFull::Evict && priority != Priority::Critical
    }

    /// How much there may be in all.
    #[cfg(feature = "redis")]
    pub(crate) const fn total(&self) -> Bound {
        self.total
    }

    /// How much there may be of this priority.
    #[cfg(feature = "redis")]
    pub(crate) const fn of_priority(&self, priority: Priority) -> Bound {
        self.each[priority.rank()]
    }
}

/// So much of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) jobs: u64,
    pub(crate) bytes: u64,
}

impl Usage {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { jobs: self.jobs.saturating_add(other.jobs), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// One more, of this size.
    pub(crate) const fn add(&mut self, size: u64) {
        (self.jobs, self.bytes) = (self.jobs + 1, self.bytes + size);
    }

    /// One less, of this size.
    pub(crate) const fn take(&mut self, size: u64) {
        (self.jobs, self.bytes) = (self.jobs.saturating_sub(1), self.bytes.saturating_sub(size));
    }
}

/// What there is of a priority.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct There {
    pub(crate) usage: Usage,
    /// Whether something of it is waiting or delayed.
    pub(crate) evictable: bool,
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// When the oldest of this priority that nobody works on is gone there may be.
    Evict(Priority),
    Full(Full),
}

/// There was no room for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Full {
    /// Of this priority.
    pub priority: Priority,
    /// What was reached.
    pub bound: Bound,
    /// Whether it is to be waited for.
    pub(crate) waits: bool,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, bound, .. } = self;
        write!(f, "no room for a job of priority {priority}: at most {} jobs and {} bytes", bound.jobs, bound.bytes)
    }
}

impl std::error::Error for Full {}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(jobs: u64) -> Bound {
        Bound { jobs, bytes: u64::MAX }
    }

    fn there(counts: [u64; 4]) -> [There; 4] {
        counts.map(|jobs| There { usage: Usage { jobs, bytes: jobs * 10 }, evictable: jobs > 0 })
    }

    #[test]
    fn one_too_many_is_rejected() {
        let bounds = Bounds::new(jobs(3));
        assert_eq!(bounds.room(Priority::Normal, 10, &there([0, 1, 1, 0])), Room::Yes);
        let full = Full { priority: Priority::Normal, bound: jobs(3), waits: false };
        assert_eq!(bounds.room(Priority::Normal, 10, &there([0, 1, 1, 1])), Room::Full(full));
    }

    #[test]
    fn the_oldest_of_the_least_urgent_makes_room() {
        let bounds = Bounds::new(jobs(3)).on_full(OnFull::Evict);
        assert_eq!(bounds.room(Priority::High, 10, &there([1, 0, 1, 1])), Room::Evict(Priority::Low));
        assert_eq!(bounds.room(Priority::High, 10, &there([1, 0, 2, 0])), Room::Evict(Priority::Normal));
        assert_eq!(bounds.room(Priority::Critical, 10, &there([2, 1, 0, 0])), Room::Evict(Priority::High));
    }

    #[test]
    fn nothing_more_urgent_makes_room_and_nothing_critical() {
        let bounds = Bounds::new(jobs(3)).on_full(OnFull::Evict);
        assert!(matches!(bounds.room(Priority::Low, 10, &there([0, 2, 1, 0])), Room::Full(_)));
        assert!(matches!(bounds.room(Priority::Critical, 10, &there([3, 0, 0, 0])), Room::Full(_)));
    }

    #[test]
    fn what_somebody_works_on_makes_no_room() {
        let bounds = Bounds::new(jobs(1)).on_full(OnFull::Evict);
        let mut busy = there([0, 0, 0, 1]);
        busy[3].evictable = false;
        assert!(matches!(bounds.room(Priority::Low, 10, &busy), Room::Full(_)));
    }

    #[test]
    fn a_priority_has_bounds_of_its_own() {
        let bounds = Bounds::new(jobs(100)).of(Priority::Low, Bound { jobs: 100, bytes: 25 });
        assert_eq!(bounds.room(Priority::Low, 10, &there([0, 0, 9, 1])), Room::Yes);
        assert!(matches!(bounds.room(Priority::Low, 10, &there([0, 0, 0, 2])), Room::Full(_)));
        let evicting = bounds.on_full(OnFull::Evict);
        assert_eq!(evicting.room(Priority::Low, 10, &there([0, 0, 0, 2])), Room::Evict(Priority::Low));
        assert!(
            matches!(evicting.room(Priority::Low, 26, &there([0, 0, 0, 2])), Room::Full(_)),
            "evicting would not help"
        );
    }
}
