//! A backend of so many servers, and what becomes of each call on it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::fault::{Fault, Kind};

/// The bucket of a limited capacity, as a part of a second.
const BUCKET: f64 = 0.05;

/// A backend: how long it takes, how much it can do at once, and what goes wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    latency: Duration,
    servers: Option<usize>,
    queue: usize,
    faults: Vec<Fault>,
}

impl Backend {
    /// Answers 200 after this time, however many calls there are at once.
    #[must_use]
    pub const fn new(latency: Duration) -> Self {
        Self { latency, servers: None, queue: usize::MAX, faults: Vec::new() }
    }

    /// Works on so many calls at once, at least one; the others wait in order of arrival. The capacity is
    /// `servers / latency`.
    ///
    /// Work that has been accepted is done even when the caller has gone: few servers notice.
    #[must_use]
    pub const fn servers(mut self, servers: usize) -> Self {
        self.servers = Some(if servers == 0 { 1 } else { servers });
        self
    }

    /// At most so many calls wait for a server; those beyond are refused at once with 503. Unlimited by default.
    #[must_use]
    pub const fn queue(mut self, waiting: usize) -> Self {
        self.queue = waiting;
        self
    }

    /// Adds something that goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Whether something is wrong at this moment after the start.
    pub fn is_sick(&self, at: Duration) -> bool {
        self.fault_at(at).is_some()
    }

    fn fault_at(&self, at: Duration) -> Option<&Fault> {
        self.faults.iter().rev().find(|fault| fault.is_on(at))
    }

    fn latency_at(&self, at: Duration) -> Duration {
        match self.fault_at(at).map(|fault| fault.kind) {
            Some(Kind::Slow { latency }) => latency,
            _ => self.latency,
        }
    }
}

/// What becomes of a call, decided when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// 200 at this moment after the start.
    Served(Duration),
    /// 503 at this moment.
    Refused(Duration),
    Hang,
}

/// A backend at work. Times are counted from the start of the run and must not go back.
#[derive(Debug)]
pub(super) struct Working {
    backend: Backend,
    random: Xoshiro256PlusPlus,
    /// When each server will be free.
    free: BinaryHeap<Reverse<Duration>>,
    /// When those that wait will be served, in order.
    waiting: VecDeque<Duration>,
    tokens: f64,
    /// When tokens were last added.
    filled: Option<Duration>,
}

impl Working {
    pub(super) fn new(backend: Backend, seed: u64) -> Self {
        let free = std::iter::repeat_n(Reverse(Duration::ZERO), backend.servers.unwrap_or(0)).collect();
        // Arrivals draw from the seed itself.
        let random = Xoshiro256PlusPlus::seed_from_u64(!seed);
        Self { backend, random, free, waiting: VecDeque::new(), tokens: 0.0, filled: None }
    }

    pub(super) fn plan(&mut self, at: Duration) -> Plan {
        let fault = self.backend.fault_at(at).copied();
        match fault.map(|fault| (fault, fault.kind)) {
            Some((_, Kind::Errors { after })) => Plan::Refused(at.saturating_add(after)),
            Some((_, Kind::Hang)) => Plan::Hang,
            Some((_, Kind::Share { share, after })) if self.random.random::<f64>() < share => {
                Plan::Refused(at.saturating_add(after))
            }
            Some((fault, Kind::Capacity { from, to })) if !self.take(at, from + (to - from) * fault.progress(at)) => {
                Plan::Refused(at)
            }
            _ => self.serve(at),
        }
    }

    fn serve(&mut self, at: Duration) -> Plan {
        let Some(mut soonest) = self.free.peek_mut() else {
            return Plan::Served(at.saturating_add(self.backend.latency_at(at)));
        };
        let begin = soonest.0.max(at);
        let served = self.waiting.partition_point(|begin| *begin <= at);
        self.waiting.drain(..served);
        if begin > at {
            if self.waiting.len() >= self.backend.queue {
                return Plan::Refused(at);
            }
            self.waiting.push_back(begin);
        }
        let end = begin.saturating_add(self.backend.latency_at(begin));
        soonest.0 = end;
        Plan::Served(end)
    }

    /// Takes a token out of a bucket that is filled at this rate.
    fn take(&mut self, at: Duration, per_second: f64) -> bool {
        let size = (per_second * BUCKET).max(1.0);
        let since = self.filled.replace(at).map_or(f64::INFINITY, |filled| at.saturating_sub(filled).as_secs_f64());
        // Nothing for ever is nothing: 0 times infinity is no number, which min turns into a full bucket.
        let filled = if per_second > 0.0 { per_second * since } else { 0.0 };
        self.tokens = (self.tokens + filled).min(size);
        let is_enough = self.tokens >= 1.0;
        if is_enough {
            self.tokens -= 1.0;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn one_server_serves_in_order_of_arrival() {
        let mut working = Working::new(Backend::new(ms(10)).servers(1), 0);
        assert_eq!(working.plan(ms(0)), Plan::Served(ms(10)));
        assert_eq!(working.plan(ms(4)), Plan::Served(ms(20)));
        assert_eq!(working.plan(ms(5)), Plan::Served(ms(30)));
        assert_eq!(working.plan(ms(50)), Plan::Served(ms(60)));
    }

    #[test]
    fn a_full_queue_refuses_and_lets_in_again_when_one_has_left_it() {
        let mut working = Working::new(Backend::new(ms(10)).servers(1).queue(1), 0);
        assert_eq!(working.plan(ms(0)), Plan::Served(ms(10)));
        assert_eq!(working.plan(ms(1)), Plan::Served(ms(20)));
        assert_eq!(working.plan(ms(2)), Plan::Refused(ms(2)));
        assert_eq!(working.plan(ms(10)), Plan::Served(ms(30)));
    }

    #[test]
    fn who_waits_through_a_brown_out_is_served_at_the_speed_of_his_turn() {
        let backend = Backend::new(ms(10)).servers(1).fault(Fault::slow(ms(100)).between(ms(20), ms(30)));
        let mut working = Working::new(backend, 0);
        let plans = [ms(0), ms(15), ms(25), ms(26)].map(|at| working.plan(at));
        // The third begins at 25 while slow; the fourth begins at 125, when it is over.
        assert_eq!(plans, [ms(10), ms(25), ms(125), ms(135)].map(Plan::Served));
    }

    #[test]
    fn an_overloaded_backend_serves_its_capacity_and_refuses_the_rest() {
        let mut working = Working::new(Backend::new(ms(1)).fault(Fault::overload(500.0)), 0);
        let served = (0..10_000).filter(|at| matches!(working.plan(ms(*at)), Plan::Served(_))).count();
        assert!((5000..=5025).contains(&served), "{served}");
    }

    #[test]
    fn capacity_grows_in_a_straight_line() {
        let warming = Fault::warming(200.0, 1000.0).between(ms(0), ms(10_000));
        let mut working = Working::new(Backend::new(ms(1)).fault(warming), 0);
        let mut served = [0; 10];
        for at in 0..20_000 {
            let is_served = matches!(working.plan(Duration::from_micros(500 * at)), Plan::Served(_));
            served[at as usize / 2000] += usize::from(is_served);
        }
        for (second, served) in served.into_iter().enumerate() {
            let expected = 240 + 80 * second;
            assert!(served.abs_diff(expected) <= 12, "{served} of {expected}");
        }
    }

    #[test]
    fn no_capacity_serves_nobody() {
        for capacity in [0.0, -1.0, f64::NAN] {
            let mut working = Working::new(Backend::new(ms(1)).fault(Fault::overload(capacity)), 0);
            assert!((0..100).all(|at| working.plan(ms(at)) == Plan::Refused(ms(at))), "{capacity}");
        }
    }

    #[test]
    fn a_share_of_the_calls_fails_and_the_last_fault_counts() {
        let backend = Backend::new(ms(5)).fault(Fault::hang()).fault(Fault::share(0.5, ms(1)));
        let mut working = Working::new(backend, 3);
        let failed = (0..10_000).filter(|at| working.plan(ms(*at)) == Plan::Refused(ms(*at + 1))).count();
        assert!((4800..5200).contains(&failed), "{failed}");
    }
}
