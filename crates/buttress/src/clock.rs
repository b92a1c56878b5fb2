//! One clock: tokio's, which tests pause, and its place in wall time.

pub(crate) use tokio::time::Instant;

/// Tokio's clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch, for time-ordered ids.
#[cfg(feature = "propagate")]
pub(crate) fn unix_millis() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(any(feature = "trace", feature = "metrics"))]
pub(crate) use wall::{resync, unix_nanos};

#[cfg(any(feature = "trace", feature = "metrics"))]
mod wall {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::{Instant, now};

    /// An instant and the wall time that belongs to it, in Unix nanoseconds.
    static ANCHOR: LazyLock<(Instant, AtomicU64)> = LazyLock::new(|| (now(), AtomicU64::new(system_nanos())));

    /// Nanoseconds since the Unix epoch at this instant.
    ///
    /// Wall time is read rarely and tokio's clock is added to it: one reading less a request, and no span that ends
    /// before it starts when the wall clock is set.
    pub(crate) fn unix_nanos(at: Instant) -> u64 {
        let (instant, nanos) = &*ANCHOR;
        let nanos = nanos.load(Relaxed);
        match at.checked_duration_since(*instant) {
            Some(after) => nanos.saturating_add(after.as_nanos() as u64),
            None => nanos.saturating_sub(instant.duration_since(at).as_nanos() as u64),
        }
    }

    /// Follows the wall clock when it has been set or has drifted by more than a millisecond.
    pub(crate) fn resync() {
        let (_, nanos) = &*ANCHOR;
        let here = now();
        let drift = system_nanos() as i64 - unix_nanos(here) as i64;
        if drift.abs() > 1_000_000 {
            nanos.fetch_add(drift as u64, Relaxed);
        }
    }

    fn system_nanos() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    }
}
