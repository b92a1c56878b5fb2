use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use buttress_queue::EngineConfig;
use buttress_queue::engine::Settlement;
use tokio::time::timeout;

use crate::subject::{HOUR, Subject, T, job};

/// Longer than an engine may take to notice, many times over.
const PATIENCE: Duration = Duration::from_secs(20);

async fn wakes(ready: Pin<&mut (impl Future<Output = ()> + ?Sized)>) {
    timeout(PATIENCE, ready).await.expect("somebody should have been woken");
}

pub(crate) async fn a_push_wakes(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("late").due(T + HOUR)], T).await;
    let mut ready = pin!(subject.engine.ready(T));
    let early = timeout(Duration::ZERO, ready.as_mut()).await;
    assert!(early.is_err(), "there is nothing to claim");
    subject.push(vec![job("a").due(T)], T).await;
    wakes(ready).await;
    wakes(subject.engine.ready(T).as_mut()).await;
}

pub(crate) async fn what_comes_back_wakes(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let lease = subject.claim_one(T).await.lease;
    let mut ready = pin!(subject.engine.ready(T));
    let early = timeout(Duration::ZERO, ready.as_mut()).await.is_ok();
    subject.settle(&lease, Settlement::Release, T).await;
    if !early {
        wakes(ready).await;
    }
    wakes(subject.engine.ready(T).as_mut()).await;
}

pub(crate) async fn what_becomes_due_wakes(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T + 50)], T).await;
    wakes(subject.engine.ready(T).as_mut()).await;
}

pub(crate) async fn a_lease_that_is_over_wakes(make: impl AsyncFn(EngineConfig) -> Subject) {
    let subject = make(EngineConfig::default()).await;
    subject.push(vec![job("a").due(T)], T).await;
    let claimed = subject.engine.claim(1, Duration::from_millis(50), T).await.unwrap();
    assert_eq!(claimed.len(), 1);
    wakes(subject.engine.ready(T).as_mut()).await;
}
