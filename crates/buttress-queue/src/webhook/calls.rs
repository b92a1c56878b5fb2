//! The calls of one destination that are under way, and when those come again for which there was no place.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How soon a webhook comes again at the earliest, and at the latest.
const SOONEST: Duration = Duration::from_millis(250);
const LATEST: Duration = Duration::from_secs(30);

/// Webhooks that find no place come again one after the other, as fast as the destination has answered lately. All of them
/// at the same time would be claimed and put off four times a second: a thousand for one that hangs, and nobody else would
/// be heard of between them.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    busy: usize,
    /// How long a call takes, about.
    takes: Duration,
    /// When one ended last, or began when there was none.
    moved: Option<Instant>,
    /// When the last of those that were put off comes.
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
        let between = state.takes.max(still) / u32::try_from(most).unwrap_or(u32::MAX);
        let last = state.last.map_or(now, |last| last.max(now));
        let comes = (last + between).clamp(now + SOONEST, now + LATEST);
        state.last = Some(comes);
        Err(comes - now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(waits[..4], [500, 1_000, 1_500, 2_000]);
        assert_eq!(waits[99], 30_000, "and not for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_have_not_ended_are_known_to_be_slow() {
        let calls = Arc::new(Calls::default());
        let _both = (place(&calls).unwrap(), place(&calls).unwrap());
        advance(Duration::from_secs(10)).await;
        assert_eq!(place(&calls).err(), Some(Duration::from_secs(5)));
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
        assert_eq!(place(&calls).err(), Some(Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_comes_again_at_once() {
        let calls = Arc::new(Calls::default());
        drop(place(&calls));
        let _both = (place(&calls).unwrap(), place(&calls).unwrap());
        assert_eq!(place(&calls).err(), Some(SOONEST));
    }
}
