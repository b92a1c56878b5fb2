use buttress_queue::engine::Settlement;
use buttress_queue::{EngineConfig, JobState, Priority};

use crate::subject::{SECOND, Subject, T, id, job, retry};

pub(crate) async fn the_contents_are_counted_by_type_and_priority(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.bury("g", T - 1).await;
    let urgent = |name| job(name).kind("mail").priority(Priority::High);
    let size = urgent("a").size();
    subject.push(vec![urgent("a").due(T), urgent("b").due(T + 1), urgent("c").due(T + 2)], T).await;
    subject.push(vec![urgent("d").due(T + 60 * SECOND), job("e").kind("mail").due(T + 3)], T).await;
    subject.push(vec![job("f").kind("call").due(T + 4)], T).await;
    assert_eq!(subject.claim(1, T + 5).await.len(), 1);
    let contents = subject.engine.contents(T + 5).await.unwrap();
    assert_eq!(contents.dead, 1);
    let depths = contents.depths.iter().map(|depth| {
        let counts = (depth.waiting, depth.delayed, depth.active, depth.oldest);
        (&*depth.kind, depth.priority, counts)
    });
    assert_eq!(
        depths.collect::<Vec<_>>(),
        [
            ("call", Priority::Normal, (1, 0, 0, Some(T + 4))),
            ("mail", Priority::High, (2, 1, 1, Some(T + 1))),
            ("mail", Priority::Normal, (1, 0, 0, Some(T + 3))),
        ]
    );
    assert_eq!(contents.depths[1].bytes, 4 * size);
}

pub(crate) async fn many_of_many_types_are_counted_right(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    // More waiting than delayed, more delayed than waiting, and about as many.
    for (kind, waiting, delayed) in [("a", 5_000, 10), ("b", 10, 5_000), ("c", 5_000, 5_001)] {
        let of = |count, due| {
            (0..count).map(move |at| job(&format!("{kind}-{due}-{at}")).kind(kind).due(due)).collect::<Vec<_>>()
        };
        subject.push([of(waiting, T), of(delayed, T + 1)].concat(), T).await;
    }
    let contents = subject.engine.contents(T).await.unwrap();
    let counts = contents.depths.iter().map(|depth| (depth.waiting, depth.delayed, depth.oldest));
    assert_eq!(counts.collect::<Vec<_>>(), [(5_000, 10, Some(T)), (10, 5_000, Some(T)), (5_000, 5_001, Some(T))]);
}

pub(crate) async fn what_was_never_there_is_not_found(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    assert_eq!(subject.state("a", T).await, None);
    assert!(subject.engine.contents(T).await.unwrap().depths.is_empty());
    assert!(subject.claim_ids(T).await.is_empty());
    assert!(subject.dead(None, 10).await.is_empty());
}

pub(crate) async fn a_job_is_found_with_its_counts(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, retry(T), T).await;
    subject.claim_one(T).await;
    subject.claim_one(T + 30 * SECOND).await;
    let found = subject.engine.find(&id("a"), T + 30 * SECOND).await.unwrap().unwrap();
    assert_eq!((found.state, found.attempts, found.crashes), (JobState::Active, 1, 1));
}

pub(crate) async fn a_job_that_is_done_has_no_more_attempts_than_failed(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, Settlement::Done, T).await;
    subject.push(vec![job("b").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, retry(T), T).await;
    let lease = subject.claim_one(T).await.lease;
    subject.settle(&lease, Settlement::Done, T).await;
    for (job, failed) in [("a", 0), ("b", 1)] {
        let found = subject.engine.find(&id(job), T).await.unwrap().unwrap();
        assert_eq!((found.state, found.attempts), (JobState::Done, failed), "{job}");
    }
}
