//! Where jobs are kept: one small trait, and what every engine does alike.
//!
//! Engines keep and hand out; they decide nothing about attempts, backoff or poison, which is the worker's. All times are
//! Unix milliseconds of the queue's own clock ([`Queue`](crate::Queue) says how it goes), handed in as `now`.

mod bounds;
mod config;
mod error;
mod lanes;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use bounds::{Bound, Bounds, Full, OnFull};
pub(crate) use bounds::{Room, There, Usage};
pub use config::EngineConfig;
pub use error::EngineError;
pub(crate) use lanes::{Head, next_lane};
pub use memory::Memory;
#[cfg(feature = "redis")]
pub use redis::{InvalidRedis, Redis, RedisConfig};
use serde::Serialize;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;

use crate::job::{Envelope, JobId, JobState, Priority, Reason};

/// What an engine answers, when it does.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// Keeps jobs.
///
/// Every method can be cancelled: what was asked for has then happened as a whole or not at all, or, for
/// [`claim`](Self::claim), comes back when its lease is over.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// What it is called, as a label: `memory`, `sqlite`, `redis`.
    fn name(&self) -> &'static str;

    /// Takes jobs in, and answers for each of them in order. Whatever is answered with [`Admitted::New`] is as durable as
    /// this engine keeps anything.
    fn push(&self, entries: Vec<Entry>, now: u64) -> Answer<'_, Vec<Admitted>>;

    /// Hands out at most `max` jobs that are due, or whose lease is over, with leases of this length; none when there are
    /// none. The most urgent first, of these the oldest; what has waited for long counts as more urgent.
    ///
    /// Of a job whose lease was over, [`Claimed::crashes`] has grown by one.
    fn claim(&self, max: usize, lease: Duration, now: u64) -> Answer<'_, Vec<Claimed>>;

    /// Makes a lease last for this long from now.
    ///
    /// # Errors
    ///
    /// [`EngineError::LeaseLost`] when the job has been given to somebody else, or is none any more.
    fn extend<'a>(&'a self, lease: &'a Lease, by: Duration, now: u64) -> Answer<'a, ()>;

    /// Ends a claim, in this way.
    ///
    /// # Errors
    ///
    /// [`EngineError::LeaseLost`] as for [`extend`](Self::extend); nothing has changed then.
    fn settle<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()>;

    /// Waits until there may be something to claim: something was pushed or came back, its time has come, a lease is over.
    /// May be early; is late by no more than a second for what other processes did.
    fn ready(&self, now: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// What is in it now.
    fn contents(&self, now: u64) -> Answer<'_, Contents>;

    /// What is known of a job.
    fn find<'a>(&'a self, id: &'a JobId, now: u64) -> Answer<'a, Option<Found>>;

    /// At most `max` dead letters that come after this one, whether it is still there or not: the oldest first, of one
    /// millisecond by id.
    fn dead<'a>(&'a self, after: Option<&'a DeadLetter>, max: usize) -> Answer<'a, Vec<DeadLetter>>;

    /// Puts dead letters back among the waiting jobs, attempts and crashes at 0. Answers how many there were of these; a
    /// replay does not ask for room.
    fn replay<'a>(&'a self, ids: &'a [JobId], now: u64) -> Answer<'a, u64>;

    /// Throws dead letters away, and their ids with them. Answers how many there were of these.
    fn discard<'a>(&'a self, ids: &'a [JobId]) -> Answer<'a, u64>;

    /// Forgets ids and dead letters whose time is over. Called now and then by whoever works.
    fn maintain(&self, now: u64) -> Answer<'_, ()>;

    /// Writes what is to be written and lets go of everything. Nothing can be asked afterwards.
    fn close(&self) -> Answer<'_, ()>;
}

/// A job on its way in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The job.
    pub envelope: Envelope,
    /// When it may be claimed first.
    pub due: u64,
}

impl Entry {
    /// This job, to be claimed from then on.
    pub const fn new(envelope: Envelope, due: u64) -> Self {
        Self { envelope, due }
    }
}

/// What became of a push. Complete by nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is kept.
    New {
        /// What was thrown away for it.
        evicted: Vec<(JobId, Priority)>,
    },
    /// Its id is known; nothing was changed.
    Duplicate(JobState),
    /// There was no room for it.
    Full(Full),
}

/// A job that was handed out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// The job.
    pub envelope: Envelope,
    /// The right to it.
    pub lease: Lease,
    /// How many attempts have failed so far.
    pub attempts: u32,
    /// How often somebody had it and was never heard of again.
    pub crashes: u32,
}

/// The right to a job, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Whose.
    pub id: JobId,
    /// The fencing token: differs for each time that this job was handed out.
    pub token: u64,
}

/// How a claim ends. Complete by nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done; the id is remembered.
    Done,
    /// One attempt more has failed; to be claimed again from then on.
    Retry {
        /// When.
        due: u64,
        /// Why.
        reason: Reason,
    },
    /// Not tried; to be claimed again from then on, attempts and crashes as they were.
    Defer {
        /// When.
        due: u64,
    },
    /// Handed back untouched, in its old place: somebody shuts down.
    Release,
    /// A dead letter.
    Bury {
        /// Why.
        reason: Reason,
        /// With how many failed attempts.
        attempts: u32,
    },
}

/// What an engine has in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Contents {
    /// For each type and priority of which there is something. An engine that cannot tell types apart leaves them empty.
    pub depths: Vec<Depth>,
    /// How many dead letters there are.
    pub dead: u64,
}

/// What there is of one type and priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Depth {
    /// The type.
    pub kind: Arc<str>,
    /// The priority that it was pushed with.
    pub priority: Priority,
    /// Jobs that can be claimed.
    pub waiting: u64,
    /// Jobs whose time has not come.
    pub delayed: u64,
    /// Jobs that somebody has.
    pub active: u64,
    /// Bytes of all of these.
    pub bytes: u64,
    /// Since when the oldest that can be claimed could be, in Unix milliseconds.
    pub oldest: Option<u64>,
}

impl Depth {
    /// For how long the oldest could have been claimed.
    pub(crate) fn age(&self, now: u64) -> Duration {
        Duration::from_millis(self.oldest.map_or(0, |oldest| now.saturating_sub(oldest)))
    }

    pub(crate) const fn none(kind: Arc<str>, priority: Priority) -> Self {
        Self { kind, priority, waiting: 0, delayed: 0, active: 0, bytes: 0, oldest: None }
    }
}

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Where it stands.
    pub state: JobState,
    /// How many attempts have failed.
    pub attempts: u32,
    /// How often somebody had it and was never heard of again.
    pub crashes: u32,
}

/// A job that was given up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The job.
    pub envelope: Envelope,
    /// Why.
    pub reason: Reason,
    /// How many attempts had failed.
    pub attempts: u32,
    /// How often somebody had it and was never heard of again.
    pub crashes: u32,
    /// When, in Unix milliseconds.
    pub buried: u64,
}

/// This long after a time; the end of time when that is beyond it.
pub(crate) fn after(now: u64, duration: Duration) -> u64 {
    now.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
