//! What is counted along by type: right whatever is done with a queue, and not believed where others took part.

use std::collections::BTreeMap;
use std::time::Duration;

use buttress_queue::engine::{Claimed, Contents, Engine, Entry, Settlement};
use buttress_queue::{Priority, Reason};
use buttress_tests::servers;
use redis::aio::MultiplexedConnection;

use crate::{engine, job, now};

const LONG: Duration = Duration::from_secs(600);

/// By looking at all there is: jobs, bytes, and how many are put off, of each priority and name.
const LOOK: &str = "
local found, prefix = {}, 'bull:counts:'
local function look(ids, delayed)
  for _, id in ipairs(ids) do
    local job = redis.call('HMGET', prefix .. id, 'priority', 'name', 'bt:size')
    for what, more in pairs({ jobs = 1, bytes = tonumber(job[3]), delayed = delayed }) do
      local field = job[1] .. ' ' .. what .. ' ' .. job[2]
      found[field] = (found[field] or 0) + more
    end
  end
end
look(redis.call('LRANGE', prefix .. 'wait', 0, -1), 0)
look(redis.call('LRANGE', prefix .. 'active', 0, -1), 0)
look(redis.call('ZRANGE', prefix .. 'prioritized', 0, -1), 0)
look(redis.call('ZRANGE', prefix .. 'delayed', 0, -1), 1)
local told = {}
for field, count in pairs(found) do
  if count > 0 then
    table.insert(told, field)
    table.insert(told, tostring(count))
  end
end
return told";

async fn connection(url: &str) -> MultiplexedConnection {
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}

/// Numbers by chance, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn entry(&mut self, at: u64, now: u64) -> Entry {
        let mut entry = job(&format!("job-{at}"));
        entry.envelope.kind = ["mail", "call", "a b"][self.below(3) as usize].into();
        entry.envelope.priority = Priority::of_rank(self.below(4) as usize);
        entry.due = now + if self.below(3) == 0 { self.below(2_000) } else { 0 };
        entry
    }

    fn settlement(&mut self, now: u64) -> Settlement {
        match self.below(6) {
            0 => Settlement::Retry { due: now + self.below(2_000), reason: Reason::from("broken") },
            1 => Settlement::Defer { due: now + self.below(2_000) },
            2 => Settlement::Release,
            3 => Settlement::Bury { reason: Reason::from("broken"), attempts: 1 },
            _ => Settlement::Done,
        }
    }
}

#[tokio::test]
async fn what_is_counted_by_type_is_what_there_is_whatever_is_done() {
    let Some(server) = servers::Redis::start().await else { return };
    // Asked what is there, it would count anew, and so it is not asked.
    let engine = engine(&server.url(), "counts");
    let mut connection = connection(&server.url()).await;
    let (mut chance, mut now, mut claimed) = (Chance(17), now(), Vec::<Claimed>::new());
    for step in 0..400 {
        match chance.below(8) {
            0..3 => {
                let entries = (0..chance.below(6)).map(|at| chance.entry(step * 10 + at, now)).collect();
                engine.push(entries, now).await.unwrap();
            }
            3..5 => claimed.extend(engine.claim(chance.below(8) as usize, LONG, now).await.unwrap()),
            5 if !claimed.is_empty() => {
                let ended = claimed.swap_remove(chance.below(claimed.len() as u64) as usize);
                engine.settle(&ended.lease, chance.settlement(now), now).await.unwrap();
            }
            6 => {
                let letters = engine.dead(None, 3).await.unwrap();
                let ids: Vec<_> = letters.into_iter().map(|letter| letter.envelope.id).collect();
                engine.replay(&ids, now).await.unwrap();
            }
            _ => now += chance.below(1_000),
        }
        let there: BTreeMap<String, String> = redis::Script::new(LOOK).invoke_async(&mut connection).await.unwrap();
        let counted: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg("bull:counts:buttress:types").query_async(&mut connection).await.unwrap();
        assert_eq!(counted, there, "after step {step}");
    }
}

/// So many jobs of a type that are due then.
fn many(kind: &str, count: usize, due: u64) -> Vec<Entry> {
    let entry = |at| {
        let mut entry = job(&format!("{kind}-{at}"));
        entry.envelope.kind = kind.into();
        entry.due = due;
        entry
    };
    (0..count).map(entry).collect()
}

fn waiting(contents: &Contents) -> Vec<(&str, u64)> {
    contents.depths.iter().map(|depth| (&*depth.kind, depth.waiting)).collect()
}

#[tokio::test]
async fn where_others_take_part_what_is_beyond_a_thousand_is_counted_without_its_type() {
    let Some(server) = servers::Redis::start().await else { return };
    let engine = engine(&server.url(), "counts");
    let now = now();
    engine.push([many("a", 1_500, now), many("b", 500, now)].concat(), now).await.unwrap();
    assert_eq!(waiting(&engine.contents(now).await.unwrap()), [("a", 1_500), ("b", 500)]);
    // One of somebody else's, who counts nothing.
    let mut connection = connection(&server.url()).await;
    let mut add = redis::pipe();
    add.cmd("HSET").arg("bull:counts:theirs").arg(&["name", "c", "data", "{}", "timestamp", "1", "priority", "5"]);
    add.cmd("ZADD").arg("bull:counts:prioritized").arg(5 * 0x1_0000_0000_u64 + 5_000).arg("theirs");
    add.exec_async(&mut connection).await.unwrap();
    assert_eq!(waiting(&engine.contents(now).await.unwrap()), [("", 1_001), ("a", 1_000)]);
    // When there is no more than can be looked at, everything is known again, and goes on being.
    for claimed in engine.claim(1_501, LONG, now).await.unwrap() {
        engine.settle(&claimed.lease, Settlement::Done, now).await.unwrap();
    }
    assert_eq!(waiting(&engine.contents(now).await.unwrap()), [("b", 499), ("c", 1)]);
    engine.push(many("d", 2_000, now), now).await.unwrap();
    assert_eq!(waiting(&engine.contents(now).await.unwrap()), [("b", 499), ("c", 1), ("d", 2_000)]);
}
