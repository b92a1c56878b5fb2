//! A Redis that goes away and comes back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use buttress_queue::engine::{Admitted, Engine, Settlement};
use buttress_queue::{EngineConfig, EngineError, JobId, JobState, Redis, RedisConfig};
use buttress_tests::peers::free_address;
use buttress_tests::servers;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{PATIENCE, engine, id, job, next, now, pause};

const LEASE: Duration = Duration::from_secs(600);

/// Works on whatever comes until it is aborted, and tells whenever it is done with something.
fn works(engine: Redis) -> (JoinHandle<()>, Arc<Notify>) {
    let settled = Arc::new(Notify::new());
    let told = Arc::clone(&settled);
    let worker = tokio::spawn(async move {
        loop {
            engine.ready(now()).await;
            for claimed in engine.claim(8, LEASE, now()).await.unwrap_or_default() {
                while let Err(error) = engine.settle(&claimed.lease, Settlement::Done, now()).await {
                    if !error.is_transient() {
                        break;
                    }
                    // Not until there is something to claim: there may be nothing, ever.
                    pause().await;
                }
                told.notify_waiters();
            }
        }
    });
    (worker, settled)
}

// How long something takes is the very claim of the next two, and a server that is not there cannot be simulated; the limits
// are several times what is promised (250 ms, and 5 s).

#[tokio::test]
async fn a_push_is_decided_soon_when_there_is_no_redis() {
    let address = free_address().await;
    let engine = Redis::new(RedisConfig::new(format!("redis://{address}/"), "none"), EngineConfig::default()).unwrap();
    for _ in 0..3 {
        let pushed = timeout(Duration::from_secs(2), engine.push(vec![job("a")], now())).await.expect("it is decided");
        assert!(matches!(pushed, Err(EngineError::Unavailable(_))), "{pushed:?}");
    }
}

#[tokio::test]
async fn work_goes_on_soon_after_redis_is_back() {
    let Some(mut server) = servers::Redis::start_durable().await else { return };
    let engine = engine(&server.url(), "outage");
    let (worker, settled) = works(engine.clone());
    for round in 0..3 {
        let before = id(&format!("before-{round}"));
        engine.push(vec![job(before.as_str())], now()).await.unwrap();
        is_done(&engine, &settled, &before).await;
        server.kill().await;
        let refused = timeout(Duration::from_secs(2), async {
            // The first may be told by its connection, the others know.
            while engine.push(vec![job("during")], now()).await.is_ok() {}
            engine.push(vec![job("during")], now()).await
        });
        assert!(matches!(refused.await.expect("it is decided"), Err(EngineError::Unavailable(_))));
        server.start_again().await;
        let after = id(&format!("after-{round}"));
        let recovered = async {
            while engine.push(vec![job(after.as_str())], now()).await.is_err() {
                pause().await;
            }
            is_done(&engine, &settled, &after).await;
        };
        timeout(Duration::from_secs(20), recovered).await.expect("it works again");
        assert_eq!(engine.find(&before, now()).await.unwrap().unwrap().state, JobState::Done, "nothing is forgotten");
    }
    worker.abort();
}

/// What its process is told by this signal.
fn tell(server: &servers::Redis, signal: Signal) {
    let process = Pid::from_raw(server.process().unwrap().cast_signed()).unwrap();
    kill_process(process, signal).unwrap();
}

/// With leases that nobody would wait for the end of: what was handed out to nobody comes back all the same.
#[tokio::test]
async fn a_redis_that_hangs_holds_up_no_push_and_loses_no_job() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = Redis::new(RedisConfig::new(server.url(), "hangs"), EngineConfig::default()).unwrap();
    let (worker, settled) = works(engine.clone());
    for round in 0..3 {
        let mut acknowledged = Vec::new();
        // In the middle of whatever it does then.
        for at in 0..100 + 10 * round {
            let id = id(&format!("{round}-{at}"));
            if engine.push(vec![job(id.as_str())], now()).await.is_ok() {
                acknowledged.push(id);
            }
        }
        tell(&server, Signal::STOP);
        for _ in 0..3 {
            let refused = timeout(Duration::from_secs(2), engine.push(vec![job("during")], now())).await;
            assert!(matches!(refused, Ok(Err(EngineError::Unavailable(_)))), "{refused:?}");
        }
        // Until the worker has given up, too.
        timeout(PATIENCE, async { while engine.claim(1, LEASE, now()).await.is_ok() {} }).await.unwrap();
        tell(&server, Signal::CONT);
        for id in &acknowledged {
            is_done(&engine, &settled, id).await;
        }
    }
    worker.abort();
}

async fn is_done(engine: &Redis, settled: &Notify, wanted: &JobId) {
    let done = async {
        loop {
            // Listens before it looks.
            let mut next = pin!(settled.notified());
            next.as_mut().enable();
            match engine.find(wanted, now()).await {
                Ok(Some(found)) if found.state == JobState::Done => return,
                Ok(_) => next.await,
                Err(_) => pause().await,
            }
        }
    };
    timeout(PATIENCE, done).await.expect("it should be done");
}

#[tokio::test]
async fn a_job_that_was_claimed_before_an_outage_is_settled_after_it() {
    let Some(mut server) = servers::Redis::start_durable().await else { return };
    let engine = engine(&server.url(), "outage");
    engine.push(vec![job("a"), job("b")], now()).await.unwrap();
    let (done, handed_back) = (next(&engine, LEASE).await, next(&engine, LEASE).await);
    server.kill().await;
    assert!(engine.settle(&done.lease, Settlement::Done, now()).await.unwrap_err().is_transient());
    server.start_again().await;
    for (claimed, settlement) in [(done, Settlement::Done), (handed_back, Settlement::Release)] {
        let settled = async {
            loop {
                match engine.settle(&claimed.lease, settlement.clone(), now()).await {
                    Err(error) if error.is_transient() => pause().await,
                    settled => return settled,
                }
            }
        };
        timeout(PATIENCE, settled).await.expect("Redis is back").unwrap();
        let again = engine.settle(&claimed.lease, settlement.clone(), now()).await;
        assert!(matches!(again, Err(EngineError::LeaseLost(_))), "{again:?}");
    }
    assert_eq!(engine.find(&id("a"), now()).await.unwrap().unwrap().state, JobState::Done);
    let again = next(&engine, LEASE).await;
    assert_eq!((again.envelope.id, again.attempts, again.crashes), (id("b"), 0, 0));
    let known = engine.push(vec![job("b")], now()).await.unwrap();
    assert_eq!(known, [Admitted::Duplicate(JobState::Active)]);
}
