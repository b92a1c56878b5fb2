//! What holds of the engine on Redis alone: real servers that are killed, real processes that are, and the real BullMQ.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod counts;
mod crash;
mod lost;
mod node;
mod outage;
mod time;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buttress_queue::engine::{Claimed, Engine, Entry};
use buttress_queue::{EngineConfig, Envelope, JobId, Redis, RedisConfig};
use serde_json::value::to_raw_value;

/// Beyond it nothing will come any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine on the queue of this name, as patient as tests are that run beside many others.
fn engine(url: &str, queue: &str) -> Redis {
    let patient = RedisConfig::new(url, queue).patience(Duration::from_secs(10));
    Redis::new(patient, EngineConfig::default()).unwrap()
}

/// What the queue's clock says.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn id(name: &str) -> JobId {
    JobId::new(name).unwrap()
}

/// A job that is due now.
fn job(name: &str) -> Entry {
    let created = now();
    Entry::new(Envelope::new(id(name), "test", created, to_raw_value(name).unwrap()), created)
}

/// A while between two looks at another process, which tells nobody what becomes of it: a Redis on its way back, workers until they
/// are killed. Nothing is said of how long anything takes.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Waits for the next job, as a worker does.
async fn next(engine: &Redis, lease: Duration) -> Claimed {
    let next = async {
        loop {
            engine.ready(now()).await;
            if let Some(claimed) = engine.claim(1, lease, now()).await.unwrap_or_default().pop() {
                return claimed;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("a job should have come")
}
