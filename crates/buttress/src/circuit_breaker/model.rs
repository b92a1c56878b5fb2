//! Every interleaving that the memory model allows, of those who record, forget and decide (loom).

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::config::CircuitConfig;
use super::decide;
use super::outcomes::{Kind, Outcomes};
use super::transition::Reason;
use crate::circuit_breaker::{Share, Window};
use crate::shard::model::{OWN, check};
use crate::shard::{Shard, Word};

fn config() -> CircuitConfig {
    let window = Window::count(4, std::time::Duration::from_secs(10)).unwrap();
    CircuitConfig::default().window(window).minimum_calls(2).failure_rate(Share::ALL).consecutive_failures(None)
}

/// With the words made beforehand: that a `OnceLock` publishes what it holds is the standard library's promise.
fn outcomes(config: &CircuitConfig) -> Outcomes<AtomicU64> {
    let outcomes = Outcomes::new(config);
    outcomes.prepare(&OWN);
    outcomes
}

#[test]
fn of_two_failures_at_the_same_time_one_opens_the_circuit() {
    for window in [config().window, Window::time(std::time::Duration::from_secs(10), 2).unwrap()] {
        check(move || {
            let config = Arc::new(config().window(window));
            let outcomes = Arc::new(outcomes(&config));
            let fail = |shard: Shard, at: u64| {
                let (outcomes, config) = (Arc::clone(&outcomes), Arc::clone(&config));
                move || {
                    outcomes.bad(shard, Kind::Failed, at);
                    decide::trip(&config, &outcomes.read(at))
                }
            };
            // Their clocks differ by what a slice makes of it.
            let other = thread::spawn(fail(OWN[0], 4999));
            let trips = [fail(OWN[1], 5000)(), other.join().unwrap()];
            let opened = trips.into_iter().flatten().collect::<Vec<_>>();
            assert!(!opened.is_empty(), "both missed it");
            assert!(opened.iter().all(|reason| *reason == Reason::FailureRate { failed: 2, calls: 2 }));
        });
    }
}

#[test]
fn a_good_call_at_the_same_time_is_neither_lost_nor_counted_twice() {
    check(|| {
        let config = config();
        let outcomes = Arc::new(outcomes(&config));
        let good = thread::spawn({
            let outcomes = Arc::clone(&outcomes);
            move || outcomes.ok(OWN[0], 0, 5)
        });
        outcomes.bad(OWN[1], Kind::Failed, 0);
        let seen = outcomes.read(0);
        assert!((1..=2).contains(&seen.calls) && seen.failed == 1, "{seen:?}");
        good.join().unwrap();
        let seen = outcomes.read(0);
        assert_eq!((seen.calls, seen.failed), (2, 1));
    });
}

#[test]
fn what_is_written_while_the_window_is_forgotten_is_in_it_or_not_and_never_comes_back() {
    check(|| {
        let config = config();
        let outcomes = Arc::new(outcomes(&config));
        outcomes.bad(OWN[1], Kind::Failed, 0);
        let late = thread::spawn({
            let outcomes = Arc::clone(&outcomes);
            move || outcomes.bad(OWN[0], Kind::Failed, 0)
        });
        outcomes.restart();
        let seen = outcomes.read(0);
        assert!(seen.failed <= 1, "{seen:?}");
        late.join().unwrap();
        assert!(outcomes.read(0).failed >= seen.failed && outcomes.read(0).failed <= 1);
    });
}

#[test]
fn threads_that_share_a_shard_lose_no_call_of_a_slice() {
    check(|| {
        let config = config();
        let outcomes: Outcomes<AtomicU64> = Outcomes::new(&config);
        outcomes.prepare(&[Shard::SHARED]);
        let outcomes = Arc::new(outcomes);
        let other = thread::spawn({
            let outcomes = Arc::clone(&outcomes);
            move || outcomes.ok(Shard::SHARED, 0, 5)
        });
        outcomes.ok(Shard::SHARED, 0, 5);
        other.join().unwrap();
        assert_eq!(outcomes.read(0).calls, 2);
    });
}

/// The word of a circuit: each step is one exchange of it.
#[test]
fn of_two_who_would_probe_one_does() {
    use super::state::{Phase, Rules, Status, Step};
    check(|| {
        let rules = Rules { probes: 1, lease: 10, ramp: None };
        let open = Status { phase: Phase::Open, time: 0, ..Status::NEW };
        let word = Arc::new(AtomicU64::new(open.pack()));
        let admit = |word: Arc<AtomicU64>| {
            move || loop {
                let now = Word::load(&*word, std::sync::atomic::Ordering::Acquire);
                match Status::unpack(now).admit(0, &rules, || 5) {
                    Step::Probe(next) if word.replace(now, next.pack()) => return true,
                    Step::Probe(_) => {}
                    _ => return false,
                }
            }
        };
        let other = thread::spawn(admit(Arc::clone(&word)));
        let probes = u32::from(admit(Arc::clone(&word))()) + u32::from(other.join().unwrap());
        assert_eq!(probes, 1);
    });
}
