//! The calls of one destination that are under way, and when those come again for which there was no place.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How soon a webhook comes again for which there was no place.
const SOONEST: Duration = Duration::from_millis(250);

/// How much later it comes at most, because of others before it.
const LATER: Duration = Duration::from_secs(30);

/// The longest that somebody may make a webhook wait.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Between two that come when a circuit may have closed.
const APART: Duration = Duration::from_millis(5);

/// What is put off comes again one after the other: for want of a place as fast as the destination has answered lately, for
/// an open circuit some way apart. Were it all at the same time, a thousand webhooks of one destination that hangs would be
/// claimed and put off four times a second, and nobody else would be heard of between them.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    busy: usize,
    /// How long a call takes, about.
    takes: Duration,
    /// When one ended last, or began when there was none.
    moved: Option<Instant>,
    /// When the last of those comes that were put off.
    last: Option<Instant>,
}

/// A place for a call, as long as it is in scope.
pub(super) struct Place {
    calls: Arc<Calls>,
    begun: Option<Instant>,
}

impl Place {
    /// The call is made; without, nothing is learnt of how long one takes.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
    }
}

impl Calls {
    /// Takes a place; else says how long to wait.
    pub(super) fn place(self: &Arc<Self>, most: usize, now: Instant) -> Result<Place, Duration> {
        let mut state = self.state();
        if state.busy < most {
            if state.busy == 0 {
                state.moved = Some(now);
            }
            state.busy += 1;
            return Ok(Place { calls: Arc::clone(self), begun: None });
        }
        // Of those that have not ended yet it is known that they take as long as this.
        let still = state.moved.map_or(Duration::ZERO, |moved| now.saturating_duration_since(moved));
        let apart = state.takes.max(still) / u32::try_from(most).unwrap_or(u32::MAX);
        Err(state.put_off(SOONEST, apart, now))
    }

    /// How long to wait for a circuit that rejects for so long.
    pub(super) fn wait_for_circuit(&self, rejects: Duration, now: Instant) -> Duration {
        self.state().put_off(rejects, APART, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put_off(&mut self, wait: Duration, apart: Duration, now: Instant) -> Duration {
        let soonest = now + wait.min(LONGEST_WAIT);
        let comes = self.last.map_or(soonest, |last| (last + apart).clamp(soonest, soonest + LATER));
        self.last = Some(comes);
        comes - now
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.calls.state();
        state.busy -= 1;
        if let Some(took) = self.begun.map(|begun| now.saturating_duration_since(begun)) {
            state.moved = Some(now);
            state.takes = if state.takes.is_zero() { took } else { (7 * state.takes + took) / 8 };
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn place(calls: &Arc<Calls>) -> Result<Place, Duration> {
        let mut place = calls.place(2, Instant::now())?;
        place.begin(Instant::now());
        Ok(place)
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_as_many_places_as_may_be() {
        let calls = Arc::new(Calls::default());
        let (one, other) = (place(&calls).unwrap(), place(&calls));
        assert!(other.is_ok() && place(&calls).is_err());
        drop(one);
        assert!(place(&calls).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_find_none_come_as_fast_as_calls_have_ended() {
        let calls = Arc::new(Calls::default());
        let (one, other) = (place(&calls).unwrap(), place(&calls).unwrap());
        advance(Duration::from_secs(1)).await;
        drop((one, other));
        let _both = (place(&calls).unwrap(), place(&calls).unwrap());
        let waits: Vec<_> = (0..100).map(|_| place(&calls).err().unwrap().as_millis()).collect();
        // Two a second for each of two places.
        assert_eq!(waits[..4], [250, 750, 1_250, 1_750]);
        assert_eq!(waits[99], 30_250, "and not for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_have_not_ended_are_known_to_be_slow() {
        let calls = Arc::new(Calls::default());
        let _both = (place(&calls).unwrap(), place(&calls).unwrap());
        advance(Duration::from_secs(10)).await;
        place(&calls).err().unwrap();
        assert_eq!(place(&calls).err(), Some(Duration::from_millis(5_250)));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_call_that_was_not_made_nothing_is_learnt() {
        let calls = Arc::new(Calls::default());
        let one = place(&calls).unwrap();
        advance(Duration::from_secs(4)).await;
        drop(one);
        // A circuit was open.
        (0..100).for_each(|_| drop(calls.place(2, Instant::now())));
        let _both = (place(&calls).unwrap(), place(&calls).unwrap());
        place(&calls).err().unwrap();
        assert_eq!(place(&calls).err(), Some(Duration::from_millis(2_250)));
    }

    #[tokio::test(start_paused = true)]
    async fn not_all_come_when_a_circuit_may_close() {
        let calls = Calls::default();
        let wait = || calls.wait_for_circuit(Duration::from_secs(5), Instant::now()).as_millis();
        assert_eq!([wait(), wait(), wait()], [5_000, 5_005, 5_010]);
        assert_eq!((0..10_000).map(|_| wait()).max(), Some(35_000));
        let for_good = calls.wait_for_circuit(Duration::MAX, Instant::now());
        assert_eq!(for_good, LONGEST_WAIT, "and then it is asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_comes_again_at_once() {
        let calls = Arc::new(Calls::default());
        drop(place(&calls));
        let _both = (place(&calls).unwrap(), place(&calls).unwrap());
        assert_eq!(place(&calls).err(), Some(SOONEST));
    }
}
