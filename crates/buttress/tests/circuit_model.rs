//! Circuits against a naive model: lists of what came of each call and when.
#![cfg(feature = "circuit-breaker")]

#[path = "support/naive_circuit.rs"]
mod naive_circuit;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Cancellation, Circuit, Permit, RejectedBecause, State};
use naive_circuit::{Admission, Expected, Kept, LEASE, Model, PROBES, Role, Settings, WAITS, millis};
use proptest::prelude::*;
use tokio::time::{Instant, advance};

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
    /// Closed again by hand, and so many milliseconds later a hundred good calls at once.
    Recover(u64),
    /// Calls that hang, so many milliseconds apart.
    Hang(usize, u64),
    Force(State, Option<u64>),
    Release,
    Reset,
    ExportAndImport,
    Observe(Option<u64>),
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
        5 => (0..8u64).prop_map(Op::Advance),
        10 => (0..120u64).prop_map(Op::Advance),
        4 => (0..2500u64).prop_map(Op::Advance),
        20 => Just(Op::Good),
        20 => Just(Op::Bad),
        1 => (0..800u64).prop_map(Op::Recover),
        2 => (1..20usize, 0..35u64).prop_map(|(calls, apart)| Op::Hang(calls, apart)),
        1 => (forced, proptest::option::of(0..800u64)).prop_map(|(state, lasts)| Op::Force(state, lasts)),
        1 => Just(Op::Release),
        1 => Just(Op::Reset),
        1 => Just(Op::ExportAndImport),
        1 => proptest::option::of(0..800u64).prop_map(Op::Observe),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let window = prop_oneof![
        4 => Just(Kept::Count { calls: 10, within: 1600 }),
        4 => Just(Kept::Time { bucket: 100, buckets: 10 }),
        1 => Just(Kept::Time { bucket: 1000, buckets: 1 }),
    ];
    let cancellation =
        prop_oneof![Just(Cancellation::Ignore), Just(Cancellation::Failure), Just(Cancellation::FailureIfSlow)];
    let ramp = prop_oneof![Just(None), Just(Some(100)), Just(Some(25))];
    (window, cancellation, ramp, any::<[bool; 3]>()).prop_map(
        |(window, cancellation, ramp, [strict, stuck, throttle])| Settings {
            window,
            cancellation,
            ramp,
            strict,
            stuck,
            throttle,
        },
    )
}

struct Call {
    permit: Permit,
    role: Role,
    era: u64,
    start: u64,
}

/// What was left to chance: how many calls were to pass, how far that may be off, and how many passed.
#[derive(Default)]
struct Luck {
    expected: f64,
    variance: f64,
    passed: f64,
}

/// The circuit and the model, side by side.
struct Pair {
    handles: [Circuit; 3],
    model: Model,
    calls: Vec<Call>,
    rejected: u64,
    luck: Luck,
}

impl Pair {
    fn new(settings: Settings) -> Self {
        let circuit = Circuit::new("model", settings.config());
        let handles = [circuit.clone(), circuit.clone(), circuit];
        Self { handles, model: Model::new(settings), calls: Vec::new(), rejected: 0, luck: Luck::default() }
    }

    fn take(&mut self, which: usize) -> Option<Call> {
        (!self.calls.is_empty()).then(|| self.calls.swap_remove(which % self.calls.len()))
    }

    fn admit(&mut self, handle: usize) -> Result<(), TestCaseError> {
        let expected = self.model.admit();
        let admitted = self.handles[handle].admit(Instant::now());
        let admission: Admission = match &admitted {
            Ok(permit) if permit.is_probe() => Ok(Role::Probe),
            Ok(permit) if permit.would_have_been_rejected() => Ok(Role::LetThrough),
            Ok(_) if self.model.state() == State::Closed => Ok(Role::Counted),
            Ok(_) => Ok(Role::Unwatched),
            Err(rejected) => Err(rejected.retry_after.as_millis() as u64),
        };
        match expected {
            Expected::Surely(sure) => prop_assert_eq!(admission, sure),
            Expected::Perhaps(chance, otherwise) => {
                let passes = admission == Ok(Role::Counted);
                prop_assert!(admission == otherwise || passes, "{:?} and not {:?}", admission, otherwise);
                let is_possible = if passes { chance > 0.0 } else { chance < 1.0 };
                prop_assert!(is_possible, "{} by a chance of {}", passes, chance);
                self.luck.expected += chance;
                self.luck.variance += chance * (1.0 - chance);
                self.luck.passed += f64::from(u8::from(passes));
                if let Err(rejected) = &admitted {
                    let ramping = self.model.is_ramping();
                    let because = if ramping { RejectedBecause::Ramping } else { RejectedBecause::Throttled };
                    prop_assert_eq!(rejected.because, because);
                }
            }
        }
        self.model.admitted(expected, admission);
        match (admitted, admission) {
            (Ok(permit), Ok(role)) => {
                self.calls.push(Call { permit, role, era: self.model.era, start: self.model.now });
            }
            _ => self.rejected += 1,
        }
        Ok(())
    }

    fn finish(&mut self, call: Call, result: CallResult) {
        self.model.finish(call.role, call.era, call.start, result);
        call.permit.report(result, Instant::now());
    }

    /// One that takes no time, if it may be made.
    fn call(&mut self, result: CallResult) -> Result<(), TestCaseError> {
        let before = self.calls.len();
        self.admit(0)?;
        if self.calls.len() > before {
            let call = self.calls.pop().expect("just let in");
            self.finish(call, result);
        }
        Ok(())
    }

    async fn advance(&mut self, by: u64) {
        advance(millis(by)).await;
        self.model.now += by;
    }

    async fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Admit(handle) => self.admit(handle)?,
            Op::Good => self.call(CallResult::Ok)?,
            Op::Bad => self.call(CallResult::FAILED)?,
            Op::Recover(after) => {
                self.by_hand(Op::Force(State::ForcedOpen, None));
                self.by_hand(Op::Release);
                self.advance(after).await;
                for _ in 0..100 {
                    self.call(CallResult::Ok)?;
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
            Op::Advance(by) => self.advance(by).await,
            Op::Hang(calls, apart) => {
                for _ in 0..calls {
                    self.advance(apart).await;
                    self.admit(2)?;
                }
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
                model.force(state, lasts);
            }
            Op::Release => {
                circuit.release("enough");
                model.release();
            }
            Op::Reset => {
                circuit.reset("again");
                model.reset();
            }
            Op::ExportAndImport => {
                let text = serde_json::to_string(&circuit.export()).expect("plain data");
                let state = serde_json::from_str(&text).expect("as it was written");
                circuit.import(&state).expect("as it was written");
                model.export_and_import();
            }
            Op::Observe(lasts) => {
                circuit.observe_only("a trial", lasts.map(millis));
                model.observe(lasts);
            }
            _ => {}
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let circuit = &self.handles[2];
        self.model.settle();
        prop_assert_eq!(circuit.state(), self.model.state());
        let seen = circuit.snapshot(Instant::now());
        prop_assert_eq!(seen.observe_only.is_some(), self.model.observes());
        if self.model.state() == State::Closed {
            let window = (seen.window.calls as usize, seen.window.failed as usize, seen.window.slow as usize);
            prop_assert_eq!(window, self.model.window());
        }
        // Each admission has one outcome, or is under way.
        let counts = seen.counts;
        let ended = counts.ok + counts.failed + counts.slow + counts.ignored + counts.cancelled;
        let ended = ended + counts.rejected_inside + counts.stale;
        prop_assert_eq!(counts.admitted, ended + self.calls.len() as u64);
        prop_assert_eq!(counts.rejected, self.rejected);
        let probes = self.calls.iter().filter(|call| call.role == Role::Probe && call.era == self.model.era).count();
        prop_assert!(probes <= 1);
        Ok(())
    }

    /// Of what is left to chance as much passes as should: six standard deviations are a chance in a billion.
    fn check_luck(&self) -> Result<(), TestCaseError> {
        let Luck { expected, variance, passed } = self.luck;
        prop_assert!((passed - expected).abs() <= 6.0 * variance.sqrt() + 3.0, "{} instead of {}", passed, expected);
        Ok(())
    }

    /// Whatever happened: after the longest wait somebody is let in, and good calls close the circuit.
    async fn is_not_wedged(&mut self) -> Result<(), TestCaseError> {
        let circuit = self.handles[0].clone();
        // What is forced, and then that it only observes.
        circuit.release("the end");
        circuit.release("the end");
        advance(millis(LEASE + WAITS[1])).await;
        for nth in 0..PROBES {
            let now = Instant::now();
            match circuit.admit(now) {
                Ok(permit) => permit.report(CallResult::Ok, now),
                // The last one has closed it.
                Err(rejected) => prop_assert!(nth > 0 && rejected.because == RejectedBecause::Ramping, "wedged"),
            }
        }
        prop_assert_eq!(circuit.state(), State::Closed);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_circuit_does_what_lists_of_all_that_happened_say(settings in settings(), ops in proptest::collection::vec(op(), 1..200), seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        buttress::random::seed(seed);
        runtime.block_on(async {
            let mut pair = Pair::new(settings);
            for op in ops {
                pair.apply(op).await?;
                // Looking makes the circuit notice what time has done; sometimes a call or its end is to notice.
                if !matches!(op, Op::Advance(_)) {
                    pair.check()?;
                }
            }
            pair.check_luck()?;
            pair.is_not_wedged().await
        })?;
    }
}
