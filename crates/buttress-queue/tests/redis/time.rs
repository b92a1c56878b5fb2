//! Leases and delays in real time: Redis forgets locks by its own clock. Nothing is said of how much of it goes by.

use std::time::Duration;

use buttress_queue::engine::{Engine, Settlement};
use buttress_queue::{EngineError, JobState, Reason};
use buttress_tests::servers;

use crate::{engine, id, job, next, now};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_job_comes_no_sooner_than_it_is_due() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "time");
    let mut later = job("later");
    later.due = now() + 300;
    let due = later.due;
    engine.push(vec![later], now()).await.unwrap();
    assert_eq!(engine.find(&id("later"), now()).await.unwrap().unwrap().state, JobState::Delayed);
    next(&engine, LONG).await;
    assert!(now() >= due, "{} ms early", due - now());
}

#[tokio::test]
async fn a_job_whose_lease_is_over_comes_again_and_counts_a_crash() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "time");
    engine.push(vec![job("a")], now()).await.unwrap();
    let first = next(&engine, SHORT).await;
    let second = next(&engine, LONG).await;
    assert_eq!((second.attempts, second.crashes), (0, 1));
    for settlement in [Settlement::Done, Settlement::Release] {
        let late = engine.settle(&first.lease, settlement, now()).await;
        assert!(matches!(late, Err(EngineError::LeaseLost(_))), "{late:?}");
    }
    let late = engine.extend(&first.lease, LONG, now()).await;
    assert!(matches!(late, Err(EngineError::LeaseLost(_))), "{late:?}");
    engine.settle(&second.lease, Settlement::Done, now()).await.unwrap();
    assert_eq!(engine.find(&id("a"), now()).await.unwrap().unwrap().state, JobState::Done);
}

#[tokio::test]
async fn a_lease_that_is_extended_is_kept() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "time");
    engine.push(vec![job("a"), job("b")], now()).await.unwrap();
    let kept = next(&engine, Duration::from_secs(5)).await;
    engine.extend(&kept.lease, LONG, now()).await.unwrap();
    let lost = next(&engine, SHORT).await;
    let again = next(&engine, LONG).await;
    assert_eq!(again.envelope.id, lost.envelope.id, "the only one whose lease is over");
    engine.settle(&kept.lease, Settlement::Done, now()).await.unwrap();
}

#[tokio::test]
async fn a_retry_counts_an_attempt_and_a_deferral_nothing() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "time");
    engine.push(vec![job("a")], now()).await.unwrap();
    let claimed = next(&engine, LONG).await;
    let retry = Settlement::Retry { due: now() + 50, reason: Reason::from("broken") };
    engine.settle(&claimed.lease, retry, now()).await.unwrap();
    let claimed = next(&engine, LONG).await;
    assert_eq!((claimed.attempts, claimed.crashes), (1, 0));
    engine.settle(&claimed.lease, Settlement::Defer { due: now() + 50 }, now()).await.unwrap();
    let claimed = next(&engine, LONG).await;
    assert_eq!((claimed.attempts, claimed.crashes), (1, 0));
    let bury = Settlement::Bury { reason: Reason::from("it said 410"), attempts: 2 };
    engine.settle(&claimed.lease, bury, now()).await.unwrap();
    let letter = engine.dead(None, 10).await.unwrap().remove(0);
    assert_eq!((letter.reason.as_str(), letter.attempts, letter.crashes), ("it said 410", 2, 0));
}
