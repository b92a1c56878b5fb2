//! The jobs that this process holds the locks of.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bullmq::Job;
use tokio::time::Instant;
use uuid::Uuid;

use super::link::Link;

/// How long after its end a lease is kept in mind that nobody settled: a late answer is then told from none.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A job that is held.
pub(super) struct Held {
    pub(super) job: Job,
    /// What its lock in Redis is.
    pub(super) lock: String,
    /// What it was fetched over.
    pub(super) link: Arc<Link>,
    /// Whether the attempt that failed has been counted.
    pub(super) counted: bool,
    until: Instant,
}

/// All that are held.
pub(super) struct Leases {
    /// Of this engine, in locks.
    owner: Uuid,
    next: AtomicU64,
    held: Mutex<HashMap<u64, Held>>,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self { owner: Uuid::now_v7(), next: AtomicU64::new(1), held: Mutex::new(HashMap::new()) }
    }

    /// A fencing token, and the lock that stands for it in Redis.
    pub(super) fn token(&self) -> (u64, String) {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        (token, self.lock(token))
    }

    fn lock(&self, token: u64) -> String {
        format!("{}:{token}", self.owner)
    }

    pub(super) fn hold(&self, token: u64, job: Job, link: &Arc<Link>, lease: Duration) {
        let held =
            Held { job, lock: self.lock(token), link: link.clone(), counted: false, until: Instant::now() + lease };
        self.all().insert(token, held);
    }

    /// What is asked with to extend this lease: the id that BullMQ knows the job by, and the lock.
    pub(super) fn extend(&self, token: u64, by: Duration) -> Option<(String, String)> {
        let mut all = self.all();
        let held = all.get_mut(&token)?;
        held.until = Instant::now() + by;
        Some((held.job.id().to_owned(), held.lock.clone()))
    }

    /// Takes a job out for as long as it is being settled; it is put back unless it [is over](Taken::over).
    pub(super) fn take(&self, token: u64) -> Option<Taken<'_>> {
        let held = self.all().remove(&token)?;
        Some(Taken { leases: self, token, held: Some(held) })
    }

    /// Forgets what nobody will ask for any more.
    pub(super) fn prune(&self) {
        let now = Instant::now();
        self.all().retain(|_, held| held.until + FORGOTTEN > now);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that is being settled.
pub(super) struct Taken<'a> {
    leases: &'a Leases,
    token: u64,
    held: Option<Held>,
}

impl Taken<'_> {
    pub(super) fn held(&mut self) -> &mut Held {
        self.held.as_mut().expect("it is there until it is over")
    }

    /// Nothing more is to be asked with this lease.
    pub(super) fn over(mut self) {
        self.held = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.leases.all().insert(self.token, held);
        }
    }
}
