//! Every interleaving that the memory model allows, of those who record, tick and read (loom).

use std::sync::atomic::Ordering;

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::{Shard, Word};
#[cfg(feature = "metrics")]
use {
    super::{Sharded, under_way},
    crate::clock,
    crate::window::{Counters, Outcomes, Precision, Ring},
    loom::sync::Mutex,
};

word!(AtomicU64, loom::sync::atomic::fence);

/// The threads of a model are none of the operating system's: they name their shards.
pub(crate) const OWN: [Shard; 2] = [Shard(1), Shard(2)];

/// The model checker follows up to so many preemptions of each run; more finds little and takes long.
pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

#[test]
#[cfg(feature = "metrics")]
fn what_is_recorded_is_read_once_and_never_lost() {
    check(|| {
        let outcomes = Arc::new(Outcomes::<AtomicU64>::new(Counters::new(Precision::NONE)));
        // The words are made beforehand: that a `OnceLock` publishes what it holds is the standard library's promise.
        let record = |outcomes: &Outcomes<AtomicU64>, nth: usize| match nth {
            0 => outcomes.record(OWN[0], 1, true),
            _ => outcomes.record(OWN[1], 2, false),
        };
        (0..2).for_each(|nth| record(&outcomes, nth));
        let now = clock::now();
        let ring = Arc::new(Mutex::new(Ring::new(std::time::Duration::from_secs(60), now)));
        let recorders: Vec<_> = (0..2)
            .map(|nth| {
                let outcomes = Arc::clone(&outcomes);
                thread::spawn(move || record(&outcomes, nth))
            })
            .collect();
        let ticker = thread::spawn({
            let (outcomes, ring) = (Arc::clone(&outcomes), Arc::clone(&ring));
            move || ring.lock().unwrap().tick(&outcomes.totals(), now)
        });
        let read = || {
            let ring = ring.lock().unwrap();
            let totals = ring.read(outcomes.totals());
            // The bucket of each power of two holds one of the values.
            let (failed, went_well) = (totals.buckets[1], totals.buckets[2]);
            assert!(totals.sum >= failed + 2 * went_well, "a value that is counted is in the sum");
            assert!(totals.errors[1] >= failed, "and among the errors");
            failed + went_well
        };
        let first = read();
        let second = read();
        assert!(2 <= first && first <= second && second <= 4);
        recorders.into_iter().for_each(|recorder| recorder.join().unwrap());
        ticker.join().unwrap();
        assert_eq!(read(), 4);
    });
}

#[test]
fn threads_that_share_a_shard_lose_nothing() {
    check(|| {
        let word = Arc::new(AtomicU64::new(0));
        let other = thread::spawn({
            let word = Arc::clone(&word);
            move || Shard::SHARED.add(&*word, 1)
        });
        Shard::SHARED.add(&*word, 1);
        other.join().unwrap();
        assert_eq!(word.load(Ordering::Acquire), 2);
    });
}

#[test]
#[cfg(feature = "metrics")]
fn what_is_under_way_is_never_less_than_nothing() {
    check(|| {
        let word = || Arc::new(Sharded::<AtomicU64>::new());
        let (started, ended) = (word(), word());
        for shard in OWN {
            started.of(shard, AtomicU64::zero);
            ended.of(shard, AtomicU64::zero);
        }
        // A request that begins on one thread and ends on another.
        let begins = thread::spawn({
            let (started, ended) = (Arc::clone(&started), Arc::clone(&ended));
            move || {
                OWN[0].add(started.of(OWN[0], AtomicU64::zero), 1);
                let ends = thread::spawn(move || OWN[1].add(ended.of(OWN[1], AtomicU64::zero), 1));
                ends.join().unwrap();
            }
        });
        let read = || {
            let ended = ended.iter().map(|word| word.load(Ordering::Acquire)).sum();
            under_way(ended, started.iter())
        };
        let seen = read();
        assert!(seen.is_none_or(|seen| seen <= 1), "{seen:?}");
        begins.join().unwrap();
        assert_eq!(read(), Some(0));
    });
}
