//! An engine under test, and what the sentences are written with.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use buttress_queue::engine::{Admitted, Claimed, DeadLetter, Engine, Entry, Lease, Settlement};
use buttress_queue::{Bound, Bounds, EngineConfig, EngineError, Envelope, JobId, JobState, Priority, Reason};

/// A time at which a test begins, in Unix milliseconds.
pub(crate) const T: u64 = 1_800_000_000_000;
pub(crate) const SECOND: u64 = 1_000;
pub(crate) const HOUR: u64 = 3_600 * SECOND;
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// An engine that nothing is in, and what must outlive it.
pub(crate) struct Subject {
    pub(crate) engine: Arc<dyn Engine>,
    _kept: Box<dyn Any + Send>,
}

impl Subject {
    pub(crate) fn new(engine: impl Engine, kept: impl Any + Send) -> Self {
        Self { engine: Arc::new(engine), _kept: Box::new(kept) }
    }

    /// Pushes at a time, and expects all to be new.
    pub(crate) async fn push(&self, entries: Vec<Entry>, now: u64) {
        for admitted in self.admit(entries, now).await {
            assert_eq!(admitted, Admitted::New { evicted: Vec::new() });
        }
    }

    pub(crate) async fn admit(&self, entries: Vec<Entry>, now: u64) -> Vec<Admitted> {
        let expected = entries.len();
        let admitted = self.engine.push(entries, now).await.unwrap();
        assert_eq!(admitted.len(), expected, "one answer for each");
        admitted
    }

    pub(crate) async fn admit_one(&self, entry: Entry, now: u64) -> Admitted {
        self.admit(vec![entry], now).await.remove(0)
    }

    pub(crate) async fn claim(&self, max: usize, now: u64) -> Vec<Claimed> {
        self.engine.claim(max, LEASE, now).await.unwrap()
    }

    /// The only job there is to claim.
    pub(crate) async fn claim_one(&self, now: u64) -> Claimed {
        let mut claimed = self.claim(10, now).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        claimed.remove(0)
    }

    /// The ids of all there is to claim.
    pub(crate) async fn claim_ids(&self, now: u64) -> Vec<String> {
        ids(&self.claim(100, now).await)
    }

    pub(crate) async fn settle(&self, lease: &Lease, settlement: Settlement, now: u64) {
        self.engine.settle(lease, settlement, now).await.unwrap();
    }

    /// Pushes a job, has it fail for good, and answers its id.
    pub(crate) async fn bury(&self, name: &str, now: u64) -> JobId {
        self.push(vec![job(name).due(now)], now).await;
        let claimed = self.claim_one(now).await;
        self.settle(&claimed.lease, buried("broken", 3), now).await;
        claimed.envelope.id
    }

    pub(crate) async fn dead(&self, after: Option<&DeadLetter>, max: usize) -> Vec<DeadLetter> {
        self.engine.dead(after, max).await.unwrap()
    }

    pub(crate) async fn state(&self, name: &str, now: u64) -> Option<JobState> {
        self.engine.find(&id(name), now).await.unwrap().map(|found| found.state)
    }
}

/// What a test pushes, before it says when.
pub(crate) struct Pushed(Envelope);

/// A job of normal priority with this name as id.
pub(crate) fn job(name: &str) -> Pushed {
    Pushed(Envelope::new(id(name), "test", T, serde_json::value::to_raw_value(name).unwrap()))
}

impl Pushed {
    pub(crate) fn priority(mut self, priority: Priority) -> Self {
        self.0.priority = priority;
        self
    }

    pub(crate) fn kind(mut self, kind: &str) -> Self {
        self.0.kind = kind.into();
        self
    }

    /// With so many bytes of data.
    pub(crate) fn bytes(mut self, bytes: usize) -> Self {
        let data = "x".repeat(bytes.checked_sub(2).expect("two quotes"));
        self.0.data = serde_json::value::to_raw_value(&data).unwrap();
        self
    }

    pub(crate) fn due(self, due: u64) -> Entry {
        Entry::new(self.0, due)
    }

    /// What it is counted as.
    pub(crate) fn size(&self) -> u64 {
        self.0.size()
    }
}

pub(crate) fn id(name: &str) -> JobId {
    JobId::new(name).unwrap()
}

pub(crate) fn ids(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|claimed| claimed.envelope.id.to_string()).collect()
}

pub(crate) fn letters(dead: &[DeadLetter]) -> Vec<String> {
    dead.iter().map(|letter| letter.envelope.id.to_string()).collect()
}

pub(crate) fn buried(reason: &'static str, attempts: u32) -> Settlement {
    Settlement::Bury { reason: Reason::from(reason), attempts }
}

pub(crate) fn retry(due: u64) -> Settlement {
    Settlement::Retry { due, reason: Reason::from("broken") }
}

pub(crate) fn jobs(jobs: u64) -> Bound {
    Bound { jobs, bytes: u64::MAX }
}

pub(crate) fn within(bounds: Bounds) -> EngineConfig {
    EngineConfig::default().bounds(bounds)
}

pub(crate) fn is_lost(error: &EngineError, name: &str) -> bool {
    matches!(error, EngineError::LeaseLost(lost) if lost.as_str() == name)
}
