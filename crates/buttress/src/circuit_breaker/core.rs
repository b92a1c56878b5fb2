//! A circuit's word and all that belongs to it: admission, outcomes, and the step from one state to the next.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use super::config::{Cancellation, CircuitConfig};
use super::decide;
use super::log::Log;
use super::observe_only::Until;
use super::outcomes::{Kind, Outcomes, Total};
use super::permit::{CallResult, RejectedBecause};
use super::state::{self, NEVER, Phase, Rules, Status, Step, Verdict};
use super::stuck::{self, Stuck};
use super::transition::{Reason, State, Transition};
use crate::clock::Instant;
use crate::random;
use crate::shard::Shard;
use crate::signal::{Signal, Signals};

/// The throttle is computed anew no more often than this, in milliseconds.
const THROTTLE_EVERY: u64 = 5;
/// Calls that have to be known before their durations say what is slow; and what is until then.
const ENOUGH_SAMPLES: usize = 20;
const SLOW_AT_FIRST: Duration = Duration::from_millis(100);

pub(super) struct Core {
    hot: Hot,
    pub(super) name: Arc<str>,
    pub(super) key: Option<Arc<str>>,
    pub(super) config: CircuitConfig,
    rules: Rules,
    /// From when on a call is slow, in microseconds.
    slow_from: u64,
    /// Where the time of this circuit starts.
    origin: Instant,
    pub(super) outcomes: Outcomes,
    /// Since when it is in its state.
    since: AtomicU64,
    /// How often it opened since it was last closed for good.
    reopened: AtomicU32,
    pub(super) observes_until: Until,
    /// The share that the throttle holds back, as the bits of a float; and when to compute it anew.
    held_back: AtomicU64,
    throttle_due: AtomicU64,
    /// What counted as slow at the last look for stuck calls.
    slow: AtomicU64,
    stuck: Mutex<Stuck>,
    log: Mutex<Log>,
    pub(super) watchers: OnceLock<Signals>,
}

/// What every admission reads; away from what failures write.
#[repr(align(128))]
struct Hot {
    word: AtomicU64,
    /// When to look for stuck calls, in microseconds: as admission has the time.
    due: AtomicU64,
}

/// How a call was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its outcome counts.
    Counted,
    /// Its outcome decides.
    Probe,
    /// Whatever comes of it: by hand.
    Unwatched,
    /// It would have been rejected.
    LetThrough,
}

/// What admission says: a role in a generation, or how long to wait.
pub(super) type Admission = Result<(Role, u32), (u64, RejectedBecause)>;

impl Core {
    pub(super) fn new(name: Arc<str>, key: Option<Arc<str>>, config: CircuitConfig, origin: Instant) -> Self {
        let rules = Rules { probes: config.probes_needed(), lease: to_millis(config.lease()), ramp: config.ramp };
        let due = if config.stuck_calls { 0 } else { u64::MAX };
        Self {
            hot: Hot { word: AtomicU64::new(Status::NEW.pack()), due: AtomicU64::new(due) },
            name,
            key,
            rules,
            slow_from: config.slow_calls.map_or(u64::MAX, |slow| to_micros(slow.threshold)),
            origin,
            outcomes: Outcomes::new(&config),
            since: AtomicU64::new(0),
            reopened: AtomicU32::new(0),
            observes_until: Until::new(config.observe_only),
            held_back: AtomicU64::new(0),
            throttle_due: AtomicU64::new(0),
            slow: AtomicU64::new(stuck::slow(None)),
            stuck: Mutex::default(),
            log: Mutex::default(),
            watchers: OnceLock::new(),
            config,
        }
    }

    /// Milliseconds since this circuit was made; none for a time before.
    #[inline]
    pub(super) fn millis(&self, at: Instant) -> u64 {
        self.micros(at) / 1000
    }

    /// The same in microseconds.
    #[inline]
    pub(super) fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        // The end of time comes before any overflow.
        since.as_secs().min(NEVER / 1000 - 1) * 1_000_000 + u64::from(since.subsec_micros())
    }

    /// The instant so many microseconds after this circuit was made.
    pub(super) fn at(&self, micros: u64) -> Instant {
        self.origin + Duration::from_micros(micros)
    }

    pub(super) fn since(&self) -> Instant {
        self.at(1000 * self.since.load(Ordering::Acquire))
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation of a call that passes as most do; `None` where it takes a [closer look](Self::admit_with_care).
    #[inline]
    pub(super) fn admit(&self, shard: Shard, micros: u64) -> Option<u32> {
        let word = self.hot.word.load(Ordering::Acquire);
        if state::is_plainly_closed(word) && micros < self.hot.due.load(Ordering::Relaxed) {
            self.outcomes.add(shard, Total::Started);
            return Some(state::generation(word));
        }
        None
    }

    /// Any call.
    #[cold]
    pub(super) fn admit_with_care(&self, shard: Shard, now: u64) -> Admission {
        loop {
            let word = self.hot.word.load(Ordering::Acquire);
            let status = Status::unpack(word);
            if status.phase.is_closed() && self.is_stuck(status.generation, now) {
                continue;
            }
            let passes = match status.admit(now, &self.rules, || self.wait(None)) {
                Step::Pass => true,
                Step::Chance(chance) => random::unit() < chance,
                Step::Throttle => {
                    self.throttle(now);
                    let passes = random::unit() >= f64::from_bits(self.held_back.load(Ordering::Relaxed));
                    if !passes {
                        self.outcomes.refused(shard, now);
                    }
                    passes
                }
                Step::Become(next) => {
                    self.shift(word, next, settled(status), now);
                    continue;
                }
                Step::Probe(next) => {
                    if !self.shift(word, next, Reason::WaitOver, now) {
                        continue;
                    }
                    self.outcomes.add(shard, Total::Probes);
                    return Ok((Role::Probe, next.generation));
                }
                Step::Reject(wait) => return self.refuse(shard, status, wait, now),
            };
            return match passes {
                false => self.refuse(shard, status, self.soon(status, now), now),
                true if status.phase.is_closed() => {
                    self.outcomes.add(shard, Total::Started);
                    Ok((Role::Counted, status.generation))
                }
                true => {
                    self.outcomes.add(shard, Total::Passed);
                    Ok((Role::Unwatched, status.generation))
                }
            };
        }
    }

    fn refuse(&self, shard: Shard, status: Status, wait: u64, now: u64) -> Admission {
        let because = match status.phase {
            Phase::Open => RejectedBecause::Open,
            Phase::HalfOpen => RejectedBecause::Probing,
            Phase::Ramping => RejectedBecause::Ramping,
            Phase::ForcedOpen => RejectedBecause::Forced,
            _ => RejectedBecause::Throttled,
        };
        // What was done by hand is meant.
        if because != RejectedBecause::Forced && self.observes(now) {
            self.outcomes.add(shard, Total::WouldRefuse);
            self.outcomes.add(shard, Total::Passed);
            return Ok((Role::LetThrough, status.generation));
        }
        self.outcomes.add(shard, Total::Refused);
        Err((wait, because))
    }

    /// When a call that lost the toss may come again: it may win the next.
    fn soon(&self, status: Status, now: u64) -> u64 {
        let over = self.rules.ramp.map_or(0, |ramp| to_millis(ramp.over));
        match status.phase {
            Phase::Ramping => (status.time + over).saturating_sub(now).clamp(1, 1000),
            _ => 1000,
        }
    }

    /// The only way an outcome is reported; once for each admission. Times are microseconds.
    #[inline]
    pub(super) fn report(&self, (role, generation): (Role, u32), result: CallResult, start: u64, now: u64) {
        let shard = Shard::mine();
        let (micros, now) = (now.saturating_sub(start), now / 1000);
        let word = self.hot.word.load(Ordering::Acquire);
        let is_counted = role == Role::Counted && state::generation(word) == generation;
        if is_counted && matches!(result, CallResult::Ok) && micros < self.slow_from {
            return self.outcomes.ok(shard, now, micros);
        }
        self.report_with_care(shard, (role, generation), result, micros, now);
    }

    #[cold]
    fn report_with_care(
        &self,
        shard: Shard,
        (role, generation): (Role, u32),
        result: CallResult,
        micros: u64,
        now: u64,
    ) {
        let (took, is_slow) = (Duration::from_micros(micros), micros >= self.slow_from);
        let (kind, hint) = match result {
            CallResult::Ok if is_slow => (Kind::Slow, None),
            CallResult::Ok => (Kind::Ok, None),
            CallResult::Failed { retry_after } => (if is_slow { Kind::FailedSlow } else { Kind::Failed }, retry_after),
            CallResult::Ignored => (Kind::Ignored, None),
            CallResult::Cancelled => (Kind::Cancelled, None),
            CallResult::Rejected => (Kind::Rejected, None),
        };
        let status = Status::unpack(self.hot.word.load(Ordering::Acquire));
        match role {
            Role::Unwatched | Role::LetThrough => self.outcomes.add(shard, Total::Other(kind)),
            _ if status.generation != generation => self.outcomes.add(shard, Total::Stale),
            Role::Probe => {
                self.outcomes.add(shard, Total::Other(kind));
                self.probed(generation, self.verdict(kind, took), hint, now);
            }
            Role::Counted => self.count(shard, generation, kind, took, hint, now),
        }
    }

    fn count(&self, shard: Shard, generation: u32, kind: Kind, took: Duration, hint: Option<Duration>, now: u64) {
        let bad = match kind {
            Kind::Ok => return self.outcomes.ok(shard, now, took.as_micros() as u64),
            Kind::Failed | Kind::Slow | Kind::FailedSlow => Some(kind),
            Kind::Cancelled if self.verdict(kind, took) == Verdict::Failure => {
                let is_slow = self.config.slow_calls.is_some_and(|slow| took >= slow.threshold);
                Some(if is_slow { Kind::FailedSlow } else { Kind::Failed })
            }
            Kind::Cancelled | Kind::Ignored | Kind::Rejected => None,
        };
        self.outcomes.add(shard, Total::Counted(kind));
        let Some(bad) = bad else {
            if kind == Kind::Ignored {
                self.outcomes.ignored(shard, now);
            }
            return;
        };
        self.outcomes.bad(shard, bad, now);
        match decide::trip(&self.config, &self.outcomes.read(now)) {
            Some(reason) => self.trip(generation, reason, hint, now),
            None => self.throttle(now),
        }
    }

    /// What an outcome says about the other side.
    fn verdict(&self, kind: Kind, took: Duration) -> Verdict {
        match kind {
            Kind::Ok => Verdict::Success,
            Kind::Failed | Kind::Slow | Kind::FailedSlow => Verdict::Failure,
            Kind::Ignored | Kind::Rejected => Verdict::Nothing,
            Kind::Cancelled => match self.config.cancellation {
                Cancellation::Failure => Verdict::Failure,
                Cancellation::FailureIfSlow if took >= self.usual() => Verdict::Failure,
                _ => Verdict::Nothing,
            },
        }
    }

    /// What calls take at most that are not slow.
    fn usual(&self) -> Duration {
        if let Some(slow) = self.config.slow_calls {
            return slow.threshold;
        }
        let known = self.outcomes.p95().filter(|(_, samples)| *samples >= ENOUGH_SAMPLES);
        known.map_or(SLOW_AT_FIRST, |(micros, _)| Duration::from_micros(micros))
    }

    fn trip(&self, generation: u32, reason: Reason, hint: Option<Duration>, now: u64) {
        let until = now + self.wait(hint);
        loop {
            let word = self.hot.word.load(Ordering::Acquire);
            let Some(next) = Status::unpack(word).trip(generation, until) else { return };
            if self.shift(word, next, reason.clone(), now) {
                return;
            }
        }
    }

    fn probed(&self, generation: u32, verdict: Verdict, hint: Option<Duration>, now: u64) {
        loop {
            let word = self.hot.word.load(Ordering::Acquire);
            let status = Status::unpack(word);
            let wait = || self.wait(hint);
            let Some(next) = status.probed(generation, verdict, now, &self.rules, wait) else { return };
            let reason = if next.phase == Phase::Open { Reason::ProbeFailed } else { Reason::ProbesSucceeded };
            if self.shift(word, next, reason, now) {
                return;
            }
        }
    }

    /// How long to stay open.
    fn wait(&self, hint: Option<Duration>) -> u64 {
        let waits = &self.config.open_for;
        let wait = match hint {
            Some(hint) => hint.clamp(waits.initial(), waits.max()),
            None => waits.delay(self.reopened.load(Ordering::Acquire)),
        };
        to_millis(wait).max(1)
    }

    /// Computes anew how much to hold back, unless that was done just now.
    fn throttle(&self, now: u64) {
        let Some(throttle) = self.config.throttle else { return };
        let due = self.throttle_due.load(Ordering::Relaxed);
        let claims = |next| self.throttle_due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if now < due || claims(now + THROTTLE_EVERY).is_err() {
            return;
        }
        let share = decide::hold_back(throttle, self.outcomes.demand(now));
        self.held_back.store(share.to_bits(), Ordering::Relaxed);
        let word = self.hot.word.load(Ordering::Acquire);
        if let Some(next) = Status::unpack(word).throttle(share > 0.0) {
            // Whoever was faster knows something more important.
            let _ = self.hot.word.compare_exchange(word, next.pack(), Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Looks for stuck calls if it is time to; true if there were, and the circuit is open now.
    fn is_stuck(&self, generation: u32, now: u64) -> bool {
        let due = self.hot.due.load(Ordering::Relaxed);
        let next = 1000 * (now + stuck::period(self.slow.load(Ordering::Relaxed)));
        let claims = || self.hot.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if 1000 * now < due || !claims() {
            return false;
        }
        let usual = self.outcomes.p95().filter(|(_, samples)| *samples >= ENOUGH_SAMPLES);
        let slow = match self.config.slow_calls {
            Some(slow) => to_millis(slow.threshold).max(1),
            None => stuck::slow(usual.map(|(micros, _)| micros)),
        };
        self.slow.store(slow, Ordering::Relaxed);
        let (started, ended) = self.under_way();
        // Whoever is at it looks for all: no call waits for another.
        let Some(mut history) = self.try_stuck() else { return false };
        let stuck = history.look(now, started, ended, slow);
        drop(history);
        // Nobody knows what is long where none has ended.
        let is_known = usual.is_some() || self.config.slow_calls.is_some();
        if !is_known || stuck < self.config.minimum() {
            return false;
        }
        self.trip(generation, Reason::StuckCalls(stuck), None, now);
        true
    }

    /// Calls whose outcomes count, that started and that ended.
    fn under_way(&self) -> (u64, u64) {
        let ended = Kind::ALL.map(|kind| self.outcomes.total(Total::Counted(kind))).iter().sum();
        (self.outcomes.total(Total::Started), ended)
    }

    fn try_stuck(&self) -> Option<MutexGuard<'_, Stuck>> {
        match self.stuck.try_lock() {
            Ok(stuck) => Some(stuck),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn stuck(&self) -> MutexGuard<'_, Stuck> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status, after whatever time alone has changed.
    pub(super) fn settled(&self, now: u64) -> Status {
        loop {
            let word = self.hot.word.load(Ordering::Acquire);
            let status = Status::unpack(word);
            let Some(next) = status.settle(now, &self.rules, || self.wait(None)) else { return status };
            self.shift(word, next, settled(status), now);
        }
    }

    /// Changes the status by hand, whatever it is; false if there was nothing to change.
    pub(super) fn change(&self, now: u64, reason: &Reason, next: impl Fn(Status, &Rules) -> Option<Status>) -> bool {
        loop {
            let word = self.hot.word.load(Ordering::Acquire);
            let Some(next) = next(Status::unpack(word), &self.rules) else { return false };
            if self.shift(word, next, reason.clone(), now) {
                return true;
            }
        }
    }

    pub(super) fn reopened(&self) -> u32 {
        self.reopened.load(Ordering::Acquire)
    }

    pub(super) fn set_reopened(&self, times: u32) {
        self.reopened.store(times, Ordering::Release);
    }

    /// From one word to the next; false if somebody else was faster.
    fn shift(&self, word: u64, next: Status, reason: Reason, now: u64) -> bool {
        let status = Status::unpack(word);
        // Before anybody counts anything in the new state. Nobody looks at the window of the old.
        if next.phase.is_closed() && next.generation != status.generation {
            self.outcomes.restart();
            let (started, ended) = self.under_way();
            self.stuck().restart(now, started, ended);
        }
        if self.hot.word.compare_exchange(word, next.pack(), Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        match next.phase {
            Phase::Closed => self.set_reopened(0),
            Phase::Open => self.set_reopened(self.reopened().saturating_add(1)),
            _ => {}
        }
        let (from, to) = (status.phase.state(), next.phase.state());
        if from != to || matches!(reason, Reason::Reset(_)) {
            self.tell(from, to, reason, now);
        }
        true
    }

    #[cold]
    fn tell(&self, from: State, to: State, reason: Reason, now: u64) {
        let before = self.since.swap(now, Ordering::AcqRel);
        let mut log = self.log();
        log.enter(to, &reason);
        self.send(log, self.transition((from, to), reason, before, now), now);
    }

    /// What happened to it and leaves it in its state.
    #[cold]
    pub(super) fn tell_of(&self, log: MutexGuard<'_, Log>, state: State, reason: Reason, now: u64) {
        let since = self.since.load(Ordering::Acquire);
        self.send(log, self.transition((state, state), reason, since, now), now);
    }

    fn transition(&self, (from, to): (State, State), reason: Reason, since: u64, now: u64) -> Transition {
        let after = Duration::from_millis(now.saturating_sub(since));
        Transition { name: self.name.clone(), key: self.key.clone(), from, to, reason, after }
    }

    fn send(&self, mut log: MutexGuard<'_, Log>, transition: Transition, now: u64) {
        log.push(now, transition.clone());
        let signals = log.signals.clone();
        drop(log);
        // Nobody is called while anything is locked.
        for listeners in signals.iter().chain(self.watchers.get()) {
            listeners.send(Signal::Circuit(transition.clone()));
        }
    }
}

/// Why time alone changed a status.
fn settled(status: Status) -> Reason {
    if status.phase.is_forced() { Reason::ForceExpired } else { Reason::ProbeFailed }
}

pub(super) fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER).min(NEVER)
}

/// Rounded up: what takes as long as the duration takes as many.
fn to_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}
