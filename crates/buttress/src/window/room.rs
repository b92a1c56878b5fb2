//! How much there is for buckets. What was taken is never given back: windows stay as long as their registry.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that the buckets of several windows may take together.
#[derive(Debug)]
pub(crate) struct Room {
    limit: usize,
    taken: AtomicUsize,
}

impl Room {
    pub(crate) fn of(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    /// Whether there is so much. Threads that ask at the same time may take a bucket's worth more.
    pub(crate) fn has(&self, bytes: usize) -> bool {
        self.taken.load(Relaxed).saturating_add(bytes) <= self.limit
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Relaxed);
    }
}
