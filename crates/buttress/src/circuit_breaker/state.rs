//! The state machine: one word, and functions from a word to the next. It knows no atomics, no async and no clock.
//!
//! Times are milliseconds since the circuit was made.

use super::config::Ramp;
use super::transition::State;

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) phase: Phase,
    /// Half-open: probes that succeeded.
    pub(super) succeeded: u8,
    /// Half-open: a probe is under way.
    pub(super) probing: bool,
    /// Counts up whenever the outcomes of earlier calls stop to matter. A call has that of its admission.
    pub(super) generation: u32,
    /// Open: the end of the wait. Half-open with a probe: the end of its lease. Ramping: the start. Forced: the end,
    /// or [`NEVER`].
    pub(super) time: u64,
}

/// The phases; more than there are [`State`]s, so that whether a call has to be looked at takes one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Every call passes.
    Closed,
    /// Closed, a growing share passes.
    Ramping,
    /// Closed, a share passes.
    Throttled,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
    Disabled,
}

const PHASES: [Phase; 8] = [
    Phase::Closed,
    Phase::Ramping,
    Phase::Throttled,
    Phase::Open,
    Phase::HalfOpen,
    Phase::ForcedOpen,
    Phase::ForcedClosed,
    Phase::Disabled,
];

const TIME_BITS: u32 = 38;
const GENERATION_BITS: u32 = 18;
const GENERATION_AT: u32 = TIME_BITS;
const PROBING_AT: u32 = GENERATION_AT + GENERATION_BITS;
const SUCCEEDED_AT: u32 = PROBING_AT + 1;
const PHASE_AT: u32 = SUCCEEDED_AT + 4;

/// The end of time: eight years.
pub(super) const NEVER: u64 = (1 << TIME_BITS) - 1;
const GENERATIONS: u32 = (1 << GENERATION_BITS) - 1;

/// A caller is told to come again after no more than this when nobody knows how long it will take.
const SOON: u64 = 1000;

/// What the machine is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Probes that have to succeed.
    pub(super) probes: u8,
    pub(super) lease: u64,
    pub(super) ramp: Option<Ramp>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    Pass,
    /// Passes with this chance.
    Chance(f64),
    /// Passes with the chance that the throttle leaves.
    Throttle,
    /// Passes as a probe, once the word is this.
    Probe(Status),
    /// The word is to be this first; then ask again.
    Become(Status),
    /// Rejected; come again after so many milliseconds.
    Reject(u64),
}

/// What a probe found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
    Nothing,
}

impl Phase {
    /// Whether outcomes are counted in the window.
    pub(super) fn is_closed(self) -> bool {
        matches!(self, Self::Closed | Self::Ramping | Self::Throttled)
    }

    pub(super) fn is_forced(self) -> bool {
        matches!(self, Self::ForcedOpen | Self::ForcedClosed | Self::Disabled)
    }

    pub(super) fn state(self) -> State {
        match self {
            Self::Closed | Self::Ramping | Self::Throttled => State::Closed,
            Self::Open => State::Open,
            Self::HalfOpen => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
            Self::Disabled => State::Disabled,
        }
    }
}

/// Whether every call passes and none has to be looked at.
#[inline]
pub(super) fn is_plainly_closed(word: u64) -> bool {
    word >> PHASE_AT == Phase::Closed as u64
}

#[inline]
pub(super) fn generation(word: u64) -> u32 {
    (word >> GENERATION_AT) as u32 & GENERATIONS
}

impl Status {
    pub(super) const NEW: Self = Self { phase: Phase::Closed, succeeded: 0, probing: false, generation: 0, time: 0 };

    pub(super) fn pack(self) -> u64 {
        let Self { phase, succeeded, probing, generation, time } = self;
        u64::from(phase as u8) << PHASE_AT
            | u64::from(succeeded & 0xf) << SUCCEEDED_AT
            | u64::from(probing) << PROBING_AT
            | u64::from(generation & GENERATIONS) << GENERATION_AT
            | time.min(NEVER)
    }

    pub(super) fn unpack(word: u64) -> Self {
        Self {
            phase: PHASES[(word >> PHASE_AT) as usize],
            succeeded: (word >> SUCCEEDED_AT) as u8 & 0xf,
            probing: word >> PROBING_AT & 1 == 1,
            generation: generation(word),
            time: word & NEVER,
        }
    }

    /// What becomes of a call that comes now. `wait` is asked only when the circuit opens again.
    pub(super) fn admit(self, now: u64, rules: &Rules, wait: impl FnOnce() -> u64) -> Step {
        if let Some(next) = self.settle(now, rules, wait) {
            return Step::Become(next);
        }
        match self.phase {
            Phase::Closed | Phase::ForcedClosed | Phase::Disabled => Step::Pass,
            Phase::Ramping => Step::Chance(self.ramped(now, rules).unwrap_or(1.0)),
            Phase::Throttled => Step::Throttle,
            Phase::Open if now < self.time => Step::Reject(self.time - now),
            Phase::Open => Step::Probe(self.probe(0, now, rules)),
            Phase::HalfOpen if self.probing => Step::Reject((self.time - now).min(SOON)),
            Phase::HalfOpen => Step::Probe(self.probe(self.succeeded, now, rules)),
            Phase::ForcedOpen if self.time == NEVER => Step::Reject(SOON),
            Phase::ForcedOpen => Step::Reject(self.time - now),
        }
    }

    /// What time alone has changed: a lease, a ramp, or what was done by hand is over.
    pub(super) fn settle(self, now: u64, rules: &Rules, wait: impl FnOnce() -> u64) -> Option<Self> {
        match self.phase {
            // The wait counts from when the probe had failed, whenever somebody notices.
            Phase::HalfOpen if self.probing && now >= self.time => Some(self.open_until(self.time + wait())),
            Phase::Ramping if self.ramped(now, rules).is_none() => Some(Self { phase: Phase::Closed, time: 0, ..self }),
            phase if phase.is_forced() && self.time != NEVER && now >= self.time => Some(self.release(now, rules)),
            _ => None,
        }
    }

    /// The share of calls that a ramp lets pass; `None` once it is over.
    pub(super) fn ramped(self, now: u64, rules: &Rules) -> Option<f64> {
        let Ramp { from, over } = rules.ramp?;
        // A ramp without any length is infinitely far, or at its very start no number.
        let passed = now.saturating_sub(self.time) as f64 / (over.as_secs_f64() * 1000.0);
        (passed < 1.0).then(|| from.as_f64() + (1.0 - from.as_f64()) * passed)
    }

    /// A call of this generation opens the circuit; `None` if its outcome is stale.
    pub(super) fn trip(self, generation: u32, until: u64) -> Option<Self> {
        (self.phase.is_closed() && self.generation == generation).then(|| self.open_until(until))
    }

    /// The probe of this generation ended; `None` if its outcome is stale or changes nothing.
    pub(super) fn probed(
        self,
        generation: u32,
        verdict: Verdict,
        now: u64,
        rules: &Rules,
        wait: impl FnOnce() -> u64,
    ) -> Option<Self> {
        if self.phase != Phase::HalfOpen || self.generation != generation || !self.probing {
            return None;
        }
        if now >= self.time {
            return Some(self.open_until(self.time + wait()));
        }
        Some(match verdict {
            Verdict::Failure => self.open_until(now + wait()),
            Verdict::Nothing => Self { probing: false, time: now, ..self },
            Verdict::Success if self.succeeded + 1 < rules.probes => {
                Self { succeeded: self.succeeded + 1, probing: false, time: now, ..self }
            }
            Verdict::Success => self.close(now, rules),
        })
    }

    /// By hand.
    pub(super) fn force(self, phase: Phase, until: u64) -> Self {
        self.next(phase, until)
    }

    /// What was done by hand is over. What was open begins gently.
    pub(super) fn release(self, now: u64, rules: &Rules) -> Self {
        if self.phase == Phase::ForcedOpen { self.close(now, rules) } else { self.next(Phase::Closed, 0) }
    }

    /// Closed, as if new.
    pub(super) fn reset(self) -> Self {
        self.next(Phase::Closed, 0)
    }

    /// A throttle begins or ends.
    pub(super) fn throttle(self, on: bool) -> Option<Self> {
        match (self.phase, on) {
            (Phase::Closed, true) => Some(Self { phase: Phase::Throttled, ..self }),
            (Phase::Throttled, false) => Some(Self { phase: Phase::Closed, ..self }),
            _ => None,
        }
    }

    pub(super) fn open_until(self, until: u64) -> Self {
        self.next(Phase::Open, until)
    }

    fn close(self, now: u64, rules: &Rules) -> Self {
        if rules.ramp.is_some() { self.next(Phase::Ramping, now) } else { self.next(Phase::Closed, 0) }
    }

    fn probe(self, succeeded: u8, now: u64, rules: &Rules) -> Self {
        Self { succeeded, probing: true, ..self.next(Phase::HalfOpen, now + rules.lease) }
    }

    /// Another phase, in which nothing that was admitted before matters.
    fn next(self, phase: Phase, time: u64) -> Self {
        let generation = (self.generation + 1) & GENERATIONS;
        Self { phase, succeeded: 0, probing: false, generation, time: time.min(NEVER) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::circuit_breaker::Share;

    const RULES: Rules = Rules {
        probes: 2,
        lease: 100,
        ramp: Some(Ramp { from: Share::percent(10), over: Duration::from_millis(1000) }),
    };
    const NO_RAMP: Rules = Rules { ramp: None, ..RULES };

    fn status(phase: Phase, time: u64) -> Status {
        Status { phase, time, generation: 7, ..Status::NEW }
    }

    fn probing(succeeded: u8) -> Status {
        Status { succeeded, probing: true, ..status(Phase::HalfOpen, 100) }
    }

    fn admit(status: Status, now: u64) -> Step {
        status.admit(now, &RULES, || 50)
    }

    fn probed(status: Status, verdict: Verdict, now: u64, rules: &Rules) -> Option<Status> {
        status.probed(7, verdict, now, rules, || 50)
    }

    #[test]
    fn only_what_is_open_counts_down() {
        assert_eq!(admit(status(Phase::Open, 10), 4), Step::Reject(6));
        assert_eq!(admit(status(Phase::ForcedOpen, 10), 4), Step::Reject(6));
        assert_eq!(admit(status(Phase::ForcedOpen, NEVER), 9), Step::Reject(SOON));
        for phase in [Phase::Closed, Phase::ForcedClosed, Phase::Disabled] {
            assert_eq!(admit(status(phase, 10), 9), Step::Pass);
        }
        assert_eq!(admit(status(Phase::Throttled, 0), 9), Step::Throttle);
    }

    #[test]
    fn a_probe_has_a_lease_and_a_generation_of_its_own() {
        let expected = Status { succeeded: 0, probing: true, generation: 8, ..status(Phase::HalfOpen, 110) };
        assert_eq!(admit(status(Phase::Open, 10), 10), Step::Probe(expected));
        let second = Status { succeeded: 1, ..status(Phase::HalfOpen, 5) };
        assert_eq!(admit(second, 10), Step::Probe(Status { succeeded: 1, ..expected }));
    }

    #[test]
    fn others_wait_for_the_probe_but_not_for_long() {
        assert_eq!(admit(probing(0), 99), Step::Reject(1));
        let long = Status { time: 5000, ..probing(0) };
        assert_eq!(admit(long, 0), Step::Reject(SOON));
    }

    #[test]
    fn a_lease_that_is_over_opens_from_its_end() {
        let open = Status { generation: 8, ..status(Phase::Open, 150) };
        assert_eq!(admit(probing(1), 100), Step::Become(open));
        assert_eq!(admit(probing(1), 100_000), Step::Become(open));
        assert_eq!(probed(probing(1), Verdict::Success, 100, &RULES), Some(open));
    }

    #[test]
    fn what_probes_find_out() {
        let waiting = |succeeded| Status { succeeded, ..status(Phase::HalfOpen, 90) };
        assert_eq!(probed(probing(0), Verdict::Success, 90, &RULES), Some(waiting(1)));
        assert_eq!(probed(probing(1), Verdict::Nothing, 90, &RULES), Some(waiting(1)));
        let open = Status { generation: 8, ..status(Phase::Open, 140) };
        assert_eq!(probed(probing(1), Verdict::Failure, 90, &RULES), Some(open));
        let ramping = Status { generation: 8, ..status(Phase::Ramping, 90) };
        assert_eq!(probed(probing(1), Verdict::Success, 90, &RULES), Some(ramping));
        let closed = Status { generation: 8, ..status(Phase::Closed, 0) };
        assert_eq!(probed(probing(1), Verdict::Success, 90, &NO_RAMP), Some(closed));
    }

    #[test]
    fn what_is_stale_changes_nothing() {
        assert_eq!(probing(1).probed(6, Verdict::Success, 90, &RULES, || 50), None);
        assert_eq!(probed(status(Phase::HalfOpen, 100), Verdict::Success, 90, &RULES), None);
        let open = Status { probing: true, ..status(Phase::Open, 100) };
        assert_eq!(probed(open, Verdict::Success, 90, &RULES), None);
        assert_eq!(status(Phase::Closed, 0).trip(6, 10), None);
        for phase in [Phase::Open, Phase::HalfOpen, Phase::ForcedOpen, Phase::ForcedClosed, Phase::Disabled] {
            assert_eq!(status(phase, 0).trip(7, 10), None);
        }
        for phase in [Phase::Closed, Phase::Ramping, Phase::Throttled] {
            assert_eq!(status(phase, 0).trip(7, 10), Some(Status { generation: 8, ..status(Phase::Open, 10) }));
        }
    }

    #[test]
    fn a_ramp_grows_from_its_share_to_all() {
        let ramping = status(Phase::Ramping, 500);
        assert_eq!(admit(ramping, 500), Step::Chance(0.1));
        assert_eq!(admit(ramping, 1000), Step::Chance(0.55));
        let closed = status(Phase::Closed, 0);
        assert_eq!(admit(ramping, 1500), Step::Become(closed), "calls in flight still count");
        let no_length = Rules { ramp: Some(Ramp { from: Share::ALL, over: Duration::ZERO }), ..RULES };
        assert_eq!(ramping.admit(500, &no_length, || 50), Step::Become(closed));
    }

    #[test]
    fn what_was_forced_ends_in_time_and_what_was_open_begins_gently() {
        let next = |phase, time| Step::Become(Status { generation: 8, ..status(phase, time) });
        assert_eq!(admit(status(Phase::ForcedOpen, 10), 10), next(Phase::Ramping, 10));
        assert_eq!(admit(status(Phase::ForcedClosed, 10), 10), next(Phase::Closed, 0));
        assert_eq!(admit(status(Phase::Disabled, 10), 10), next(Phase::Closed, 0));
        assert_eq!(status(Phase::ForcedClosed, NEVER).settle(NEVER, &RULES, || 50), None);
    }

    #[test]
    fn a_throttle_does_not_make_calls_stale() {
        let (closed, throttled) = (status(Phase::Closed, 0), status(Phase::Throttled, 0));
        assert_eq!(closed.throttle(true), Some(throttled));
        assert_eq!(throttled.throttle(false), Some(closed));
        assert_eq!((closed.throttle(false), throttled.throttle(true)), (None, None));
        assert_eq!(status(Phase::Open, 9).throttle(true), None);
    }

    proptest! {
        #[test]
        fn a_word_holds_a_status(
            phase in 0..8usize,
            succeeded in 0..16u8,
            probing: bool,
            generation in 0..=GENERATIONS,
            time in 0..=NEVER,
        ) {
            let status = Status { phase: PHASES[phase], succeeded, probing, generation, time };
            let word = status.pack();
            prop_assert_eq!(Status::unpack(word), status);
            prop_assert_eq!(super::generation(word), generation);
            prop_assert_eq!(is_plainly_closed(word), status.phase == Phase::Closed);
        }

        #[test]
        fn what_does_not_fit_stays_in_its_place(generation: u32, time: u64) {
            let status = Status { phase: Phase::Open, succeeded: 0, probing: false, generation, time };
            let expected = Status { generation: generation & GENERATIONS, time: time.min(NEVER), ..status };
            prop_assert_eq!(Status::unpack(status.pack()), expected);
            let last = Status { generation: GENERATIONS, ..status };
            prop_assert_eq!(last.reset().generation, 0);
        }
    }
}
