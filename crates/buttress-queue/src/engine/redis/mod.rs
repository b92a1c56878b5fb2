//! The engine of fleets: BullMQ's keys and scripts on Redis, so that its producers, workers and boards in other languages go
//! on working.
#![doc = include_str!("README.md")]

mod config;
mod ids;
mod leases;
mod link;
mod scripts;
mod wire;
mod work;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bullmq::Error;
pub use config::{InvalidRedis, RedisConfig};
use leases::Leases;
use link::{Link, Links};
use tokio::sync::Notify;
use tokio::time::timeout;

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
    leases: Leases,
    /// Something was pushed or put back by this process.
    changed: Notify,
    /// When leases that are over were last looked for, in Unix milliseconds.
    looked: AtomicU64,
    /// Whether the last claim got all that it asked for.
    plenty: AtomicBool,
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
            leases: Leases::new(),
            changed: Notify::new(),
            looked: AtomicU64::new(0),
            plenty: AtomicBool::new(false),
        })))
    }

    /// Asks over what is connected, for no longer than this.
    fn ask<'a, T, F>(&'a self, limit: Duration, ask: impl FnOnce(Arc<Link>) -> F + Send + 'a) -> Answer<'a, T>
    where
        T: Send + 'a,
        F: Future<Output = Result<T, EngineError>> + Send + 'a,
    {
        Box::pin(async move {
            let mut used = None;
            let answer = async {
                let link = self.0.links.link().await?;
                used = Some(link.clone());
                ask(link).await
            };
            match timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    // Whatever is wrong with it: the next one who asks does so over a new one.
                    if let Some(link) = used {
                        link.fail();
                    }
                    Err(EngineError::Unavailable(format!("no answer within {limit:?}").into()))
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
            for entries in entries.chunks(work::CHUNK) {
                let patience = self.0.links.config().patience;
                let entries = entries.to_vec();
                admitted.extend(self.ask(patience, move |link| self.admit(link, entries, now)).await?);
            }
            self.changed();
            Ok(admitted)
        })
    }

    fn claim(&self, max: usize, lease: Duration, now: u64) -> Answer<'_, Vec<Claimed>> {
        self.ask(self.longer(), move |link| self.hand_out(link, max, lease, now))
    }

    fn extend<'a>(&'a self, lease: &'a Lease, by: Duration, _now: u64) -> Answer<'a, ()> {
        self.ask(self.longer(), move |link| self.prolong(link, lease, by))
    }

    fn settle<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()> {
        Box::pin(async move {
            let lost = || EngineError::LeaseLost(lease.id.clone());
            let mut taken = self.0.leases.take(lease.token).ok_or_else(lost)?;
            let limit = self.longer();
            let settled = match timeout(limit, self.end(taken.held(), settlement, lease, now)).await {
                Ok(settled) => settled,
                Err(_) => {
                    taken.held().link.fail();
                    Err(EngineError::Unavailable(format!("no answer within {limit:?}").into()))
                }
            };
            if !matches!(&settled, Err(error) if error.is_transient()) {
                taken.over();
            }
            self.changed();
            settled
        })
    }

    fn ready(&self, _now: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut pause = LOOKS.0;
            loop {
                let mut changed = pin!(self.0.changed.notified());
                // Listens before it looks, so that nothing is pushed in between.
                changed.as_mut().enable();
                let wait = match self.ask(self.longer(), |link| self.due(link)).await {
                    Ok(Some(Duration::ZERO)) | Err(EngineError::Closed) => return,
                    Ok(Some(soon)) => soon.min(pause),
                    Ok(None) | Err(_) => pause,
                };
                let _ = timeout(wait, changed).await;
                pause = (pause * 2).min(LOOKS.1);
            }
        })
    }

    fn contents(&self, _now: u64) -> Answer<'_, Contents> {
        self.ask(self.longer(), move |link| async move { self.count(&link, work::LOOKED_AT).await })
    }

    fn find<'a>(&'a self, id: &'a JobId, _now: u64) -> Answer<'a, Option<Found>> {
        self.ask(self.longer(), move |link| self.look_up(link, id))
    }

    fn dead<'a>(&'a self, after: Option<&'a DeadLetter>, max: usize) -> Answer<'a, Vec<DeadLetter>> {
        self.ask(self.longer(), move |link| self.letters(link, after, max))
    }

    fn replay<'a>(&'a self, ids: &'a [JobId], _now: u64) -> Answer<'a, u64> {
        Box::pin(async move {
            let mut replayed = 0;
            for ids in ids.chunks(work::CHUNK) {
                replayed += self.ask(self.longer(), move |link| self.put_back(link, ids)).await?;
            }
            self.changed();
            Ok(replayed)
        })
    }

    fn discard<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, u64> {
        Box::pin(async move {
            let mut discarded = 0;
            for ids in ids.chunks(work::CHUNK) {
                discarded += self.ask(self.longer(), move |link| self.throw_away(link, ids)).await?;
            }
            Ok(discarded)
        })
    }

    fn maintain(&self, _now: u64) -> Answer<'_, ()> {
        self.0.leases.prune();
        self.ask(self.longer(), |link| self.clean(link))
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

/// The time that BullMQ goes by: what the wall clock says. A queue's own time is turned into it by how far ahead it is.
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// A time of a queue whose clock says `now`, by the wall clock.
fn by_the_wall(time: u64, now: u64) -> u64 {
    wall().saturating_add(time.saturating_sub(now))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What to say of an error when a lease was asked with.
fn of_lease(error: Error, lease: &Lease, link: &Link) -> EngineError {
    match error {
        // No such job, no lock, not active, or the lock of somebody else.
        Error::Script { code: -1 | -2 | -3 | -6, .. } => EngineError::LeaseLost(lease.id.clone()),
        error => link::error(error, link),
    }
}
