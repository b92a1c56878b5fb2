//! Leases and delays. BullMQ goes by the clock of the wall, so time goes by here; nothing is said of how much of it.

use std::time::Duration;

use buttress_queue::engine::{Admitted, Engine, Settlement};
use buttress_queue::{EngineConfig, EngineError, JobState, Priority, Reason};
use buttress_tests::servers;

use crate::{configured, engine, id, job, next, now};

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

#[tokio::test]
async fn a_known_id_is_answered_with_where_it_stands() {
    let Some(server) = servers::Redis::start().await else { return };
    let remember = Duration::from_millis(500);
    let engine = configured(&server.url(), "time", EngineConfig::default().remember(remember));
    let again = async || engine.push(vec![job("evt:17")], now()).await.unwrap().remove(0);
    assert_eq!(again().await, Admitted::New { evicted: Vec::new() });
    assert_eq!(again().await, Admitted::Duplicate(JobState::Waiting));
    let claimed = next(&engine, LONG).await;
    assert_eq!(again().await, Admitted::Duplicate(JobState::Active));
    let retry = Settlement::Retry { due: now() + 60_000, reason: Reason::from("broken") };
    engine.settle(&claimed.lease, retry, now()).await.unwrap();
    assert_eq!(again().await, Admitted::Duplicate(JobState::Delayed));
    engine.push(vec![job("b")], now()).await.unwrap();
    let claimed = next(&engine, LONG).await;
    let bury = Settlement::Bury { reason: Reason::from("broken"), attempts: 1 };
    engine.settle(&claimed.lease, bury, now()).await.unwrap();
    assert_eq!(engine.push(vec![job("b")], now()).await.unwrap(), [Admitted::Duplicate(JobState::Dead)]);
    assert_eq!(engine.replay(&[id("b")], now()).await.unwrap(), 1);
    let claimed = next(&engine, LONG).await;
    engine.settle(&claimed.lease, Settlement::Done, now()).await.unwrap();
    // Known for a while, then new again, whether or not anybody has cleaned up.
    while engine.push(vec![job("b")], now()).await.unwrap() == [Admitted::Duplicate(JobState::Done)] {}
    let claimed = next(&engine, LONG).await;
    engine.settle(&claimed.lease, Settlement::Done, now()).await.unwrap();
    while engine.find(&id("b"), now()).await.unwrap().is_some() {
        engine.maintain(now()).await.unwrap();
    }
}

#[tokio::test]
async fn what_has_waited_for_long_comes_before_what_is_more_urgent() {
    let Some(server) = servers::Redis::start().await else { return };
    let config = EngineConfig::default().ageing(Duration::from_secs(60));
    let engine = configured(&server.url(), "time", config);
    let of = |name, priority, minutes: u64| {
        let mut job = job(name);
        job.envelope.priority = priority;
        job.envelope.created -= minutes * 60_000;
        job
    };
    let jobs = vec![
        of("fresh", Priority::Normal, 0),
        of("old", Priority::Low, 5),
        of("young", Priority::Low, 0),
        of("critical", Priority::Critical, 0),
    ];
    engine.push(jobs, now()).await.unwrap();
    engine.maintain(now()).await.unwrap();
    let claimed = engine.claim(10, LONG, now()).await.unwrap();
    let came: Vec<_> =
        claimed.iter().map(|claimed| (claimed.envelope.id.as_str(), claimed.envelope.priority)).collect();
    use Priority::{Critical, Low, Normal};
    assert_eq!(came, [("critical", Critical), ("old", Low), ("fresh", Normal), ("young", Low)]);
}

#[tokio::test]
async fn the_contents_are_counted_by_type_and_priority() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "time");
    let mut urgent = job("urgent");
    urgent.envelope.kind = "mail".into();
    urgent.envelope.priority = Priority::High;
    let mut later = urgent.clone();
    (later.envelope.id, later.due) = (id("later"), now() + 600_000);
    let (size, oldest) = (urgent.envelope.size() + later.envelope.size(), urgent.envelope.created);
    engine.push(vec![urgent, later, job("a")], now()).await.unwrap();
    engine.push(vec![job("b")], now()).await.unwrap();
    let depths = engine.contents(now()).await.unwrap().depths;
    let counts = depths.iter().map(|depth| (&*depth.kind, depth.priority, depth.waiting, depth.delayed, depth.active));
    assert_eq!(counts.collect::<Vec<_>>(), [("mail", Priority::High, 1, 1, 0), ("test", Priority::Normal, 2, 0, 0)]);
    assert_eq!((depths[0].bytes, depths[0].oldest), (size, Some(oldest)));
    next(&engine, LONG).await;
    assert_eq!(engine.contents(now()).await.unwrap().depths[0].active, 1);
}
