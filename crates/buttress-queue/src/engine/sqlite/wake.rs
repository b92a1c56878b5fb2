//! Who waits for something to claim.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How long what other processes did may go unnoticed.
const OTHERS: Duration = Duration::from_secs(1);

/// When something is due next, and whoever waits for it.
#[derive(Debug)]
pub(super) struct Wake {
    /// `u64::MAX` when nothing is.
    next: AtomicU64,
    changed: Notify,
}

impl Wake {
    pub(super) fn new() -> Self {
        Self { next: AtomicU64::new(u64::MAX), changed: Notify::new() }
    }

    /// Something is due then.
    pub(super) fn next(&self, due: Option<u64>) {
        let due = due.unwrap_or(u64::MAX);
        if self.next.swap(due, Ordering::AcqRel) != due {
            self.changed.notify_waiters();
        }
    }

    /// Waits until something is due, and has somebody look for what others did.
    pub(super) async fn due(&self, now: u64, look: impl Fn()) {
        let start = Instant::now();
        loop {
            let mut changed = pin!(self.changed.notified());
            // Listens before it looks, so that nothing happens in between.
            changed.as_mut().enable();
            let now = now.saturating_add(start.elapsed().as_millis() as u64);
            let left = self.next.load(Ordering::Acquire).saturating_sub(now);
            if left == 0 {
                return;
            }
            if timeout(OTHERS.min(Duration::from_millis(left)), changed).await.is_err()
                && left > OTHERS.as_millis() as u64
            {
                look();
            }
        }
    }
}
