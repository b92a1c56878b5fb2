//! One thread for the process that ticks every registry when it is due.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use super::registry::{Registry, WeakRegistry};
use crate::clock::{self, Instant};

struct Ticked {
    registry: WeakRegistry,
    due: Instant,
}

#[derive(Default)]
struct Ticker {
    ticked: Vec<Ticked>,
    /// The thread, as long as it runs.
    thread: Option<Thread>,
}

static TICKER: Mutex<Ticker> = Mutex::new(Ticker { ticked: Vec::new(), thread: None });

/// Ticks this registry from now on, as long as it is there.
///
/// A thread, and no task: a runtime that is stuck is what the sources are asked about.
pub(super) fn keep(registry: &Registry) {
    let mut ticker = ticker();
    if ticker.ticked.iter().any(|ticked| ticked.registry.is(registry)) {
        return;
    }
    ticker.ticked.push(Ticked { registry: registry.downgrade(), due: clock::now() + registry.tick_interval() });
    match &ticker.thread {
        // What it waits for may be too far away.
        Some(thread) => thread.unpark(),
        // Without a thread nothing is ticked but by who reads.
        None => {
            let started = thread::Builder::new().name("buttress-tick".to_owned()).spawn(run);
            ticker.thread = started.ok().map(|handle| handle.thread().clone());
        }
    }
}

fn run() {
    loop {
        let now = clock::now();
        let due = {
            let mut ticker = ticker();
            ticker.ticked.retain(|ticked| !ticked.registry.is_gone());
            if ticker.ticked.is_empty() {
                ticker.thread = None;
                return;
            }
            ticker.due(now)
        };
        // Outside of the lock: sources may do what they like.
        due.iter().for_each(|registry| registry.tick_at(now));
        drop(due);
        let next = ticker().ticked.iter().map(|ticked| ticked.due).min();
        if let Some(next) = next {
            thread::park_timeout(next.saturating_duration_since(clock::now()));
        }
    }
}

impl Ticker {
    /// Those whose time has come. What was missed is not made up for: a tick tells of all the time since the last.
    fn due(&mut self, now: Instant) -> Vec<Registry> {
        let mut due = Vec::new();
        for ticked in self.ticked.iter_mut().filter(|ticked| ticked.due <= now) {
            if let Some(registry) = ticked.registry.upgrade() {
                ticked.due = now + registry.tick_interval();
                due.push(registry);
            }
        }
        due
    }
}

fn ticker() -> MutexGuard<'static, Ticker> {
    TICKER.lock().unwrap_or_else(PoisonError::into_inner)
}
