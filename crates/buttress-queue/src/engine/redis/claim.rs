//! Jobs on their way to whoever works on them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::link::{LATE, Via};
use super::wire::Fields;
use super::{Redis, ids, millis, scripts};
use crate::engine::{Claimed, EngineError, Lease, Settlement};

/// How many jobs are claimed by one question.
pub(super) const CHUNK: usize = 256;
/// Leases that are over are looked for this often, in milliseconds, and whenever there is nothing else to claim.
const LOOK: u64 = 100;

type Result<T> = std::result::Result<T, EngineError>;

/// The tokens that claims are made with.
pub(super) struct Tokens {
    next: AtomicU64,
    /// Those of claims of which nothing was heard, and until when they may yet be made: what was handed out with them is
    /// nobody's.
    unheard: Mutex<Vec<Unheard>>,
}

#[derive(Clone, Copy)]
struct Unheard {
    first: u64,
    last: u64,
    until: Instant,
}

impl Tokens {
    pub(super) const fn new() -> Self {
        Self { next: AtomicU64::new(1), unheard: Mutex::new(Vec::new()) }
    }

    /// For a claim of so many, that is made by then or never.
    pub(super) fn take(&self, max: usize, until: Instant) -> Taken<'_> {
        let first = self.next.fetch_add(max as u64, Relaxed);
        Taken { tokens: self, unheard: Some(Unheard { first, last: first + max as u64 - 1, until: until + 2 * LATE }) }
    }

    /// Whether claims may have taken jobs that nobody has.
    pub(super) fn has_unheard(&self) -> bool {
        !self.unheard().is_empty()
    }

    fn unheard(&self) -> MutexGuard<'_, Vec<Unheard>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokens of a claim that is being made; looked after, unless it is [heard of](Self::heard).
pub(super) struct Taken<'a> {
    tokens: &'a Tokens,
    unheard: Option<Unheard>,
}

impl Taken<'_> {
    fn first(&self) -> u64 {
        self.unheard.map_or(0, |taken| taken.first)
    }

    fn heard(&mut self) {
        self.unheard = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.tokens.unheard().extend(self.unheard);
    }
}

impl Redis {
    pub(super) async fn hand_out(
        &self,
        via: Via,
        max: usize,
        lease: Duration,
        now: u64,
        mut tokens: Taken<'_>,
    ) -> Result<Vec<Claimed>> {
        let look = now.abs_diff(self.0.looked.load(Relaxed)) >= LOOK;
        if look {
            self.0.looked.store(now, Relaxed);
        }
        let (asked, unheard) = (Instant::now(), self.0.tokens.unheard().clone());
        let ageing = self.0.config.ageing;
        let call = via
            .call(&scripts::CLAIM, now)
            .arg(max)
            .arg(millis(lease).max(1))
            .arg(self.lock(""))
            .arg(tokens.first())
            .arg(if ageing == Duration::MAX { 0 } else { millis(ageing).max(1) })
            .arg(u8::from(look))
            .args(self.numbers().0)
            .args(unheard.iter().flat_map(|unheard| [unheard.first, unheard.last]));
        let jobs: Vec<[String; 11]> = via.run(call).await?;
        tokens.heard();
        if !unheard.is_empty() {
            self.0.tokens.unheard().retain(|unheard| unheard.until >= asked);
        }
        let mut claimed = Vec::with_capacity(jobs.len());
        for fields in jobs {
            match self.read(fields) {
                Ok(job) => claimed.push(job),
                Err((lease, reason)) => {
                    let bury = Settlement::Bury { reason: reason.into(), attempts: 0 };
                    self.end_at(&via, &lease, bury, now).await?;
                }
            }
        }
        Ok(claimed)
    }

    /// A job that was handed out; or the lock and id of one that is to fail by another worker's rules, or is not of our kind.
    fn read(&self, fields: [String; 11]) -> std::result::Result<Claimed, ((String, String), String)> {
        let [token, raw, name, data, options, created, priority, key, attempts, crashes, refused] = fields;
        let envelope = Fields {
            id: &raw,
            name: &name,
            data,
            options: &options,
            created: created.parse().unwrap_or_default(),
            priority: &priority,
            key: &key,
        }
        .envelope(self.numbers());
        match envelope {
            Some(envelope) if refused.is_empty() => Ok(Claimed {
                lease: Lease { id: envelope.id.clone(), token: token.parse().unwrap_or_default() },
                envelope,
                attempts: attempts.parse().unwrap_or_default(),
                crashes: crashes.parse().unwrap_or_default(),
            }),
            Some(_) => Err(((raw, self.lock(&token)), refused)),
            None => Err(((raw, self.lock(&token)), "its id is not one of visible ASCII characters".to_owned())),
        }
    }

    /// What the lock in Redis is that stands for a fencing token.
    pub(super) fn lock(&self, token: impl std::fmt::Display) -> String {
        format!("{}:{token}", self.0.owner)
    }

    pub(super) async fn prolong(&self, via: Via, lease: &Lease, by: Duration, now: u64) -> Result<()> {
        let call = via.call(&scripts::EXTEND, now).arg(self.lock(lease.token)).arg(millis(by).max(1));
        match via.run(call.args(ids::candidates(&lease.id))).await? {
            true => Ok(()),
            false => Err(EngineError::LeaseLost(lease.id.clone())),
        }
    }

    /// How long until something can be claimed, as far as is known.
    pub(super) async fn due(&self, via: Via, now: u64) -> Result<Option<Duration>> {
        let due: i64 = via.run(via.call(&scripts::DUE, now)).await?;
        Ok(u64::try_from(due).ok().map(Duration::from_millis))
    }
}
