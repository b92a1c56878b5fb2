use buttress_queue::engine::{Admitted, Settlement};
use buttress_queue::{Bound, Bounds, EngineConfig, OnFull, Priority};

use crate::subject::{Subject, T, buried, id, job, jobs, within};

fn is_full(admitted: &Admitted, priority: Priority, bound: Bound) -> bool {
    matches!(admitted, Admitted::Full(full) if full.priority == priority && full.bound == bound)
}

fn evicting(bound: Bound) -> EngineConfig {
    within(Bounds::new(bound).on_full(OnFull::Evict))
}

pub(crate) async fn one_too_many_is_refused(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(within(Bounds::new(jobs(2)))).await;
    let admitted = subject.admit(["a", "b", "c"].map(|name| job(name).due(T)).into(), T).await;
    assert!(is_full(&admitted[2], Priority::Normal, jobs(2)), "{admitted:?}");
    assert_eq!(subject.claim_ids(T).await, ["a", "b"]);
    let refused = subject.admit_one(job("d").due(T), T).await;
    assert!(matches!(refused, Admitted::Full(_)), "what is worked on takes room");
}

pub(crate) async fn too_many_bytes_are_refused(make: impl AsyncFn(EngineConfig) -> Subject) {
    let size = job("a").bytes(1_000).size();
    let bound = Bound { jobs: u64::MAX, bytes: 2 * size };
    let subject = make(within(Bounds::new(bound))).await;
    subject.push(["a", "b"].map(|name| job(name).bytes(1_000).due(T)).into(), T).await;
    let admitted = subject.admit_one(job("c").bytes(2).due(T), T).await;
    assert!(is_full(&admitted, Priority::Normal, bound), "{admitted:?}");
}

pub(crate) async fn a_priority_has_a_bound_of_its_own(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(within(Bounds::new(jobs(100)).of(Priority::Low, jobs(1)))).await;
    let low = |name| job(name).priority(Priority::Low).due(T);
    subject.push(vec![low("a"), job("b").due(T), job("c").due(T)], T).await;
    let admitted = subject.admit_one(low("d"), T).await;
    assert!(is_full(&admitted, Priority::Low, jobs(1)), "{admitted:?}");
}

pub(crate) async fn what_is_done_makes_room(make: impl AsyncFn(EngineConfig) -> Subject) {
    let size = job("a").size();
    let subject = make(within(Bounds::new(Bound { jobs: 1, bytes: size }))).await;
    for name in ["a", "b", "c"] {
        subject.push(vec![job(name).due(T)], T).await;
        let lease = subject.claim_one(T).await.lease;
        subject.settle(&lease, Settlement::Done, T).await;
    }
}

pub(crate) async fn what_is_buried_makes_room(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(within(Bounds::new(jobs(1)))).await;
    let dead = subject.bury("a", T).await;
    subject.push(vec![job("b").due(T)], T).await;
    assert_eq!(subject.engine.replay(&[dead], T).await.unwrap(), 1);
    let admitted = subject.admit_one(job("c").due(T), T).await;
    assert!(matches!(admitted, Admitted::Full(_)), "what is replayed takes room");
    assert_eq!(subject.claim_ids(T).await, ["b", "a"]);
}

pub(crate) async fn the_oldest_of_the_least_urgent_is_evicted(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(evicting(jobs(4))).await;
    let low = |name| job(name).priority(Priority::Low).due(T);
    subject.push(vec![job("a").due(T), low("b"), low("c"), low("d")], T).await;
    let admitted = subject.admit_one(job("e").due(T), T).await;
    assert_eq!(admitted, Admitted::New { evicted: vec![(id("b"), Priority::Low)] });
    let admitted = subject.admit_one(low("f"), T).await;
    assert_eq!(admitted, Admitted::New { evicted: vec![(id("c"), Priority::Low)] });
    assert_eq!(subject.state("b", T).await, None);
    assert_eq!(subject.claim_ids(T).await, ["a", "e", "d", "f"]);
}

pub(crate) async fn nothing_critical_is_evicted(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(evicting(jobs(2))).await;
    let critical = |name| job(name).priority(Priority::Critical).due(T);
    subject.push(vec![critical("a"), critical("b")], T).await;
    let admitted = subject.admit_one(critical("c"), T).await;
    assert!(is_full(&admitted, Priority::Critical, jobs(2)), "{admitted:?}");
    assert_eq!(subject.claim_ids(T).await, ["a", "b"]);
}

pub(crate) async fn nothing_that_is_worked_on_is_evicted(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(evicting(jobs(1))).await;
    subject.push(vec![job("a").due(T)], T).await;
    let claimed = subject.claim_one(T).await;
    assert!(matches!(subject.admit_one(job("b").due(T), T).await, Admitted::Full(_)));
    subject.settle(&claimed.lease, Settlement::Release, T).await;
    let admitted = subject.admit_one(job("b").due(T), T).await;
    assert_eq!(admitted, Admitted::New { evicted: vec![(id("a"), Priority::Normal)] });
    let claimed = subject.claim_one(T).await;
    subject.settle(&claimed.lease, buried("broken", 1), T).await;
}

/// What could be thrown away would not be enough.
pub(crate) async fn a_push_that_fails_evicts_nothing(make: impl AsyncFn(EngineConfig) -> Subject) {
    let size = job("a").bytes(1_000).size();
    let subject = make(evicting(Bound { jobs: 10, bytes: 2 * size })).await;
    subject.push(vec![job("a").bytes(1_000).due(T)], T).await;
    let _worked_on = subject.claim_one(T).await;
    subject.push(vec![job("b").bytes(100).due(T)], T).await;
    assert!(matches!(subject.admit_one(job("c").bytes(1_001).due(T), T).await, Admitted::Full(_)));
    assert_eq!(subject.claim_ids(T).await, ["b"]);
}
