//! Which priority is next.

use std::time::Duration;

use crate::job::Priority;

/// The first of a lane: since when it can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) due: u64,
}

/// The lane to claim from: the most urgent whose head can be claimed, where a head that has waited counts as more urgent,
/// though never as critical. Of equals the one that waited longer.
pub(crate) fn next_lane(heads: &[Option<Head>; 4], ageing: Duration, now: u64) -> Option<Priority> {
    let ageing = u64::try_from(ageing.as_millis()).unwrap_or(u64::MAX).max(1);
    let due = Priority::ALL.into_iter().zip(heads).filter_map(|(lane, head)| head.map(|head| (lane, head)));
    let claimable = due.filter(|(_, head)| head.due <= now);
    let urgency = |&(lane, head): &(Priority, Head)| {
        let steps = usize::try_from((now - head.due) / ageing).unwrap_or(usize::MAX);
        let highest = Priority::High.rank().min(lane.rank());
        (lane.rank().saturating_sub(steps).max(highest), head.due, lane)
    };
    claimable.min_by_key(urgency).map(|(lane, _)| lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn next(heads: [Option<u64>; 4], now: u64) -> Option<Priority> {
        next_lane(&heads.map(|head| head.map(|due| Head { due })), MINUTE, now)
    }

    #[test]
    fn the_most_urgent_that_is_due_is_next() {
        assert_eq!(next([None, Some(5), Some(1), Some(0)], 10), Some(Priority::High));
        assert_eq!(next([Some(20), None, Some(1), Some(0)], 10), Some(Priority::Normal));
        assert_eq!(next([Some(20), None, None, None], 10), None);
    }

    #[test]
    fn what_waited_for_long_is_as_urgent_as_the_next_priority() {
        assert_eq!(next([None, None, Some(59_000), Some(0)], 59_999), Some(Priority::Normal));
        assert_eq!(next([None, None, Some(59_000), Some(0)], 60_000), Some(Priority::Low));
        assert_eq!(next([None, Some(119_000), None, Some(0)], 119_999), Some(Priority::High));
        assert_eq!(next([None, Some(119_000), None, Some(0)], 120_000), Some(Priority::Low));
    }

    #[test]
    fn nothing_becomes_critical_by_waiting() {
        assert_eq!(
            next([Some(u64::from(u32::MAX)), None, None, Some(0)], u64::from(u32::MAX)),
            Some(Priority::Critical)
        );
    }

    #[test]
    fn what_never_ages_keeps_its_place() {
        let heads = [None, None, Some(Head { due: 1 << 40 }), Some(Head { due: 0 })];
        assert_eq!(next_lane(&heads, Duration::MAX, 1 << 40), Some(Priority::Normal));
    }
}
