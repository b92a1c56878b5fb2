//! When requests come.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// When requests come: an open loop, which does not wait for answers.
///
/// Callers on the internet are one: they keep coming while a backend is sick, and that is what overloads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    phases: Vec<Phase>,
    /// Moments given one by one, from the start of the run.
    given: Vec<Duration>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Phase {
    rate: f64,
    length: Duration,
}

impl Workload {
    /// Requests that come independently of each other, `rate` a second on the average, for so long: a Poisson process.
    ///
    /// A rate that is not above 0 is silence.
    #[must_use]
    pub fn poisson(rate: f64, length: Duration) -> Self {
        Self { phases: vec![Phase { rate, length }], given: Vec::new(), seed: 0 }
    }

    /// Requests at these moments after the start, for instance out of an access log.
    #[must_use]
    pub fn replay(moments: impl IntoIterator<Item = Duration>) -> Self {
        Self { phases: Vec::new(), given: moments.into_iter().collect(), seed: 0 }
    }

    /// Goes on at another rate, for so long.
    #[must_use]
    pub fn then(mut self, rate: f64, length: Duration) -> Self {
        self.phases.push(Phase { rate, length });
        self
    }

    /// So many requests more, all at this moment after the start: a herd.
    #[must_use]
    pub fn burst(mut self, at: Duration, requests: usize) -> Self {
        self.given.extend(std::iter::repeat_n(at, requests));
        self
    }

    /// What all chance in the run comes from, 0 by default: arrivals here, and the failures of [`Fault::share`].
    ///
    /// [`Fault::share`]: super::Fault::share
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// When the requests come, counted from the start of the run, in order.
    pub fn arrivals(&self) -> Vec<Duration> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut arrivals = self.given.clone();
        let mut begin = Duration::ZERO;
        for phase in &self.phases {
            let end = begin.saturating_add(phase.length);
            arrivals.extend(phase.arrivals(begin, end, &mut random));
            begin = end;
        }
        arrivals.sort_unstable();
        arrivals
    }

    pub(super) const fn chance(&self) -> u64 {
        self.seed
    }
}

impl Phase {
    fn arrivals(
        self,
        begin: Duration,
        end: Duration,
        random: &mut Xoshiro256PlusPlus,
    ) -> impl Iterator<Item = Duration> {
        let gap = move || {
            // In (0, 1], so that the logarithm is finite.
            let uniform = 1.0 - random.random::<f64>();
            Duration::try_from_secs_f64(-uniform.ln() / self.rate).unwrap_or(Duration::MAX)
        };
        let gaps = std::iter::repeat_with(gap).take(if self.rate > 0.0 { usize::MAX } else { 0 });
        let after = gaps.scan(begin, |at, gap| {
            *at = at.saturating_add(gap);
            Some(*at)
        });
        after.take_while(move |at| *at < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let arrivals = Workload::poisson(1000.0, 100 * SECOND).seed(1).arrivals();
        let mut seconds = [0.0_f64; 100];
        arrivals.iter().for_each(|at| seconds[at.as_secs() as usize] += 1.0);
        let mean = seconds.iter().sum::<f64>() / 100.0;
        let variance = seconds.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 99.0;
        assert!((mean - 1000.0).abs() < 15.0, "{mean}");
        assert!((600.0..1500.0).contains(&variance), "{variance}");
    }

    #[test]
    fn phases_follow_each_other_and_a_herd_stands_among_them() {
        let workload = Workload::poisson(100.0, SECOND).then(0.0, SECOND).then(200.0, SECOND).burst(2 * SECOND, 50);
        let arrivals = workload.arrivals();
        let between =
            |from: u64, until: u64| arrivals.iter().filter(|at| (from..until).contains(&at.as_secs())).count();
        assert!(arrivals.is_sorted());
        assert!((70..130).contains(&between(0, 1)), "{}", between(0, 1));
        assert_eq!(between(1, 2), 0);
        assert!((200..300).contains(&between(2, 3)), "{}", between(2, 3));
        assert_eq!(arrivals.iter().filter(|at| **at == 2 * SECOND).count(), 50);
    }

    #[test]
    fn the_seed_alone_decides() {
        let workload = Workload::poisson(500.0, SECOND);
        assert_eq!(workload.clone().seed(7).arrivals(), workload.clone().seed(7).arrivals());
        assert_ne!(workload.clone().seed(7).arrivals(), workload.seed(8).arrivals());
    }

    #[test]
    fn no_rate_is_silence() {
        for rate in [0.0, -1.0, f64::NAN] {
            assert_eq!(Workload::poisson(rate, SECOND).arrivals(), []);
        }
        assert_eq!(Workload::replay([SECOND, Duration::ZERO]).arrivals(), [Duration::ZERO, SECOND]);
    }
}
