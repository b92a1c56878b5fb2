//! Whatever is done with an engine in memory and with one in a file, in whatever order: they say the same.

use std::fmt::Debug;
use std::time::Duration;

use buttress_queue::engine::{Engine, Entry, Lease, Settlement};
use buttress_queue::{Bound, Bounds, EngineConfig, EngineError, JobId, Memory, OnFull, Priority, Sqlite};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::subject::{T, buried, id, job, jobs, retry};

/// The ids there are.
const IDS: u8 = 8;

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<(u8, Priority, u64, usize)>),
    Claim {
        max: usize,
        lease: u64,
    },
    Extend {
        nth: usize,
        by: u64,
    },
    Settle {
        nth: usize,
        how: How,
    },
    Replay(Vec<u8>),
    Discard(Vec<u8>),
    Maintain,
    /// Time goes on, or back.
    Time(i64),
}

#[derive(Clone, Debug)]
enum How {
    Done,
    Retry(u64),
    Defer(u64),
    Release,
    Bury(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = (0..4_usize).prop_map(Priority::of_rank);
    let how = prop_oneof![
        3 => Just(How::Done),
        2 => (0..40_u64).prop_map(How::Retry),
        1 => (0..40_u64).prop_map(How::Defer),
        1 => Just(How::Release),
        2 => (0..9_u32).prop_map(How::Bury),
    ];
    let delay = prop_oneof![3 => Just(0), 1 => 0..40_u64];
    prop_oneof![
        6 => vec((0..IDS, priority, delay, 2..400_usize), 1..4).prop_map(Step::Push),
        6 => (0..4_usize, 1..60_u64).prop_map(|(max, lease)| Step::Claim { max, lease }),
        1 => (0..6_usize, 0..60_u64).prop_map(|(nth, by)| Step::Extend { nth, by }),
        6 => (0..6_usize, how).prop_map(|(nth, how)| Step::Settle { nth, how }),
        1 => vec(0..IDS, 0..3).prop_map(Step::Replay),
        1 => vec(0..IDS, 0..3).prop_map(Step::Discard),
        1 => Just(Step::Maintain),
        4 => (-20..80_i64).prop_map(Step::Time),
    ]
}

fn config(on_full: OnFull) -> EngineConfig {
    let bounds = Bounds::new(Bound { jobs: 1_000, bytes: 1_800 }).of(Priority::Low, jobs(2)).on_full(on_full);
    let millis = Duration::from_millis;
    EngineConfig::default().bounds(bounds).remember(millis(50)).ageing(millis(20)).keep_dead(millis(100))
}

/// The two, and the leases of each: those of one job have different tokens.
struct Both {
    memory: Memory,
    sqlite: Sqlite,
    leases: Vec<[Lease; 2]>,
    now: u64,
}

/// The same of both, as far as it can be told.
fn same<T: Debug>(
    memory: Result<T, EngineError>,
    sqlite: Result<T, EngineError>,
) -> Result<Option<[T; 2]>, TestCaseError> {
    match (memory, sqlite) {
        (Ok(memory), Ok(sqlite)) => Ok(Some([memory, sqlite])),
        (Err(memory), Err(sqlite)) => {
            prop_assert_eq!(memory.to_string(), sqlite.to_string());
            Ok(None)
        }
        (memory, sqlite) => Err(TestCaseError::fail(format!("{memory:?} and {sqlite:?}"))),
    }
}

macro_rules! both {
    ($both:expr, $method:ident ( $($argument:expr),* )) => {
        same($both.memory.$method($($argument),*).await, $both.sqlite.$method($($argument),*).await)?
    };
}

impl Both {
    async fn step(&mut self, step: Step) -> TestCaseResult {
        let now = self.now;
        match step {
            Step::Push(entries) => {
                let entries: Vec<Entry> = entries
                    .into_iter()
                    .map(|(name, priority, delay, bytes)| {
                        job(&format!("{name}")).priority(priority).bytes(bytes).due(now + delay)
                    })
                    .collect();
                if let Some([memory, sqlite]) = both!(self, push(entries.clone(), now)) {
                    prop_assert_eq!(memory, sqlite);
                }
            }
            Step::Claim { max, lease } => self.claim(max, Duration::from_millis(lease)).await?,
            Step::Extend { nth, by } => {
                if let Some([memory, sqlite]) = self.leases.get(nth) {
                    let by = Duration::from_millis(by);
                    same(self.memory.extend(memory, by, now).await, self.sqlite.extend(sqlite, by, now).await)?;
                }
            }
            Step::Settle { nth, how } if nth < self.leases.len() => {
                let settlement = match how {
                    How::Done => Settlement::Done,
                    How::Retry(after) => retry(now + after),
                    How::Defer(after) => Settlement::Defer { due: now + after },
                    How::Release => Settlement::Release,
                    How::Bury(attempts) => buried("broken", attempts),
                };
                let [memory, sqlite] = self.leases.remove(nth);
                let memory = self.memory.settle(&memory, settlement.clone(), now).await;
                same(memory, self.sqlite.settle(&sqlite, settlement, now).await)?;
            }
            Step::Settle { .. } => {}
            Step::Replay(names) => {
                let names = names_of(names);
                if let Some([memory, sqlite]) = both!(self, replay(&names, now)) {
                    prop_assert_eq!(memory, sqlite);
                }
            }
            Step::Discard(names) => {
                let names = names_of(names);
                if let Some([memory, sqlite]) = both!(self, discard(&names)) {
                    prop_assert_eq!(memory, sqlite);
                }
            }
            Step::Maintain => drop(both!(self, maintain(now))),
            Step::Time(by) => self.now = now.saturating_add_signed(by),
        }
        self.look().await
    }

    async fn claim(&mut self, max: usize, lease: Duration) -> TestCaseResult {
        let Some([memory, sqlite]) = both!(self, claim(max, lease, self.now)) else { return Ok(()) };
        let told = |claimed: &buttress_queue::engine::Claimed| {
            (serde_json::to_string(&claimed.envelope).unwrap(), claimed.attempts, claimed.crashes)
        };
        prop_assert_eq!(memory.iter().map(told).collect::<Vec<_>>(), sqlite.iter().map(told).collect::<Vec<_>>());
        let pairs = memory.into_iter().zip(sqlite);
        self.leases.extend(pairs.map(|(memory, sqlite)| [memory.lease, sqlite.lease]));
        Ok(())
    }

    async fn look(&self) -> TestCaseResult {
        if let Some([memory, sqlite]) = both!(self, contents(self.now)) {
            prop_assert_eq!(memory, sqlite);
        }
        for name in 0..IDS {
            if let Some([memory, sqlite]) = both!(self, find(&id(&name.to_string()), self.now)) {
                prop_assert_eq!(memory, sqlite);
            }
        }
        if let Some([memory, sqlite]) = both!(self, dead(None, 100)) {
            prop_assert_eq!(format!("{memory:?}"), format!("{sqlite:?}"));
        }
        Ok(())
    }
}

fn names_of(names: Vec<u8>) -> Vec<JobId> {
    names.into_iter().map(|name| id(&name.to_string())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_and_memory_say_the_same(steps in vec(step(), 1..50), evicts in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let config = config(if evicts { OnFull::Evict } else { OnFull::Reject });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let sqlite = Sqlite::open(folder.path().join("queue.db"), config.clone()).unwrap();
            let mut both = Both { memory: Memory::new(config), sqlite, leases: Vec::new(), now: T };
            for step in steps {
                both.step(step).await?;
            }
            TestCaseResult::Ok(())
        })?;
    }
}
