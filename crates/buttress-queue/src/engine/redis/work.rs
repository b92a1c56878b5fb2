//! What is asked of BullMQ.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use bullmq::{Job, RetryOptions, Worker};
use futures_util::future::join_all;

use super::leases::Held;
use super::link::{self, Link};
use super::scripts::{self, Call};
use super::wire::{self, Fields};
use super::{Redis, by_the_wall, ids, millis, of_lease, wall};
use crate::engine::{
    Admitted, Claimed, Contents, DeadLetter, Depth, EngineError, Entry, Found, Lease, Room, Settlement, There, Usage,
};
use crate::job::{JobId, JobState, Priority, Reason};

/// How many jobs are pushed, replayed or discarded by one question.
pub(super) const CHUNK: usize = 32;
/// How many jobs of each priority and state are looked at to tell what there is.
pub(super) const LOOKED_AT: usize = 1000;
/// Leases that are over are looked for this often, in milliseconds, and whenever there is nothing else to claim.
const LOOK: u64 = 100;
/// How many jobs are cleaned away by one question, and how many such questions there are at a time.
const CLEANED: (u32, usize) = (1000, 50);

type Result<T> = std::result::Result<T, EngineError>;

impl Redis {
    fn call<'a>(&self, script: &'a redis::Script, link: &Link) -> Call<'a> {
        Call::new(script, link.keys(), wall())
    }

    fn numbers(&self) -> &wire::Numbers {
        &self.0.links.config().numbers
    }

    pub(super) async fn admit(&self, link: Arc<Link>, entries: Vec<Entry>, now: u64) -> Result<Vec<Admitted>> {
        let answers = self.offer(&link, &entries, self.0.config.bounds.most(), now).await?;
        let mut admitted = Vec::with_capacity(entries.len());
        for (entry, answer) in entries.iter().zip(answers) {
            admitted.push(match answer.as_str() {
                "new" => Admitted::New { evicted: Vec::new() },
                "lane" | "total" => self.make_room(&link, entry, now).await?,
                state => Admitted::Duplicate(state_of(state)),
            });
        }
        Ok(admitted)
    }

    /// Pushes, and answers what the script says of each.
    async fn offer(&self, link: &Link, entries: &[Entry], most: u64, now: u64) -> Result<Vec<String>> {
        let config = &self.0.config;
        let mut call = self.call(&scripts::PUSH, link).arg(millis(config.remember)).arg(most);
        for Entry { envelope, due } in entries {
            let due = if *due > now { by_the_wall(*due, now) } else { 0 };
            let delay = due.saturating_sub(wall());
            let number = self.numbers().of(envelope.priority);
            let opts = wire::options(envelope, number, delay, config.remember, config.keep_dead)
                .map_err(|error| EngineError::Failed(error.into()))?;
            let fits = config.bounds.room(envelope.priority, envelope.size(), &[There::default(); 4]) == Room::Yes;
            let lane = match (fits, most) {
                // For one that is too large there is never room.
                (false, _) => 0,
                (true, u64::MAX) => u64::MAX,
                (true, _) => config.bounds.most_of(envelope.priority),
            };
            call = call
                .arg(&*ids::encode(&envelope.id))
                .arg(&*envelope.kind)
                .arg(envelope.data.get())
                .arg(opts)
                .arg(envelope.created)
                .arg(due)
                .arg(number)
                .arg(lane)
                .arg(envelope.size())
                .arg(envelope.key.as_deref().unwrap_or_default());
        }
        call.run(link.connection()).await.map_err(|error| link::error(error, link))
    }

    /// Throws something away for a job, if that is allowed and helps.
    async fn make_room(&self, link: &Link, entry: &Entry, now: u64) -> Result<Admitted> {
        let (priority, size) = (entry.envelope.priority, entry.envelope.size());
        let mut evicted = Vec::new();
        loop {
            let there = there(&self.count(link, LOOKED_AT).await?);
            match self.0.config.bounds.room(priority, size, &there) {
                Room::Yes => break,
                Room::Full(full) => return Ok(Admitted::Full(full)),
                Room::Evict(from) => {
                    let call = self.call(&scripts::EVICT, link).arg(self.numbers().of(from));
                    let gone: Option<String> =
                        call.run(link.connection()).await.map_err(|error| link::error(error, link))?;
                    evicted.extend(gone.and_then(|raw| ids::decode(&raw)).map(|id| (id, from)));
                }
            }
        }
        let answers = self.offer(link, std::slice::from_ref(entry), u64::MAX, now).await?;
        Ok(match answers.first().map_or("new", String::as_str) {
            "new" => Admitted::New { evicted },
            state => Admitted::Duplicate(state_of(state)),
        })
    }

    pub(super) async fn hand_out(
        &self,
        link: Arc<Link>,
        max: usize,
        lease: Duration,
        _now: u64,
    ) -> Result<Vec<Claimed>> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let worker = link.worker(lease).await.map_err(|error| link::error(error, &link))?;
        let looked = wall().saturating_sub(self.0.looked.load(Ordering::Relaxed)) >= LOOK;
        if looked {
            self.take_back(&link).await?;
        }
        let mut fetched = self.fetch(&worker, &link, max).await?;
        // Nothing is there, unless somebody's lease has just come to its end.
        if fetched.is_empty() && !looked && self.take_back(&link).await? > 0 {
            fetched = self.fetch(&worker, &link, max).await?;
        }
        while poll_now(worker.next_event()).is_some() {}
        self.read(&link, fetched, lease).await
    }

    async fn take_back(&self, link: &Link) -> Result<u64> {
        self.0.looked.store(wall(), Ordering::Relaxed);
        self.call(&scripts::TAKE_BACK, link).run(link.connection()).await.map_err(|error| link::error(error, link))
    }

    async fn fetch(&self, worker: &Worker, link: &Link, max: usize) -> Result<Vec<(u64, Job)>> {
        let fetch = || async {
            let (token, lock) = self.0.leases.token();
            worker.get_next_job_nonblocking(&lock).await.map(|job| job.map(|job| (token, job)))
        };
        let mut fetched = Vec::new();
        // One is asked for alone unless there was plenty: most questions to a queue that is empty would be in vain.
        let alone = usize::from(!self.0.plenty.load(Ordering::Relaxed));
        if alone == 1 {
            match fetch().await.map_err(|error| link::error(error, link))? {
                Some(job) => fetched.push(job),
                None => return Ok(fetched),
            }
        }
        let mut failed = None;
        for job in join_all((alone..max).map(|_| fetch())).await {
            match job {
                Ok(job) => fetched.extend(job),
                Err(error) => failed = Some(link::error(error, link)),
            }
        }
        self.0.plenty.store(fetched.len() == max, Ordering::Relaxed);
        match failed {
            // Whatever was fetched is worked on all the same.
            Some(error) if fetched.is_empty() => Err(error),
            _ => Ok(fetched),
        }
    }

    /// Reads of jobs what the crate leaves out, and holds them.
    async fn read(&self, link: &Arc<Link>, fetched: Vec<(u64, Job)>, lease: Duration) -> Result<Vec<Claimed>> {
        if fetched.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for (_, job) in &fetched {
            pipe.cmd("HMGET").arg(link.keys().job_key(job.id()));
            pipe.arg(&["data", "opts", "stc", "bt:priority", "priority", "bt:key"]);
        }
        let fields: Vec<[Option<String>; 6]> = pipe
            .query_async(&mut link.connection())
            .await
            .map_err(|error| link::error(bullmq::Error::Redis(error), link))?;
        let mut claimed = Vec::with_capacity(fetched.len());
        for ((token, mut job), fields) in fetched.into_iter().zip(fields) {
            let [data, options, crashes, pushed_priority, priority, key] = fields.map(Option::unwrap_or_default);
            let crashes = crashes.parse().unwrap_or_default();
            let envelope = Fields {
                id: job.id(),
                name: job.name(),
                data,
                options: &options,
                created: job.timestamp(),
                pushed_priority: &pushed_priority,
                priority: &priority,
                key: &key,
            }
            .envelope(self.numbers());
            // By another worker's rules it is to fail, or it is not of our kind.
            let refused = job.deferred_failure().map(str::to_owned);
            let (Some(envelope), None) = (envelope, &refused) else {
                let reason = refused.unwrap_or_else(|| "its id is not one of visible ASCII characters".to_owned());
                job.move_to_failed(&reason).await.map_err(|error| link::error(error, link))?;
                continue;
            };
            let (lease_of, attempts) = (Lease { id: envelope.id.clone(), token }, job.attempts_made());
            self.0.leases.hold(token, job, link, lease);
            claimed.push(Claimed { envelope, lease: lease_of, attempts, crashes });
        }
        Ok(claimed)
    }

    pub(super) async fn prolong(&self, link: Arc<Link>, lease: &Lease, by: Duration) -> Result<()> {
        let lost = || EngineError::LeaseLost(lease.id.clone());
        let (id, lock) = self.0.leases.extend(lease.token, by).ok_or_else(lost)?;
        let call = self.call(&scripts::LEASE, &link).arg(id).arg(lock).arg("extend").arg(millis(by));
        let held: bool = call.run(link.connection()).await.map_err(|error| link::error(error, &link))?;
        if held { Ok(()) } else { Err(lost()) }
    }

    pub(super) async fn end(&self, held: &mut Held, settlement: Settlement, lease: &Lease, now: u64) -> Result<()> {
        if held.link.failed() {
            self.take_over(held, lease).await?;
        }
        let link = held.link.clone();
        let ended = match settlement {
            Settlement::Done => held.job.move_to_completed("").await,
            Settlement::Release => held.job.move_to_wait(None).await.map(drop),
            Settlement::Defer { due } => held.job.move_to_delayed(by_the_wall(due, now)).await,
            Settlement::Retry { due, reason } => {
                if !held.counted {
                    self.with_lock(held, &link, "failed", reason.as_str(), lease).await?;
                    held.counted = true;
                }
                held.job.move_to_delayed(by_the_wall(due, now)).await
            }
            Settlement::Bury { reason, attempts } => {
                let buried = held.job.move_to_failed(reason.as_str()).await;
                if buried.is_ok() {
                    // It is buried, whether or not the number is right.
                    let call = self.call(&scripts::BURY, &link).arg("tried").arg(held.job.id()).arg(attempts);
                    let _ = call.run::<Vec<String>>(link.connection()).await;
                }
                buried
            }
        };
        ended.map_err(|error| of_lease(error, lease, &link))
    }

    /// Goes on with a job over new connections: the crate binds a job to those that it was fetched over, and what it reads
    /// over others has no token, so that is what the lock is made, by whoever holds it.
    async fn take_over(&self, held: &mut Held, lease: &Lease) -> Result<()> {
        let link = self.0.links.link().await?;
        self.with_lock(held, &link, "hand", "", lease).await?;
        held.lock.clear();
        let job = link.queue.get_job(held.job.id()).await.map_err(|error| link::error(error, &link))?;
        held.job = job.ok_or_else(|| EngineError::LeaseLost(lease.id.clone()))?;
        held.link = link;
        Ok(())
    }

    async fn with_lock(&self, held: &Held, link: &Link, what: &str, with: &str, lease: &Lease) -> Result<()> {
        let call = self.call(&scripts::LEASE, link).arg(held.job.id()).arg(&held.lock).arg(what).arg(with);
        match call.run(link.connection()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(EngineError::LeaseLost(lease.id.clone())),
            Err(error) => Err(link::error(error, link)),
        }
    }

    /// How long until something can be claimed, as far as is known.
    pub(super) async fn due(&self, link: Arc<Link>) -> Result<Option<Duration>> {
        let call = self.call(&scripts::DUE, &link);
        let due: i64 = call.run(link.connection()).await.map_err(|error| link::error(error, &link))?;
        Ok(u64::try_from(due).ok().map(Duration::from_millis))
    }

    pub(super) async fn count(&self, link: &Link, looked_at: usize) -> Result<Contents> {
        let call = self.call(&scripts::CONTENTS, link).arg(looked_at).args(self.numbers().0);
        let (dead, rows): (u64, Vec<[String; 6]>) =
            call.run(link.connection()).await.map_err(|error| link::error(error, link))?;
        let mut depths: BTreeMap<(String, Priority), Depth> = BTreeMap::new();
        for [state, kind, number, jobs, bytes, oldest] in rows {
            let priority = self.numbers().priority(number.parse().unwrap_or_default());
            let none = || Depth::none(kind.as_str().into(), priority);
            let depth = depths.entry((kind.clone(), priority)).or_insert_with(none);
            let (jobs, oldest): (u64, u64) = (jobs.parse().unwrap_or_default(), oldest.parse().unwrap_or_default());
            depth.bytes += bytes.parse::<u64>().unwrap_or_default();
            match state.as_str() {
                "active" => depth.active += jobs,
                "delayed" => depth.delayed += jobs,
                _ => {
                    depth.waiting += jobs;
                    let oldest = (oldest > 0).then_some(oldest);
                    depth.oldest = [depth.oldest, oldest].into_iter().flatten().min();
                }
            }
        }
        Ok(Contents { depths: depths.into_values().collect(), dead })
    }

    pub(super) async fn look_up(&self, link: Arc<Link>, id: &JobId) -> Result<Option<Found>> {
        let call = self.call(&scripts::FIND, &link).arg(millis(self.0.config.remember)).args(ids::candidates(id));
        let found: Option<[String; 4]> =
            call.run(link.connection()).await.map_err(|error| link::error(error, &link))?;
        Ok(found.map(|[_, state, attempts, crashes]| Found {
            state: state_of(&state),
            attempts: attempts.parse().unwrap_or_default(),
            crashes: crashes.parse().unwrap_or_default(),
        }))
    }

    pub(super) async fn letters(
        &self,
        link: Arc<Link>,
        after: Option<&DeadLetter>,
        max: usize,
    ) -> Result<Vec<DeadLetter>> {
        let mut call = self.call(&scripts::DEAD, &link).arg(max);
        if let Some(after) = after {
            call = call.arg(after.buried).args(ids::candidates(&after.envelope.id));
        }
        let letters: Vec<[String; 12]> =
            call.run(link.connection()).await.map_err(|error| link::error(error, &link))?;
        Ok(letters.into_iter().filter_map(|letter| self.letter(letter)).collect())
    }

    fn letter(&self, fields: [String; 12]) -> Option<DeadLetter> {
        let [id, buried, name, data, options, created, pushed_priority, priority, key, attempts, crashes, reason] =
            fields;
        let created = created.parse().unwrap_or_default();
        let (pushed_priority, priority) = (&*pushed_priority, &*priority);
        let (id, name, options, key) = (&*id, &*name, &*options, &*key);
        let fields = Fields { id, name, data, options, created, pushed_priority, priority, key };
        Some(DeadLetter {
            envelope: fields.envelope(self.numbers())?,
            reason: Reason::from(reason),
            attempts: attempts.parse().unwrap_or_default(),
            crashes: crashes.parse().unwrap_or_default(),
            buried: buried.parse().unwrap_or_default(),
        })
    }

    /// Which of these are dead letters, as BullMQ knows them.
    async fn dead_of(&self, link: &Link, what: &str, ids: &[JobId]) -> Result<Vec<String>> {
        let call = self.call(&scripts::BURY, link).arg(what).args(ids.iter().flat_map(ids::candidates));
        call.run(link.connection()).await.map_err(|error| link::error(error, link))
    }

    pub(super) async fn put_back(&self, link: Arc<Link>, ids: &[JobId]) -> Result<u64> {
        let dead = self.dead_of(&link, "replay", ids).await?;
        let replays = dead.iter().map(|id| async {
            match link.queue.get_job(id).await? {
                Some(mut job) => {
                    let anew = RetryOptions { reset_attempts_made: true, reset_attempts_started: true };
                    job.retry("failed", Some(anew)).await.map(|()| true)
                }
                None => Ok(false),
            }
        });
        counted(join_all(replays).await, &link)
    }

    pub(super) async fn throw_away(&self, link: Arc<Link>, ids: &[JobId]) -> Result<u64> {
        let dead = self.dead_of(&link, "discard", ids).await?;
        counted(join_all(dead.iter().map(|id| link.queue.remove(id))).await, &link)
    }

    pub(super) async fn clean(&self, link: Arc<Link>) -> Result<()> {
        let config = &self.0.config;
        self.take_back(&link).await?;
        for (age, state) in [(config.remember, "completed"), (config.keep_dead, "failed")] {
            for _ in 0..CLEANED.1 {
                if age == Duration::MAX {
                    break;
                }
                let cleaned = link.queue.clean(millis(age), CLEANED.0, state).await;
                if cleaned.map_err(|error| link::error(error, &link))?.len() < CLEANED.0 as usize {
                    break;
                }
            }
        }
        if config.ageing < Duration::MAX {
            let call = self.call(&scripts::AGE, &link).arg(millis(config.ageing).max(1)).args(&self.numbers().0[1..]);
            call.run::<u64>(link.connection()).await.map_err(|error| link::error(error, &link))?;
        }
        Ok(())
    }
}

/// How many went well; that one was not there any more is no error.
fn counted(answers: Vec<std::result::Result<bool, bullmq::Error>>, link: &Link) -> Result<u64> {
    let mut count = 0;
    for answer in answers {
        match answer {
            Ok(done) => count += u64::from(done),
            Err(error @ bullmq::Error::Redis(_)) => return Err(link::error(error, link)),
            Err(_) => {}
        }
    }
    Ok(count)
}

/// What there is of each priority.
fn there(contents: &Contents) -> [There; 4] {
    let mut there = [There::default(); 4];
    for depth in &contents.depths {
        let there = &mut there[depth.priority.rank()];
        let Usage { jobs, bytes } = &mut there.usage;
        *jobs += depth.waiting + depth.delayed + depth.active;
        *bytes += depth.bytes;
        there.evictable |= depth.waiting + depth.delayed > 0;
    }
    there
}

fn state_of(state: &str) -> JobState {
    match state {
        "delayed" => JobState::Delayed,
        "active" => JobState::Active,
        "done" => JobState::Done,
        "dead" => JobState::Dead,
        _ => JobState::Waiting,
    }
}

/// What a future has for us now.
fn poll_now<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => None,
    }
}
