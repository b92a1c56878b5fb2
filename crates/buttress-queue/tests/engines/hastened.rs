//! A Redis by whose clock as much time goes by as by that of the test.
//!
//! Everything else goes by the time that an engine is told, but locks are keys that Redis forgets in its own time. So they are
//! kept from it, and forgotten when the test says that it is late enough.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress_queue::engine::{
    Admitted, Answer, Claimed, Contents, DeadLetter, Engine, Entry, Found, Lease, Settlement,
};
use buttress_queue::{JobId, Redis};

/// Forgets the locks that are over, and keeps the others; locks of less than half a second are left to Redis.
const PASS: &str = "
local now = tonumber(ARGV[1])
for _, lock in ipairs(redis.call('KEYS', '*:lock')) do
  local left = redis.call('PTTL', lock)
  if left > 500 then
    redis.call('PERSIST', lock)
    redis.call('HSET', 'hastened', lock, now + math.ceil(left / 1000) * 1000)
  elseif left == -1 and tonumber(redis.call('HGET', 'hastened', lock)) <= now then
    redis.call('DEL', lock)
  end
end";

pub(crate) struct Hastened {
    engine: Redis,
    url: String,
    now: AtomicU64,
}

impl Hastened {
    pub(crate) const fn new(engine: Redis, url: String) -> Self {
        Self { engine, url, now: AtomicU64::new(0) }
    }

    async fn pass(&self, now: u64) {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        redis::Script::new(PASS).arg(now).invoke_async::<()>(&mut connection).await.unwrap();
    }

    fn at<'a, T, F>(
        &'a self,
        now: u64,
        ask: impl FnOnce(&'a Redis) -> F + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = T> + Send + 'a>>
    where
        T: Send + 'a,
        F: Future<Output = T> + Send + 'a,
    {
        Box::pin(async move {
            let before = self.now.fetch_max(now, Ordering::SeqCst);
            if before < now {
                self.pass(now).await;
            }
            ask(&self.engine).await
        })
    }
}

impl fmt::Debug for Hastened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.fmt(f)
    }
}

impl Engine for Hastened {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn push(&self, entries: Vec<Entry>, now: u64) -> Answer<'_, Vec<Admitted>> {
        self.at(now, move |engine| engine.push(entries, now))
    }

    fn claim(&self, max: usize, lease: Duration, now: u64) -> Answer<'_, Vec<Claimed>> {
        Box::pin(async move {
            let claimed = self.at(now, move |engine| engine.claim(max, lease, now)).await;
            self.pass(now).await;
            claimed
        })
    }

    fn extend<'a>(&'a self, lease: &'a Lease, by: Duration, now: u64) -> Answer<'a, ()> {
        Box::pin(async move {
            let extended = self.at(now, move |engine| engine.extend(lease, by, now)).await;
            self.pass(now).await;
            extended
        })
    }

    fn settle<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()> {
        self.at(now, move |engine| engine.settle(lease, settlement, now))
    }

    fn ready(&self, now: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.at(now, move |engine| engine.ready(now))
    }

    fn contents(&self, now: u64) -> Answer<'_, Contents> {
        self.at(now, move |engine| engine.contents(now))
    }

    fn find<'a>(&'a self, id: &'a JobId, now: u64) -> Answer<'a, Option<Found>> {
        self.at(now, move |engine| engine.find(id, now))
    }

    fn dead<'a>(&'a self, after: Option<&'a DeadLetter>, max: usize) -> Answer<'a, Vec<DeadLetter>> {
        self.engine.dead(after, max)
    }

    fn replay<'a>(&'a self, ids: &'a [JobId], now: u64) -> Answer<'a, u64> {
        self.at(now, move |engine| engine.replay(ids, now))
    }

    fn discard<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, u64> {
        self.engine.discard(ids)
    }

    fn maintain(&self, now: u64) -> Answer<'_, ()> {
        self.at(now, move |engine| engine.maintain(now))
    }

    fn close(&self) -> Answer<'_, ()> {
        self.engine.close()
    }
}
