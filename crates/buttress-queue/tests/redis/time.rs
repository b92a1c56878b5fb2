//! Leases and delays in real time: Redis forgets locks by its own clock. Nothing is said of how much of it goes by.

use std::task::Poll;
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
    assert_eq!(engine.find(&id("later"), due - 1).await.unwrap().unwrap().state, JobState::Delayed);
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

/// What can be claimed by one can be claimed by all of a fleet, whose clocks are minutes apart.
#[tokio::test]
async fn a_clock_that_is_minutes_behind_holds_nothing_up() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "time");
    let ahead = now();
    engine.push(vec![job("a"), job("b")], ahead).await.unwrap();
    let claimed = next(&engine, LONG).await;
    let behind = ahead - 240_000;
    assert_eq!(engine.find(&id("b"), behind).await.unwrap().unwrap().state, JobState::Waiting);
    engine.extend(&claimed.lease, LONG, behind).await.unwrap();
    let retry = Settlement::Retry { due: behind + 1_000, reason: Reason::from("broken") };
    engine.settle(&claimed.lease, retry, behind).await.unwrap();
    // What could be claimed still can be; what was put off waits for its time.
    let other = engine.claim(10, LONG, behind).await.unwrap();
    assert_eq!(other.len(), 1, "{other:?}");
    assert_ne!(other[0].envelope.id, claimed.envelope.id);
    let again = engine.claim(10, LONG, behind + 1_000).await.unwrap();
    assert_eq!(again[0].envelope.id, claimed.envelope.id);
    for claimed in other.into_iter().chain(again) {
        engine.settle(&claimed.lease, Settlement::Done, behind + 1_000).await.unwrap();
    }
    assert!(engine.contents(behind).await.unwrap().depths.is_empty());
}

/// More than are put off at once, and one whose time has come behind them.
#[tokio::test]
async fn what_was_pushed_by_a_clock_far_ahead_hides_nothing_and_comes_in_its_time_and_order() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "time");
    let (behind, ahead) = (now(), now() + 3_600_000);
    let early = |at: usize| {
        let mut early = job(&format!("{at:04}"));
        early.due = ahead;
        early
    };
    engine.push((0..2_500).map(early).collect(), ahead).await.unwrap();
    let mut fresh = job("now");
    fresh.due = behind;
    engine.push(vec![fresh], behind).await.unwrap();
    let contents = engine.contents(behind).await.unwrap();
    let claimed = async {
        loop {
            let claimed = engine.claim(10, LONG, behind).await.unwrap();
            if !claimed.is_empty() {
                return claimed;
            }
        }
    };
    let claimed = tokio::time::timeout(crate::PATIENCE, claimed).await.expect("it is not hidden");
    assert_eq!(claimed.iter().map(|claimed| claimed.envelope.id.as_str()).collect::<Vec<_>>(), ["now"]);
    assert!(contents.depths.iter().map(|depth| depth.delayed).sum::<u64>() >= 1_000, "{contents:?}");
    assert!(engine.claim(10, LONG, behind).await.unwrap().is_empty());
    let mut came = Vec::new();
    while came.len() < 2_500 {
        let claimed = engine.claim(1_000, LONG, ahead).await.unwrap();
        assert!(!claimed.is_empty());
        came.extend(claimed.iter().map(|claimed| (claimed.envelope.id.to_string(), claimed.crashes)));
    }
    assert!(came.is_sorted(), "in the order of their pushes");
    assert!(came.iter().all(|&(_, crashes)| crashes == 0));
}

async fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// The runtime that settled for others may be gone before it is done.
#[test]
fn another_runtime_goes_on_with_an_engine() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let Some(server) = first.block_on(servers::Redis::start()) else { return };
    let engine = engine(&server.url(), "time");
    let claimed = first.block_on(async {
        engine.push(vec![job("a")], now()).await.unwrap();
        let claimed = next(&engine, LONG).await;
        // It is asked for, and nobody has begun with it.
        let begun = poll_once(engine.settle(&claimed.lease, Settlement::Done, now())).await;
        assert!(begun.is_pending());
        claimed
    });
    let later = runtime();
    // The server is a child of the first.
    std::thread::spawn(move || drop(first)).join().unwrap();
    later.block_on(async {
        let settled = async {
            while let Err(error) = engine.settle(&claimed.lease, Settlement::Done, now()).await {
                assert!(error.is_transient() || matches!(error, EngineError::LeaseLost(_)), "{error}");
                if !error.is_transient() {
                    break;
                }
                crate::pause().await;
            }
        };
        tokio::time::timeout(crate::PATIENCE, settled).await.expect("somebody sees to it");
    });
    drop(server);
}
