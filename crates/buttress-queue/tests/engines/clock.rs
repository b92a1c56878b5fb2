use buttress_queue::engine::Settlement;
use buttress_queue::{EngineConfig, JobState};

use crate::subject::{HOUR, SECOND, Subject, T, job, retry};

pub(crate) async fn a_clock_that_is_set_back_loses_nothing(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T), job("b").due(T), job("later").due(T + SECOND)], T).await;
    let claimed = subject.claim(1, T).await;
    let back = T - HOUR;
    subject.push(vec![job("c").due(back)], back).await;
    assert_eq!(subject.claim_ids(back).await, ["c"], "nothing comes before its time");
    subject.engine.extend(&claimed[0].lease, crate::subject::LEASE, back).await.unwrap();
    subject.settle(&claimed[0].lease, retry(back + SECOND), back).await;
    subject.engine.contents(back).await.unwrap();
    subject.engine.maintain(back).await.unwrap();
    assert_eq!(subject.state("b", back).await, Some(JobState::Delayed));
    let again = subject.claim(10, back + SECOND).await;
    assert_eq!(crate::subject::ids(&again), ["a"]);
    subject.settle(&again[0].lease, Settlement::Done, back + SECOND).await;
    let mut rest = subject.claim_ids(T + SECOND).await;
    rest.sort();
    assert_eq!(rest, ["b", "c", "later"]);
}

pub(crate) async fn a_clock_that_is_set_forward_hands_out_nothing_twice(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(["a", "b"].map(|name| job(name).due(T)).into(), T).await;
    let lost = subject.claim(1, T).await.remove(0);
    let claimed = subject.claim_ids(T + HOUR).await;
    assert_eq!(claimed, ["a", "b"]);
    assert!(subject.claim_ids(T + HOUR).await.is_empty());
    assert!(subject.engine.settle(&lost.lease, Settlement::Done, T + HOUR).await.is_err());
}
