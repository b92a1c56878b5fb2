//! The queue's own clock.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Unix milliseconds that only go forward: wall time as it was when the queue was opened, and from there tokio's clock.
///
/// A wall clock that is set makes no job due early and no lease long; after a restart the queue goes by the new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: u64,
    opened: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Self { wall, opened: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.wall + self.opened.elapsed().as_millis() as u64
    }
}
