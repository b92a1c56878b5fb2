//! So many a second and not more: a token bucket in one atomic word.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::{self, Instant};

const SECOND: u64 = 1_000_000_000;

/// A limit per second with a burst of one second's worth, shared by its clones.
///
/// The generic cell rate algorithm (ITU-T I.371): the word holds the moment at which the bucket will be full again.
#[derive(Clone)]
pub struct RateLimit(Arc<Bucket>);

struct Bucket {
    per_second: u32,
    /// Where the clock of this bucket starts.
    zero: Instant,
    /// Nanoseconds after `zero` at which everything taken so far is paid back.
    paid_back: AtomicU64,
}

impl RateLimit {
    /// At most this many a second; 0 is never.
    pub fn per_second(per_second: u32) -> Self {
        Self(Arc::new(Bucket { per_second, zero: clock::now(), paid_back: AtomicU64::new(0) }))
    }

    /// Takes one, if there is one.
    pub(crate) fn admit(&self, at: Instant) -> bool {
        let Bucket { per_second, zero, paid_back } = &*self.0;
        if *per_second == 0 {
            return false;
        }
        let cost = SECOND / u64::from(*per_second);
        let now = nanos(at.saturating_duration_since(*zero));
        let take = |owed: u64| {
            let owed = owed.max(now) + cost;
            (owed <= now + SECOND).then_some(owed)
        };
        paid_back.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 2 * SECOND)
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateLimit({}/s)", self.0.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_one_second_passes_and_then_one_by_one() {
        let limit = RateLimit::per_second(10);
        let admitted = |limit: &RateLimit| (0..100).filter(|_| limit.admit(clock::now())).count();
        assert_eq!(admitted(&limit), 10);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(&limit), 1);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(admitted(&limit), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn none_a_second_is_never() {
        assert!(!RateLimit::per_second(0).admit(clock::now()));
    }
}
