//! A circuit as one would write it who has all the time in the world: lists of what happened and when, which nothing is ever
//! forgotten of but when the circuit closes.

use std::time::Duration;

use buttress::backoff::{Backoff, Jitter};
use buttress::circuit_breaker::{
    CallResult, Cancellation, CircuitConfig, Consecutive, Ramp, Share, SlowCalls, State, Throttle, Window,
};

pub(crate) const WAITS: [u64; 2] = [500, 2000];
pub(crate) const LEASE: u64 = 1000;
pub(crate) const PROBES: u32 = 2;
const RAMP: u64 = 700;
const SLOW: u64 = 60;
const MINIMUM: usize = 5;
const ROW: (usize, u64) = (3, 300);
const K: f64 = 1.5;
/// A throttle is computed anew no more often.
const THROTTLE_EVERY: u64 = 5;
/// Somebody looks for stuck calls so often; the first time it is not known yet what is slow.
const LOOKS: [u64; 2] = [250 / 8, SLOW / 8];
/// Who has not looked for longer says nothing.
const GAP: u64 = SLOW / 2;
/// What is under way for as long is meant to.
const ESTABLISHED: u64 = 10_000;

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the property is about: everything that changes a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) window: Kept,
    pub(crate) cancellation: Cancellation,
    /// The percentage that it begins with.
    pub(crate) ramp: Option<u32>,
    pub(crate) strict: bool,
    pub(crate) stuck: bool,
    pub(crate) throttle: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    Count { calls: usize, within: u64 },
    Time { bucket: u64, buckets: u64 },
}

impl Settings {
    pub(crate) fn config(self) -> CircuitConfig {
        let window = match self.window {
            Kept::Count { calls, within } => Window::count(calls as u32, millis(within)),
            Kept::Time { bucket, buckets } => Window::time(millis(bucket * buckets), buckets as u32),
        };
        let waits = Backoff::exponential(millis(WAITS[0]), 2.0, millis(WAITS[1])).expect("they grow");
        CircuitConfig::default()
            .window(window.expect("within bounds"))
            .strictly_above(self.strict)
            .minimum_calls(MINIMUM as u32)
            .slow_calls(SlowCalls { threshold: millis(SLOW), rate: Share::percent(80) })
            .consecutive_failures(Consecutive { count: ROW.0 as u32, over: millis(ROW.1) })
            .open_for(waits.jitter(Jitter::None))
            .probes(PROBES)
            .probe_lease(millis(LEASE))
            .ramp(self.ramp.map(|from| Ramp { from: Share::percent(from), over: millis(RAMP) }))
            .cancellation(self.cancellation)
            .stuck_calls(self.stuck)
            .throttle(self.throttle.then_some(Throttle { k: K }))
    }

    /// The percentage of failures that it opens at.
    fn opens_at(self) -> usize {
        if self.throttle { 95 } else { 50 }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    settings: Settings,
    pub(crate) now: u64,
    mode: Mode,
    /// Counts whatever makes earlier calls stale.
    pub(crate) era: u64,
    opened: u32,
    /// Until when it rejects nothing.
    observes_until: Option<u64>,
    /// Everything that counts since the circuit was closed last: when, failed, slow.
    outcomes: Vec<(u64, bool, bool)>,
    /// What the throttle looks at: when, accepted.
    asked: Vec<(u64, bool)>,
    held_back: f64,
    throttle_due: u64,
    /// Calls that began and calls that ended since the circuit was closed last.
    begun: usize,
    ended: usize,
    /// When somebody looked for stuck calls, and how many had begun by then.
    looks: Vec<(u64, usize)>,
    look_due: u64,
    has_looked: bool,
    /// What was under way at the last two turns, and when the next is.
    established: [usize; 2],
    turn: u64,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Closed { ramp_until: Option<u64>, throttled: bool },
    Open { until: u64 },
    HalfOpen { succeeded: u32, lease_until: Option<u64> },
    Forced { state: State, until: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    Counted,
    Probe,
    Unwatched,
    LetThrough,
}

/// The role of a call, or how long it is to wait.
pub(crate) type Admission = Result<Role, u64>;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expected {
    Surely(Admission),
    /// It is counted by this chance, and else comes to that.
    Perhaps(f64, Admission),
}

impl Model {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            mode: Mode::Closed { ramp_until: None, throttled: false },
            era: 0,
            opened: 0,
            observes_until: None,
            outcomes: Vec::new(),
            asked: Vec::new(),
            held_back: 0.0,
            throttle_due: 0,
            begun: 0,
            ended: 0,
            looks: Vec::new(),
            look_due: 0,
            has_looked: false,
            established: [0; 2],
            turn: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.mode {
            Mode::Closed { .. } => State::Closed,
            Mode::Open { .. } => State::Open,
            Mode::HalfOpen { .. } => State::HalfOpen,
            Mode::Forced { state, .. } => state,
        }
    }

    pub(crate) fn is_ramping(&self) -> bool {
        matches!(self.mode, Mode::Closed { ramp_until: Some(_), .. })
    }

    fn close(&mut self, gently: bool) {
        self.era += 1;
        self.outcomes.clear();
        self.asked.clear();
        self.looks.clear();
        (self.begun, self.ended, self.established) = (0, 0, [0; 2]);
        self.turn = self.now + ESTABLISHED;
        let ramp_until = (gently && self.settings.ramp.is_some()).then_some(self.now + RAMP);
        if ramp_until.is_none() {
            self.opened = 0;
        }
        self.mode = Mode::Closed { ramp_until, throttled: false };
    }

    fn open(&mut self, from: u64, hint: Option<u64>) {
        let wait = match hint {
            Some(hint) => hint.clamp(WAITS[0], WAITS[1]),
            None => (WAITS[0] << self.opened.min(10)).min(WAITS[1]),
        };
        self.era += 1;
        self.opened += 1;
        self.mode = Mode::Open { until: from + wait };
    }

    pub(crate) fn force(&mut self, state: State, lasts: Option<u64>) {
        self.era += 1;
        self.mode = Mode::Forced { state, until: lasts.map(|lasts| self.now + lasts) };
    }

    pub(crate) fn release(&mut self) {
        self.settle();
        match self.mode {
            Mode::Forced { state, .. } => self.close(state == State::ForcedOpen),
            _ => self.observes_until = None,
        }
    }

    /// For ever, or for so long; for a moment at least where the clock has only begun.
    pub(crate) fn observe(&mut self, lasts: Option<u64>) {
        self.observes_until = Some(lasts.map_or(u64::MAX, |lasts| (self.now + lasts).max(1)));
    }

    pub(crate) fn observes(&self) -> bool {
        self.observes_until.is_some_and(|until| self.now < until)
    }

    pub(crate) fn reset(&mut self) {
        self.close(false);
    }

    pub(crate) fn export_and_import(&mut self) {
        self.settle();
        self.era += 1;
        match &mut self.mode {
            Mode::Closed { .. } => self.close(false),
            Mode::Open { until } => *until = (*until).clamp(self.now, self.now + WAITS[1]),
            Mode::HalfOpen { .. } => self.mode = Mode::Open { until: self.now },
            Mode::Forced { .. } => {}
        }
    }

    /// What time alone does.
    pub(crate) fn settle(&mut self) {
        match self.mode {
            Mode::HalfOpen { lease_until: Some(until), .. } if self.now >= until => self.open(until, None),
            Mode::Closed { ramp_until: Some(until), .. } if self.now >= until => {
                self.opened = 0;
                self.mode = Mode::Closed { ramp_until: None, throttled: false };
            }
            Mode::Forced { state, until: Some(until) } if self.now >= until => self.close(state == State::ForcedOpen),
            _ => {}
        }
    }

    pub(crate) fn admit(&mut self) -> Expected {
        // Whoever comes looks, before anything else and after what has become of it.
        self.look();
        self.settle();
        self.look();
        let refuse = |wait| if self.observes() { Ok(Role::LetThrough) } else { Err(wait) };
        match self.mode {
            Mode::Closed { ramp_until: Some(until), .. } => {
                let from = f64::from(self.settings.ramp.unwrap_or(100)) / 100.0;
                let passed = 1.0 - (until - self.now) as f64 / RAMP as f64;
                Expected::Perhaps(from + (1.0 - from) * passed, refuse((until - self.now).min(1000)))
            }
            Mode::Closed { throttled: true, .. } => {
                let rejected = refuse(1000);
                self.throttle();
                Expected::Perhaps(1.0 - self.held_back, rejected)
            }
            Mode::Closed { .. } => Expected::Surely(Ok(Role::Counted)),
            Mode::Forced { state: State::ForcedOpen, until } => {
                Expected::Surely(Err(until.map_or(1000, |until| until - self.now)))
            }
            Mode::Forced { .. } => Expected::Surely(Ok(Role::Unwatched)),
            Mode::Open { until } if self.now < until => Expected::Surely(refuse(until - self.now)),
            Mode::HalfOpen { lease_until: Some(until), .. } => Expected::Surely(refuse((until - self.now).min(1000))),
            Mode::Open { .. } | Mode::HalfOpen { .. } => {
                let succeeded = if let Mode::HalfOpen { succeeded, .. } = self.mode { succeeded } else { 0 };
                self.era += 1;
                self.mode = Mode::HalfOpen { succeeded, lease_until: Some(self.now + LEASE) };
                Expected::Surely(Ok(Role::Probe))
            }
        }
    }

    /// What became of the call.
    pub(crate) fn admitted(&mut self, expected: Expected, admission: Admission) {
        match (expected, admission) {
            (_, Ok(Role::Counted)) => self.begun += 1,
            (Expected::Perhaps(..), _) if !self.is_ramping() => {
                self.asked.push((self.now, false));
            }
            _ => {}
        }
    }

    pub(crate) fn finish(&mut self, role: Role, era: u64, start: u64, result: CallResult) {
        let is_slow = self.now - start >= SLOW;
        let (failed, hint) = match result {
            CallResult::Failed { retry_after } => (true, retry_after.map(|hint| hint.as_millis() as u64)),
            CallResult::Cancelled => match self.settings.cancellation {
                Cancellation::Failure => (true, None),
                Cancellation::FailureIfSlow => (is_slow, None),
                _ => (false, None),
            },
            _ => (false, None),
        };
        let says_nothing = !failed && result != CallResult::Ok;
        if matches!(role, Role::Unwatched | Role::LetThrough) || era != self.era {
            return;
        }
        if let (Role::Probe, Mode::HalfOpen { succeeded, lease_until: Some(until) }) = (role, self.mode) {
            if self.now >= until {
                return self.open(until, hint);
            }
            return match (says_nothing, failed || is_slow) {
                (true, _) => self.mode = Mode::HalfOpen { succeeded, lease_until: None },
                (_, true) => self.open(self.now, hint),
                _ if succeeded + 1 == PROBES => self.close(true),
                _ => self.mode = Mode::HalfOpen { succeeded: succeeded + 1, lease_until: None },
            };
        }
        self.ended += 1;
        if !says_nothing || result == CallResult::Ignored {
            self.asked.push((self.now, !failed));
        }
        if says_nothing {
            return;
        }
        self.outcomes.push((self.now, failed, is_slow));
        if failed || is_slow {
            if self.is_enough() { self.open(self.now, hint) } else { self.throttle() }
        }
    }

    /// All, failed and slow calls in the window.
    pub(crate) fn window(&self) -> (usize, usize, usize) {
        let age = |at: u64, part: u64| self.now / part - at / part;
        let seen: Vec<_> = match self.settings.window {
            Kept::Time { bucket, buckets } => {
                self.outcomes.iter().filter(|(at, ..)| age(*at, bucket) < buckets).collect()
            }
            Kept::Count { calls, within } => {
                let is_young = |(at, failed, slow): &&(u64, bool, bool)| {
                    // Good calls are told apart by sixteenths.
                    if *failed || *slow { self.now - at < within } else { age(*at, within / 16) < 16 }
                };
                self.outcomes.iter().rev().take(calls).filter(is_young).collect()
            }
        };
        let count = |is: fn(&(u64, bool, bool)) -> bool| seen.iter().filter(|outcome| is(outcome)).count();
        (seen.len(), count(|(_, failed, _)| *failed), count(|(_, _, slow)| *slow))
    }

    fn is_enough(&self) -> bool {
        let (calls, failed, slow) = self.window();
        if calls >= MINIMUM {
            let reached = |part: usize, percent: usize| {
                let (part, bound) = (part * 100, calls * percent);
                if self.settings.strict { part > bound } else { part >= bound }
            };
            return reached(failed, self.settings.opens_at()) || reached(slow, 80);
        }
        let remembered = match self.settings.window {
            Kept::Count { calls, .. } => calls.max(ROW.0),
            Kept::Time { .. } => ROW.0,
        };
        let row: Vec<u64> = self
            .outcomes
            .iter()
            .rev()
            .take_while(|(_, failed, _)| *failed)
            .map(|(at, ..)| *at)
            .take(remembered)
            .collect();
        row.len() >= ROW.0 && row[0] - row[row.len() - 1] >= ROW.1
    }

    /// What was asked for and what was accepted, in whole parts of the window: as many of the newest as there are calls in it.
    fn demand(&self) -> (usize, usize) {
        let (part, parts, enough) = match self.settings.window {
            Kept::Time { bucket, buckets } => (bucket, buckets, usize::MAX),
            Kept::Count { calls, within } => (within / 16, 16, calls),
        };
        let mut seen = Vec::new();
        for age in 0..parts {
            seen.extend(self.asked.iter().filter(|(at, _)| self.now / part - at / part == age));
            if seen.len() >= enough {
                break;
            }
        }
        (seen.len(), seen.iter().filter(|(_, accepted)| *accepted).count())
    }

    fn throttle(&mut self) {
        if !self.settings.throttle || self.now < self.throttle_due {
            return;
        }
        self.throttle_due = self.now + THROTTLE_EVERY;
        let (requests, accepts) = self.demand();
        self.held_back = ((requests as f64 - K * accepts as f64) / (requests as f64 + 1.0)).clamp(0.0, 0.9);
        if let Mode::Closed { ramp_until: None, throttled } = &mut self.mode {
            *throttled = self.held_back > 0.0;
        }
    }

    /// Calls that began before what is slow now, less all that ended and all that were meant to last, are stuck.
    fn look(&mut self) {
        if !self.settings.stuck || self.state() != State::Closed || self.now < self.look_due {
            return;
        }
        self.look_due = self.now + LOOKS[usize::from(self.has_looked)];
        self.has_looked = true;
        if self.looks.last().is_some_and(|(last, _)| self.now - last > GAP) {
            self.looks.clear();
        }
        if self.now >= self.turn {
            self.established = [self.established[1], self.begun - self.ended];
            self.turn = self.now + ESTABLISHED;
        }
        self.looks.push((self.now, self.begun));
        let Some((_, old)) = self.looks.iter().rev().find(|(at, _)| self.now - at >= SLOW) else { return };
        if old.saturating_sub(self.ended).saturating_sub(self.established[0]) >= MINIMUM {
            self.open(self.now, None);
        }
    }
}
