//! The engine of one process: as fast as a lock, and gone with the process.

mod state;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use state::State;
use tokio::sync::Notify;

use super::{
    Admitted, Answer, Claimed, Contents, DeadLetter, Engine, EngineConfig, EngineError, Entry, Found, Lease, Settlement,
};
use crate::job::JobId;

/// Keeps jobs in memory, within [bounds](super::Bounds): the queue of a process that is offline for a while.
///
/// Ids of jobs that are done are remembered as the [configuration](EngineConfig::remember) says, and at most as many as
/// there may be jobs.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    closed: AtomicBool,
}

impl Memory {
    /// Nothing is in it yet.
    pub fn new(config: EngineConfig) -> Self {
        let (state, changed) = (Mutex::new(State::new(config)), Notify::new());
        Self(Arc::new(Shared { state, changed, closed: AtomicBool::new(false) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the state, and wakes who waits for something to claim.
    fn change<T: Send + 'static>(&self, ask: impl FnOnce(&mut State) -> Result<T, EngineError>) -> Answer<'static, T> {
        let answer = self.open().and_then(|()| ask(&mut self.state()));
        self.0.changed.notify_waiters();
        Box::pin(async move { answer })
    }

    fn look<T: Send + 'static>(&self, ask: impl FnOnce(&mut State) -> T) -> Answer<'static, T> {
        let answer = self.open().map(|()| ask(&mut self.state()));
        Box::pin(async move { answer })
    }

    fn open(&self) -> Result<(), EngineError> {
        if self.0.closed.load(Relaxed) { Err(EngineError::Closed) } else { Ok(()) }
    }
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn push(&self, entries: Vec<Entry>, now: u64) -> Answer<'_, Vec<Admitted>> {
        self.change(|state| Ok(entries.into_iter().map(|entry| state.push(entry, now)).collect()))
    }

    fn claim(&self, max: usize, lease: Duration, now: u64) -> Answer<'_, Vec<Claimed>> {
        let claimed = self.open().map(|()| self.state().claim(max, lease, now));
        Box::pin(async move { claimed })
    }

    fn extend<'a>(&'a self, lease: &'a Lease, by: Duration, now: u64) -> Answer<'a, ()> {
        self.change(|state| state.extend(lease, by, now))
    }

    fn settle<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()> {
        self.change(|state| state.settle(lease, settlement, now))
    }

    fn ready(&self, now: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut changed = pin!(self.0.changed.notified());
            // Listens before it looks, so that nothing is pushed in between.
            changed.as_mut().enable();
            let next = self.state().next_due();
            match next {
                Some(due) if due <= now => {}
                Some(due) => {
                    let _ = tokio::time::timeout(Duration::from_millis(due - now), changed).await;
                }
                None => changed.await,
            }
        })
    }

    fn contents(&self, now: u64) -> Answer<'_, Contents> {
        self.look(|state| state.contents(now))
    }

    fn find<'a>(&'a self, id: &'a JobId, now: u64) -> Answer<'a, Option<Found>> {
        self.look(|state| state.find(id, now))
    }

    fn dead<'a>(&'a self, after: Option<&'a DeadLetter>, max: usize) -> Answer<'a, Vec<DeadLetter>> {
        self.look(|state| state.dead(after, max))
    }

    fn replay<'a>(&'a self, ids: &'a [JobId], now: u64) -> Answer<'a, u64> {
        self.change(|state| Ok(state.replay(ids, now)))
    }

    fn discard<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, u64> {
        self.change(|state| Ok(state.discard(ids)))
    }

    fn maintain(&self, now: u64) -> Answer<'_, ()> {
        self.change(|state| {
            state.maintain(now);
            Ok(())
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        let open = self.open();
        self.0.closed.store(true, Relaxed);
        Box::pin(async move { open })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("jobs", &self.state().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_closed_says_so() {
        let queue = Memory::new(EngineConfig::default());
        queue.close().await.unwrap();
        assert!(matches!(queue.push(Vec::new(), 0).await, Err(EngineError::Closed)));
        assert!(matches!(queue.claim(1, Duration::ZERO, 0).await, Err(EngineError::Closed)));
        assert!(matches!(queue.contents(0).await, Err(EngineError::Closed)));
        assert!(matches!(queue.clone().close().await, Err(EngineError::Closed)));
    }
}
