//! Circuits against a naive model: a list of what came of each call and when.
#![cfg(feature = "circuit-breaker")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use buttress::backoff::{Backoff, Jitter};
use buttress::circuit_breaker::{
    CallResult, Cancellation, Circuit, CircuitConfig, Consecutive, Permit, Ramp, Share, SlowCalls, State, Window,
};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

const WAITS: [u64; 2] = [500, 2000];
const LEASE: u64 = 1000;
const RAMP: u64 = 700;
const PROBES: u32 = 2;
const SLOW: u64 = 60;
const MINIMUM: usize = 5;
const ROW: (usize, u64) = (3, 300);

#[derive(Clone, Copy, Debug)]
enum Op {
    /// By one of the handles.
    Admit(usize),
    /// One of the permits there are.
    Finish(usize, CallResult),
    Cancel(usize),
    Panic(usize),
    Advance(u64),
    /// A good call that takes no time.
    Good,
    /// A bad one.
    Bad,
    Force(State, Option<u64>),
    Release,
    Reset,
    ExportAndImport,
    Observe(bool),
}

fn result() -> impl Strategy<Value = CallResult> {
    prop_oneof![
        4 => Just(CallResult::Ok),
        4 => Just(CallResult::FAILED),
        1 => (0..3000u64).prop_map(|hint| CallResult::Failed { retry_after: Some(Duration::from_millis(hint)) }),
        1 => Just(CallResult::Ignored),
        1 => Just(CallResult::Rejected),
        1 => Just(CallResult::Cancelled),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let forced = prop_oneof![Just(State::ForcedOpen), Just(State::ForcedClosed), Just(State::Disabled)];
    prop_oneof![
        20 => (0..3usize).prop_map(Op::Admit),
        20 => (any::<usize>(), result()).prop_map(|(which, result)| Op::Finish(which, result)),
        3 => any::<usize>().prop_map(Op::Cancel),
        1 => any::<usize>().prop_map(Op::Panic),
        10 => (0..120u64).prop_map(Op::Advance),
        4 => (0..2500u64).prop_map(Op::Advance),
        20 => Just(Op::Good),
        20 => Just(Op::Bad),
        1 => (forced, proptest::option::of(0..800u64)).prop_map(|(state, lasts)| Op::Force(state, lasts)),
        1 => Just(Op::Release),
        1 => Just(Op::Reset),
        1 => Just(Op::ExportAndImport),
        1 => any::<bool>().prop_map(Op::Observe),
    ]
}

/// What the property is about: everything that changes a decision, and none of what is left to chance.
#[derive(Clone, Copy, Debug)]
struct Settings {
    window: Kept,
    cancellation: Cancellation,
    has_ramp: bool,
    strict: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kept {
    Count { calls: usize, within: u64 },
    Time { bucket: u64, buckets: u64 },
}

fn settings() -> impl Strategy<Value = Settings> {
    let window =
        prop_oneof![Just(Kept::Count { calls: 10, within: 1600 }), Just(Kept::Time { bucket: 100, buckets: 10 })];
    let cancellation =
        prop_oneof![Just(Cancellation::Ignore), Just(Cancellation::Failure), Just(Cancellation::FailureIfSlow)];
    (window, cancellation, any::<bool>(), any::<bool>()).prop_map(|(window, cancellation, has_ramp, strict)| Settings {
        window,
        cancellation,
        has_ramp,
        strict,
    })
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Settings {
    fn config(self) -> CircuitConfig {
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
            // All of them pass, and that it goes on is seen by the waits.
            .ramp(self.has_ramp.then_some(Ramp { from: Share::ALL, over: millis(RAMP) }))
            .cancellation(self.cancellation)
            .stuck_calls(false)
    }
}

/// The naive model.
#[derive(Clone, Debug)]
struct Model {
    settings: Settings,
    now: u64,
    mode: Mode,
    /// Everything that counts since the circuit was closed last: when, failed, slow.
    outcomes: Vec<(u64, bool, bool)>,
    /// Counts whatever makes earlier calls stale.
    era: u64,
    opened: u32,
    observes: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Closed { ramp_until: Option<u64> },
    Open { until: u64 },
    HalfOpen { succeeded: u32, lease_until: Option<u64> },
    Forced { state: State, until: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Counted,
    Probe,
    Unwatched,
    LetThrough,
}

struct Call {
    permit: Permit,
    role: Role,
    era: u64,
    start: u64,
}

impl Model {
    fn new(settings: Settings) -> Self {
        let mode = Mode::Closed { ramp_until: None };
        Self { settings, now: 0, mode, outcomes: Vec::new(), era: 0, opened: 0, observes: false }
    }

    fn state(&self) -> State {
        match self.mode {
            Mode::Closed { .. } => State::Closed,
            Mode::Open { .. } => State::Open,
            Mode::HalfOpen { .. } => State::HalfOpen,
            Mode::Forced { state, .. } => state,
        }
    }

    fn close(&mut self, gently: bool) {
        self.era += 1;
        self.outcomes.clear();
        let ramp_until = (gently && self.settings.has_ramp).then_some(self.now + RAMP);
        if ramp_until.is_none() {
            self.opened = 0;
        }
        self.mode = Mode::Closed { ramp_until };
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

    /// What time alone does.
    fn settle(&mut self) {
        match self.mode {
            Mode::HalfOpen { lease_until: Some(until), .. } if self.now >= until => self.open(until, None),
            Mode::Closed { ramp_until: Some(until) } if self.now >= until => {
                self.opened = 0;
                self.mode = Mode::Closed { ramp_until: None };
            }
            Mode::Forced { state, until: Some(until) } if self.now >= until => self.close(state == State::ForcedOpen),
            _ => {}
        }
    }

    /// The role of a call that comes now; or how long to wait.
    fn admit(&mut self) -> Result<Role, u64> {
        self.settle();
        let wait = match self.mode {
            Mode::Closed { .. } => return Ok(Role::Counted),
            Mode::Forced { state: State::ForcedOpen, until } => {
                return Err(until.map_or(1000, |until| until - self.now));
            }
            Mode::Forced { .. } => return Ok(Role::Unwatched),
            Mode::Open { until } if self.now < until => until - self.now,
            Mode::HalfOpen { lease_until: Some(until), .. } => (until - self.now).min(1000),
            Mode::Open { .. } | Mode::HalfOpen { .. } => {
                let succeeded = if let Mode::HalfOpen { succeeded, .. } = self.mode { succeeded } else { 0 };
                self.era += 1;
                self.mode = Mode::HalfOpen { succeeded, lease_until: Some(self.now + LEASE) };
                return Ok(Role::Probe);
            }
        };
        if self.observes { Ok(Role::LetThrough) } else { Err(wait) }
    }

    fn finish(&mut self, role: Role, era: u64, start: u64, result: CallResult) {
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
        if says_nothing {
            return;
        }
        self.outcomes.push((self.now, failed, is_slow));
        if (failed || is_slow) && self.is_enough() {
            self.open(self.now, hint);
        }
    }

    /// All, failed and slow calls in the window.
    fn window(&self) -> (usize, usize, usize) {
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
            return reached(failed, 50) || reached(slow, 80);
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
}

/// The circuit and the model, side by side.
struct Pair {
    handles: [Circuit; 3],
    model: Model,
    calls: Vec<Call>,
}

impl Pair {
    fn new(settings: Settings) -> Self {
        let circuit = Circuit::new("model", settings.config());
        let handles = [circuit.clone(), circuit.clone(), circuit];
        Self { handles, model: Model::new(settings), calls: Vec::new() }
    }

    fn take(&mut self, which: usize) -> Option<Call> {
        (!self.calls.is_empty()).then(|| self.calls.swap_remove(which % self.calls.len()))
    }

    fn admit(&mut self, handle: usize) -> Result<(), TestCaseError> {
        let expected = self.model.admit();
        match self.handles[handle].admit(Instant::now()) {
            Ok(permit) => {
                let role = match (permit.is_probe(), permit.would_have_been_rejected()) {
                    (true, _) => Role::Probe,
                    (_, true) => Role::LetThrough,
                    _ if self.model.state() == State::Closed => Role::Counted,
                    _ => Role::Unwatched,
                };
                prop_assert_eq!(expected, Ok(role));
                let (era, start) = (self.model.era, self.model.now);
                self.calls.push(Call { permit, role, era, start });
            }
            Err(rejected) => prop_assert_eq!(expected, Err(rejected.retry_after.as_millis() as u64)),
        }
        Ok(())
    }

    fn finish(&mut self, call: Call, result: CallResult) {
        self.model.finish(call.role, call.era, call.start, result);
        call.permit.report(result, Instant::now());
    }

    async fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Admit(handle) => self.admit(handle)?,
            Op::Good | Op::Bad => {
                let before = self.calls.len();
                self.admit(0)?;
                if self.calls.len() > before {
                    let result = if matches!(op, Op::Good) { CallResult::Ok } else { CallResult::FAILED };
                    let call = self.calls.pop().expect("just let in");
                    self.finish(call, result);
                }
            }
            Op::Finish(which, result) => {
                if let Some(call) = self.take(which) {
                    self.finish(call, result);
                }
            }
            Op::Cancel(which) | Op::Panic(which) => {
                let Some(call) = self.take(which) else { return Ok(()) };
                self.model.finish(call.role, call.era, call.start, CallResult::Cancelled);
                let permit = call.permit;
                if matches!(op, Op::Panic(_)) {
                    let panics = AssertUnwindSafe(|| {
                        let _permit = permit;
                        // As a panic does, without the message.
                        std::panic::resume_unwind(Box::new("the call panicked"));
                    });
                    prop_assert!(catch_unwind(panics).is_err());
                }
            }
            Op::Advance(by) => {
                advance(millis(by)).await;
                self.model.now += by;
            }
            other => self.by_hand(other),
        }
        Ok(())
    }

    fn by_hand(&mut self, op: Op) {
        let (circuit, model) = (&self.handles[1], &mut self.model);
        match op {
            Op::Force(state, lasts) => {
                let force = match state {
                    State::ForcedOpen => Circuit::force_open,
                    State::ForcedClosed => Circuit::force_closed,
                    _ => Circuit::disable,
                };
                force(circuit, "a drill", lasts.map(millis));
                model.era += 1;
                model.mode = Mode::Forced { state, until: lasts.map(|lasts| model.now + lasts) };
            }
            Op::Release => {
                circuit.release("enough");
                if let Mode::Forced { state, .. } = model.mode {
                    model.close(state == State::ForcedOpen);
                }
            }
            Op::Reset => {
                circuit.reset("again");
                model.close(false);
            }
            Op::ExportAndImport => {
                let text = serde_json::to_string(&circuit.export()).expect("plain data");
                let state = serde_json::from_str(&text).expect("as it was written");
                circuit.import(&state).expect("as it was written");
                model.settle();
                model.era += 1;
                match &mut model.mode {
                    Mode::Closed { .. } => model.close(false),
                    Mode::Open { until } => *until = (*until).clamp(model.now, model.now + WAITS[1]),
                    Mode::HalfOpen { .. } => model.mode = Mode::Open { until: model.now },
                    Mode::Forced { .. } => {}
                }
            }
            Op::Observe(only) => {
                circuit.observe_only(only);
                model.observes = only;
            }
            _ => {}
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let circuit = &self.handles[2];
        self.model.settle();
        prop_assert_eq!(circuit.state(), self.model.state());
        let seen = circuit.snapshot(Instant::now());
        if self.model.state() == State::Closed {
            let window = (seen.window.calls as usize, seen.window.failed as usize, seen.window.slow as usize);
            prop_assert_eq!(window, self.model.window());
        }
        // Each admission has one outcome, or is under way.
        let counts = seen.counts;
        let ended = counts.ok + counts.failed + counts.slow + counts.ignored + counts.cancelled;
        let ended = ended + counts.rejected_inside + counts.stale;
        prop_assert_eq!(counts.admitted, ended + self.calls.len() as u64);
        let probes = self.calls.iter().filter(|call| call.role == Role::Probe && call.era == self.model.era).count();
        prop_assert!(probes <= 1);
        Ok(())
    }

    /// Whatever happened: after the longest wait somebody is let in, and good calls close the circuit.
    async fn is_not_wedged(&mut self) -> Result<(), TestCaseError> {
        let circuit = self.handles[0].clone();
        circuit.observe_only(false);
        circuit.release("the end");
        advance(millis(LEASE + WAITS[1])).await;
        for _ in 0..PROBES {
            let now = Instant::now();
            let Ok(permit) = circuit.admit(now) else { return Err(TestCaseError::fail("wedged")) };
            permit.report(CallResult::Ok, now);
        }
        prop_assert_eq!(circuit.state(), State::Closed);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_circuit_does_what_a_list_of_outcomes_says(settings in settings(), ops in proptest::collection::vec(op(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new(settings);
            for op in ops {
                pair.apply(op).await?;
                // Looking makes the circuit notice what time has done; sometimes a call or its end is to notice.
                if !matches!(op, Op::Advance(_)) {
                    pair.check()?;
                }
            }
            pair.is_not_wedged().await
        })?;
    }
}
