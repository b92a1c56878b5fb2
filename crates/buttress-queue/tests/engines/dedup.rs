use std::sync::Arc;
use std::time::Duration;

use buttress_queue::engine::{Admitted, Entry, Settlement};
use buttress_queue::job::Trace;
use buttress_queue::{EngineConfig, JobState, Priority};

use crate::subject::{SECOND, Subject, T, buried, id, job};

pub(crate) async fn a_known_id_is_answered_with_where_it_stands(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    let again = async |now| subject.admit_one(job("a").due(now), now).await;
    subject.push(vec![job("a").due(T + SECOND)], T).await;
    assert_eq!(again(T).await, Admitted::Duplicate(JobState::Delayed));
    let now = T + SECOND;
    assert_eq!(again(now).await, Admitted::Duplicate(JobState::Waiting));
    let claimed = subject.claim_one(now).await;
    assert_eq!(again(now).await, Admitted::Duplicate(JobState::Active));
    subject.settle(&claimed.lease, buried("broken", 1), now).await;
    assert_eq!(again(now).await, Admitted::Duplicate(JobState::Dead));
    assert_eq!(subject.engine.replay(&[id("a")], now).await.unwrap(), 1);
    let claimed = subject.claim_one(now).await;
    subject.settle(&claimed.lease, Settlement::Done, now).await;
    assert_eq!(again(now).await, Admitted::Duplicate(JobState::Done));
    assert!(subject.claim_ids(now).await.is_empty());
}

pub(crate) async fn an_id_twice_in_one_push_is_one_job(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    let admitted = subject.admit(vec![job("a").due(T), job("b").due(T), job("a").due(T)], T).await;
    let new = Admitted::New { evicted: Vec::new() };
    assert_eq!(admitted, [new.clone(), new, Admitted::Duplicate(JobState::Waiting)]);
    assert_eq!(subject.claim_ids(T).await, ["a", "b"]);
}

pub(crate) async fn one_id_from_eight_tasks_is_one_job(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let engine = Arc::clone(&subject.engine);
            tokio::spawn(async move {
                let mut new = 0;
                for _ in 0..125 {
                    let admitted = engine.push(vec![job("a").due(T)], T).await.unwrap().remove(0);
                    new += u32::from(matches!(admitted, Admitted::New { .. }));
                }
                new
            })
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        new += task.await.unwrap();
    }
    assert_eq!(new, 1);
    assert_eq!(subject.claim_ids(T).await, ["a"]);
}

pub(crate) async fn an_id_is_forgotten_when_its_time_is_over(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default().remember(Duration::from_secs(10))).await;
    subject.push(vec![job("a").due(T)], T).await;
    let claimed = subject.claim_one(T).await;
    subject.settle(&claimed.lease, Settlement::Done, T).await;
    let over = T + 10 * SECOND;
    assert_eq!(subject.admit_one(job("a").due(T), over - 1).await, Admitted::Duplicate(JobState::Done));
    subject.push(vec![job("a").due(over)], over).await;
    let claimed = subject.claim_one(over).await;
    subject.settle(&claimed.lease, Settlement::Done, over).await;
    subject.engine.maintain(over + 10 * SECOND).await.unwrap();
    assert_eq!(subject.state("a", over + 10 * SECOND).await, None);
}

pub(crate) async fn an_id_that_was_discarded_is_new_again(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    let dead = subject.bury("a", T).await;
    assert_eq!(subject.engine.discard(&[dead]).await.unwrap(), 1);
    subject.push(vec![job("a").due(T)], T).await;
}

pub(crate) async fn a_job_comes_out_as_it_was_pushed(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    let mut entry = job("a").priority(Priority::High).kind("order.created").due(T);
    entry.envelope.key = Some("customer ünï".into());
    entry.envelope.data =
        serde_json::value::RawValue::from_string(r#"{"b": 1,  "a": [null, "\u0000"]}"#.into()).unwrap();
    entry.envelope.trace = Trace {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        tracestate: Some("congo=t61".into()),
        baggage: Some("tenant=acme".into()),
    };
    let Entry { envelope: pushed, .. } = entry.clone();
    subject.push(vec![entry], T).await;
    let came = subject.claim_one(T).await.envelope;
    assert_eq!(serde_json::to_string(&came).unwrap(), serde_json::to_string(&pushed).unwrap());
}
