//! The engine of fleets: BullMQ's keys and scripts on Redis, so that its producers, workers and boards in other languages go
//! on working.
#![doc = include_str!("README.md")]

mod batch;
mod claim;
mod config;
mod ids;
mod link;
mod look;
mod push;
mod scripts;
mod settle;
mod wire;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use batch::Batches;
use claim::Tokens;
pub use config::{InvalidRedis, RedisConfig};
use link::{Links, Via};
use settle::End;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::{
    Admitted, Answer, Claimed, Contents, DeadLetter, Engine, EngineConfig, EngineError, Entry, Found, Lease, Settlement,
};
use crate::job::JobId;

/// How many times as long as a push anything else may take.
const LONGER: u32 = 10;
/// Between two looks for what others pushed: at first, and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Keeps jobs in a queue of BullMQ on Redis.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    config: EngineConfig,
    links: Arc<Links>,
    /// What the locks of this engine begin with.
    owner: Uuid,
    tokens: Tokens,
    pushing: Batches<(Entry, u64), String>,
    settling: Batches<End, ()>,
    /// Something was pushed or put back by this process.
    changed: Notify,
    /// When leases that are over were last looked for, in Unix milliseconds.
    looked: AtomicU64,
}

impl Redis {
    /// Connects when it is first asked for something, and whenever it has to again.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be right. That Redis cannot be reached is no such error.
    pub fn new(redis: RedisConfig, config: EngineConfig) -> Result<Self, InvalidRedis> {
        redis.check()?;
        Ok(Self(Arc::new(Shared {
            config,
            links: Links::new(redis),
            owner: Uuid::now_v7(),
            tokens: Tokens::new(),
            pushing: Batches::new(),
            settling: Batches::new(),
            changed: Notify::new(),
            looked: AtomicU64::new(0),
        })))
    }

    /// Asks over what is connected, for no longer than this.
    fn ask<'a, T, F>(&'a self, limit: Duration, ask: impl FnOnce(Via) -> F + Send + 'a) -> Answer<'a, T>
    where
        T: Send + 'a,
        F: Future<Output = Result<T, EngineError>> + Send + 'a,
    {
        Box::pin(async move {
            let until = Instant::now() + limit;
            let mut used = None;
            let answer = async {
                let link = self.0.links.link().await?;
                used = Some(link.clone());
                ask(Via::new(link, until)).await
            };
            match timeout_at(until, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    // Whatever is wrong with it: the next one who asks does so over a new one.
                    if let Some(link) = used {
                        link.fail();
                    }
                    Err(no_answer(limit))
                }
            }
        })
    }

    /// How long anything but a push may take.
    fn longer(&self) -> Duration {
        self.0.links.config().patience.saturating_mul(LONGER)
    }

    fn changed(&self) {
        self.0.changed.notify_waiters();
    }
}

impl Engine for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn push(&self, entries: Vec<Entry>, now: u64) -> Answer<'_, Vec<Admitted>> {
        Box::pin(async move {
            let mut admitted = Vec::with_capacity(entries.len());
            if let [entry] = &*entries {
                // How long it waits for those before it counts, too.
                let patience = self.0.links.config().patience;
                let pushed = timeout(patience, self.push_one(entry, now)).await;
                admitted.push(pushed.unwrap_or_else(|_| Err(no_answer(patience)))?);
            } else {
                for entries in entries.chunks(push::CHUNK) {
                    admitted.extend(self.push_some(entries, now).await?);
                }
            }
            self.changed();
            Ok(admitted)
        })
    }

    fn claim(&self, max: usize, lease: Duration, now: u64) -> Answer<'_, Vec<Claimed>> {
        Box::pin(async move {
            let mut claimed = Vec::new();
            while claimed.len() < max {
                let some = (max - claimed.len()).min(claim::CHUNK);
                let tokens = self.0.tokens.take(some, Instant::now() + self.longer());
                match self.ask(self.longer(), move |via| self.hand_out(via, some, lease, now, tokens)).await {
                    Ok(more) if more.is_empty() => break,
                    Ok(more) => claimed.extend(more),
                    Err(error) if claimed.is_empty() => return Err(error),
                    // Whatever was claimed is worked on all the same.
                    Err(_) => break,
                }
            }
            Ok(claimed)
        })
    }

    fn extend<'a>(&'a self, lease: &'a Lease, by: Duration, now: u64) -> Answer<'a, ()> {
        self.ask(self.longer(), move |via| self.prolong(via, lease, by, now))
    }

    fn settle<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()> {
        self.end(lease, settlement, now)
    }

    fn ready(&self, now: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let since = Instant::now();
        Box::pin(async move {
            let mut pause = LOOKS.0;
            loop {
                let mut changed = pin!(self.0.changed.notified());
                // Listens before it looks, so that nothing is pushed in between.
                changed.as_mut().enable();
                let now = now.saturating_add(millis(since.elapsed()));
                let due = self.ask(self.longer(), move |via| self.due(via, now)).await;
                // The next claim gives back what one that nobody heard of has taken, which may be all that there is.
                let is_unheard = due.is_ok() && self.0.tokens.has_unheard();
                let wait = match due {
                    Ok(Some(Duration::ZERO)) | Err(EngineError::Closed) => return,
                    Ok(_) if is_unheard => LOOKS.1,
                    Ok(Some(soon)) => soon.min(pause),
                    Ok(None) | Err(_) => pause,
                };
                let _ = timeout(wait, changed).await;
                if is_unheard {
                    return;
                }
                pause = (pause * 2).min(LOOKS.1);
            }
        })
    }

    fn contents(&self, now: u64) -> Answer<'_, Contents> {
        self.ask(self.longer(), move |via| self.look_over(via, now))
    }

    fn find<'a>(&'a self, id: &'a JobId, now: u64) -> Answer<'a, Option<Found>> {
        self.ask(self.longer(), move |via| self.look_up(via, id, now))
    }

    fn dead<'a>(&'a self, after: Option<&'a DeadLetter>, max: usize) -> Answer<'a, Vec<DeadLetter>> {
        self.ask(self.longer(), move |via| self.letters(via, after, max))
    }

    fn replay<'a>(&'a self, ids: &'a [JobId], now: u64) -> Answer<'a, u64> {
        Box::pin(async move {
            let mut replayed = 0;
            for ids in ids.chunks(push::CHUNK) {
                replayed += self.ask(self.longer(), move |via| self.put_back(via, ids, now)).await?;
            }
            self.changed();
            Ok(replayed)
        })
    }

    fn discard<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, u64> {
        Box::pin(async move {
            let mut discarded = 0;
            for ids in ids.chunks(push::CHUNK) {
                discarded += self.ask(self.longer(), move |via| self.throw_away(via, ids)).await?;
            }
            Ok(discarded)
        })
    }

    fn maintain(&self, now: u64) -> Answer<'_, ()> {
        self.ask(self.longer(), move |via| self.clean(via, now))
    }

    fn close(&self) -> Answer<'_, ()> {
        self.0.links.close();
        self.changed();
        Box::pin(async { Ok(()) })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(self.0.links.config()).finish()
    }
}

fn no_answer(limit: Duration) -> EngineError {
    EngineError::Unavailable(format!("no answer within {limit:?}").into())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
