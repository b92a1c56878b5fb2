//! A second attempt while the first one is still out, for the few that take long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::random;

/// Latencies that are looked back at.
const RING: usize = 128;
/// So many have to be known, and so often the percentile is taken anew.
const EVERY: u32 = 32;

/// When a safe request (GET, HEAD, OPTIONS, TRACE, QUERY) that has no answer yet is sent a second time.
///
/// The first good answer wins, and the other attempt is dropped. A hedge takes from the
/// [`RetryBudget`](super::RetryBudget) as a repeat does, and there are at most a twentieth as many hedges as successes.
#[derive(Clone)]
pub struct Hedge(Delay);

#[derive(Clone)]
enum Delay {
    Fixed(Duration),
    P95(Arc<Latencies>),
}

impl Hedge {
    /// After this time.
    pub const fn after(delay: Duration) -> Self {
        Self(Delay::Fixed(delay))
    }

    /// After the time within which 95 % of the client's attempts had their answer, of the last 128 that were sampled; not
    /// before 32 are known.
    ///
    /// Of an attempt that was dropped counts how long it had been out: it would have taken longer than that.
    pub fn p95() -> Self {
        Self(Delay::P95(Arc::default()))
    }

    /// How long an answer may take now before there is a second attempt; none while too little is known.
    pub fn delay(&self) -> Option<Duration> {
        match &self.0 {
            Delay::Fixed(delay) => Some(*delay),
            Delay::P95(latencies) => latencies.p95(),
        }
    }

    /// An attempt took this long, or longer.
    pub(super) fn took(&self, latency: Duration) {
        if let Delay::P95(latencies) = &self.0 {
            latencies.record(latency);
        }
    }
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Delay::Fixed(delay) => write!(f, "Hedge(after {delay:?})"),
            Delay::P95(latencies) => write!(f, "Hedge(after the 95th percentile, {:?})", latencies.p95()),
        }
    }
}

/// The last latencies, in microseconds.
struct Latencies {
    ring: [AtomicU32; RING],
    recorded: AtomicU32,
    /// 0 until it is known.
    p95: AtomicU32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { ring: std::array::from_fn(|_| AtomicU32::new(0)), recorded: AtomicU32::new(0), p95: AtomicU32::new(0) }
    }
}

impl Latencies {
    fn p95(&self) -> Option<Duration> {
        let micros = self.p95.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(u64::from(micros)))
    }

    fn record(&self, latency: Duration) {
        // Once the ring is full, one of four is enough, and spares the others the shared word.
        if self.recorded.load(Relaxed) as usize >= RING && random::next_u64() & 3 != 0 {
            return;
        }
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1);
        let nth = self.recorded.fetch_add(1, Relaxed);
        self.ring[nth as usize % RING].store(micros, Relaxed);
        if (nth + 1).is_multiple_of(EVERY) {
            self.take_percentile();
        }
        // Wrapping would forget that the ring is full.
        if nth > u32::MAX / 2 {
            self.recorded.store(RING as u32, Relaxed);
        }
    }

    fn take_percentile(&self) {
        let mut all: [u32; RING] = std::array::from_fn(|at| self.ring[at].load(Relaxed));
        all.sort_unstable();
        let known = &all[all.partition_point(|micros| *micros == 0)..];
        if let Some(p95) = known.get(known.len() * 95 / 100) {
            self.p95.store(*p95, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_hedged_before_enough_latencies_are_known() {
        let hedge = Hedge::p95();
        for _ in 0..EVERY - 1 {
            hedge.took(Duration::from_millis(10));
            assert_eq!(hedge.delay(), None);
        }
        hedge.took(Duration::from_millis(10));
        assert_eq!(hedge.delay(), Some(Duration::from_millis(10)));
    }

    #[test]
    fn the_delay_is_the_95th_percentile_of_the_last_latencies() {
        let hedge = Hedge::p95();
        for millis in 1..=128 {
            hedge.took(Duration::from_millis(millis));
        }
        assert_eq!(hedge.delay(), Some(Duration::from_millis(122)));
        for _ in 0..10_000 {
            hedge.took(Duration::from_millis(7));
        }
        assert_eq!(hedge.delay(), Some(Duration::from_millis(7)));
    }
}
