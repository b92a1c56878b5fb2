use std::time::Duration;

use buttress_queue::engine::Settlement;
use buttress_queue::{EngineConfig, JobState};

use crate::subject::{LEASE, SECOND, Subject, T, buried, ids, is_lost, job, retry};

const OVER: u64 = T + 30 * SECOND;

pub(crate) async fn a_claimed_job_is_nobody_elses(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let claimed = subject.claim_one(T).await;
    assert_eq!((claimed.attempts, claimed.crashes), (0, 0));
    assert!(subject.claim_ids(OVER - 1).await.is_empty());
}

pub(crate) async fn a_job_whose_lease_is_over_comes_again_and_counts_a_crash(
    make: impl AsyncFn(EngineConfig) -> Subject,
) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let first = subject.claim_one(T).await;
    let second = subject.claim_one(OVER).await;
    assert_eq!((second.attempts, second.crashes), (0, 1));
    assert_ne!(first.lease, second.lease);
    let third = subject.claim_one(OVER + 30 * SECOND).await;
    assert_eq!((third.attempts, third.crashes), (0, 2));
}

pub(crate) async fn whoever_lost_a_lease_can_do_nothing_with_it(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let first = subject.claim_one(T).await.lease;
    let second = subject.claim_one(OVER).await.lease;
    for settlement in [Settlement::Done, retry(OVER), Settlement::Release, buried("late", 1)] {
        let error = subject.engine.settle(&first, settlement, OVER).await.unwrap_err();
        assert!(is_lost(&error, "a"), "{error}");
    }
    let error = subject.engine.extend(&first, LEASE, OVER).await.unwrap_err();
    assert!(is_lost(&error, "a"), "{error}");
    subject.settle(&second, Settlement::Done, OVER).await;
    assert_eq!(subject.state("a", OVER).await, Some(JobState::Done));
}

pub(crate) async fn a_late_answer_counts_while_nobody_else_has_the_job(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, Settlement::Done, OVER + SECOND).await;
    assert!(subject.claim_ids(OVER + SECOND).await.is_empty());
}

pub(crate) async fn a_lease_that_is_extended_is_kept(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.engine.extend(&lease, LEASE, OVER - SECOND).await.unwrap();
    assert!(subject.claim_ids(OVER).await.is_empty());
    subject.engine.extend(&lease, Duration::from_secs(1), OVER).await.unwrap();
    assert_eq!(subject.claim_one(OVER + SECOND).await.crashes, 1);
}

pub(crate) async fn a_lease_ends_once(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    for settlement in [retry(T), Settlement::Defer { due: T }, Settlement::Release, Settlement::Done] {
        let lease = subject.claim_one(T).await.lease;
        subject.settle(&lease, settlement.clone(), T).await;
        let error = subject.engine.settle(&lease, settlement, T).await.unwrap_err();
        assert!(is_lost(&error, "a"), "{error}");
    }
}

pub(crate) async fn a_retry_counts_an_attempt_and_no_crash(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, retry(T + 5 * SECOND), T).await;
    assert_eq!(subject.state("a", T).await, Some(JobState::Delayed));
    assert!(subject.claim_ids(T + 5 * SECOND - 1).await.is_empty());
    let again = subject.claim_one(T + 5 * SECOND).await;
    assert_eq!((again.attempts, again.crashes), (1, 0));
}

pub(crate) async fn a_deferral_counts_nothing(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, Settlement::Defer { due: T + SECOND }, T).await;
    assert!(subject.claim_ids(T + SECOND - 1).await.is_empty());
    let again = subject.claim_one(T + SECOND).await;
    assert_eq!((again.attempts, again.crashes), (0, 0));
}

pub(crate) async fn what_is_released_goes_back_to_its_place(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(["a", "b", "c"].map(|name| job(name).due(T)).into(), T).await;
    let claimed = subject.claim(2, T).await;
    for claimed in claimed.iter().rev() {
        subject.settle(&claimed.lease, Settlement::Release, T).await;
    }
    let claimed = subject.claim(3, T).await;
    assert_eq!(ids(&claimed), ["a", "b", "c"]);
    assert_eq!((claimed[0].attempts, claimed[0].crashes), (0, 0));
}

pub(crate) async fn a_crashed_job_goes_back_to_its_place(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(["a", "b", "c"].map(|name| job(name).due(T)).into(), T).await;
    assert_eq!(ids(&subject.claim(2, T).await), ["a", "b"]);
    assert_eq!(subject.claim_ids(OVER).await, ["a", "b", "c"]);
}
