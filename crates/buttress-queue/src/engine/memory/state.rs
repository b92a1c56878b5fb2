//! What is in memory: pure, and driven by the times that it is given.

mod dead;
mod depths;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use depths::{At, Depths};

use super::super::{
    Admitted, Claimed, Contents, EngineConfig, EngineError, Entry, Found, Head, Lease, Room, Settlement, There, Usage,
    after, next_lane,
};
use crate::job::{Envelope, JobId, JobState, Priority, Reason};

/// A place in a lane: when it may be claimed, then the order in which jobs came.
type Place = (u64, u64);

pub(super) struct State {
    config: EngineConfig,
    jobs: HashMap<JobId, Job>,
    lanes: [BTreeMap<Place, JobId>; 4],
    /// By the end of the lease.
    leases: BTreeSet<(u64, JobId)>,
    /// By when they were buried.
    dead: BTreeSet<(u64, JobId)>,
    /// By when they are forgotten, then the order in which they came.
    done: BTreeMap<Place, JobId>,
    depths: Depths,
    dead_usage: Usage,
    order: u64,
    tokens: u64,
}

struct Job {
    /// `None` of what is done.
    envelope: Option<Envelope>,
    place: Place,
    attempts: u32,
    crashes: u32,
    stand: Stand,
}

enum Stand {
    Queued,
    Active { token: u64, until: u64 },
    Dead(Reason),
    Done,
}

impl State {
    pub(super) fn new(config: EngineConfig) -> Self {
        Self {
            config,
            jobs: HashMap::new(),
            lanes: Default::default(),
            leases: BTreeSet::new(),
            dead: BTreeSet::new(),
            done: BTreeMap::new(),
            depths: Depths::default(),
            dead_usage: Usage::default(),
            order: 0,
            tokens: 0,
        }
    }

    /// Jobs that are waiting, delayed or active.
    pub(super) fn len(&self) -> u64 {
        self.depths.usage().iter().map(|usage| usage.jobs).sum()
    }

    pub(super) fn push(&mut self, Entry { envelope, due }: Entry, now: u64) -> Admitted {
        if let Some(known) = self.find(&envelope.id, now) {
            return Admitted::Duplicate(known.state);
        }
        let (priority, size) = (envelope.priority, envelope.size());
        let mut evicted: Vec<(JobId, Job)> = Vec::new();
        loop {
            match self.config.bounds.room(priority, size, &self.there()) {
                Room::Yes => break,
                Room::Evict(from) => evicted.extend(self.evict(from, now)),
                Room::Full(full) => {
                    evicted.into_iter().for_each(|(id, job)| self.put_back(id, job, now));
                    return Admitted::Full(full);
                }
            }
        }
        let evicted = evicted.into_iter().map(|(id, job)| (id, job.priority())).collect();
        // Known no longer, and not forgotten yet.
        if let Some(done) = self.jobs.remove(&envelope.id) {
            self.done.remove(&done.place);
        }
        let (id, place) = (envelope.id.clone(), (due, self.next_order()));
        self.depths.moved(&envelope, None, Some(At::Queued(place)), now);
        self.lanes[priority.rank()].insert(place, id.clone());
        self.jobs.insert(id, Job { envelope: Some(envelope), place, attempts: 0, crashes: 0, stand: Stand::Queued });
        Admitted::New { evicted }
    }

    pub(super) fn claim(&mut self, max: usize, lease: Duration, now: u64) -> Vec<Claimed> {
        self.take_back(now);
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let heads = self.lanes.each_ref().map(|lane| lane.keys().next().map(|&(due, _)| Head { due }));
            let Some(lane) = next_lane(&heads, self.config.ageing, now) else { break };
            let Some((_, id)) = self.lanes[lane.rank()].pop_first() else { break };
            claimed.extend(self.hand_out(id, lease, now));
        }
        claimed
    }

    fn hand_out(&mut self, id: JobId, lease: Duration, now: u64) -> Option<Claimed> {
        self.tokens += 1;
        let (token, until) = (self.tokens, after(now, lease));
        let job = self.jobs.get_mut(&id)?;
        job.stand = Stand::Active { token, until };
        let (attempts, crashes) = (job.attempts, job.crashes);
        let envelope = job.envelope.clone()?;
        self.depths.moved(&envelope, Some(At::Queued(job.place)), Some(At::Active), now);
        self.leases.insert((until, id.clone()));
        Some(Claimed { envelope, lease: Lease { id, token }, attempts, crashes })
    }

    /// Puts back whatever was not heard of until its lease was over.
    fn take_back(&mut self, now: u64) {
        while self.leases.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, id)) = self.leases.pop_first() else { return };
            if let Some(job) = self.jobs.get_mut(&id) {
                job.crashes += 1;
            }
            self.queue_again(&id, None, now);
        }
    }

    /// Puts a job into its lane, in its old place or where it is due now.
    fn queue_again(&mut self, id: &JobId, due: Option<u64>, now: u64) {
        let order = self.next_order();
        let Some(job) = self.jobs.get_mut(id) else { return };
        let Some(envelope) = &job.envelope else { return };
        // Dead letters are not among what there is.
        let from = matches!(job.stand, Stand::Active { .. }).then_some(At::Active);
        job.stand = Stand::Queued;
        if let Some(due) = due {
            job.place = (due, order);
        }
        self.depths.moved(envelope, from, Some(At::Queued(job.place)), now);
        self.lanes[envelope.priority.rank()].insert(job.place, id.clone());
    }

    pub(super) fn extend(&mut self, lease: &Lease, by: Duration, now: u64) -> Result<(), EngineError> {
        let until = self.leased(lease)?;
        let extended = after(now, by);
        self.leases.remove(&(until, lease.id.clone()));
        self.leases.insert((extended, lease.id.clone()));
        if let Some(job) = self.jobs.get_mut(&lease.id) {
            job.stand = Stand::Active { token: lease.token, until: extended };
        }
        Ok(())
    }

    /// Until when this lease goes, if it is the one that counts.
    fn leased(&self, lease: &Lease) -> Result<u64, EngineError> {
        match self.jobs.get(&lease.id) {
            Some(Job { stand: Stand::Active { token, until }, .. }) if *token == lease.token => Ok(*until),
            _ => Err(EngineError::LeaseLost(lease.id.clone())),
        }
    }

    pub(super) fn settle(&mut self, lease: &Lease, settlement: Settlement, now: u64) -> Result<(), EngineError> {
        let until = self.leased(lease)?;
        self.leases.remove(&(until, lease.id.clone()));
        match settlement {
            Settlement::Done => self.finish(&lease.id, now),
            Settlement::Retry { due, reason: _ } => {
                if let Some(job) = self.jobs.get_mut(&lease.id) {
                    job.attempts += 1;
                }
                self.queue_again(&lease.id, Some(due), now);
            }
            Settlement::Defer { due } => self.queue_again(&lease.id, Some(due), now),
            Settlement::Release => self.queue_again(&lease.id, None, now),
            Settlement::Bury { reason, attempts } => self.bury(&lease.id, reason, attempts, now),
        }
        Ok(())
    }

    fn finish(&mut self, id: &JobId, now: u64) {
        let place = (after(now, self.config.remember), self.next_order());
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.stand = Stand::Done;
        job.place = place;
        if let Some(envelope) = job.envelope.take() {
            self.depths.moved(&envelope, Some(At::Active), None, now);
        }
        self.done.insert(place, id.clone());
        let most = usize::try_from(self.config.bounds.most()).unwrap_or(usize::MAX);
        while self.done.len() > most {
            self.forget_done();
        }
    }

    /// When there will be something to claim.
    pub(super) fn next_due(&self) -> Option<u64> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.keys().next().map(|&(due, _)| due));
        lanes.chain(self.leases.first().map(|(until, _)| *until)).min()
    }

    pub(super) fn contents(&mut self, now: u64) -> Contents {
        self.depths.contents(now, self.dead.len() as u64)
    }

    pub(super) fn find(&self, id: &JobId, now: u64) -> Option<Found> {
        let job = self.jobs.get(id)?;
        let state = match &job.stand {
            Stand::Queued if job.place.0 > now => JobState::Delayed,
            Stand::Queued => JobState::Waiting,
            Stand::Active { .. } => JobState::Active,
            Stand::Dead(_) => JobState::Dead,
            Stand::Done if job.place.0 <= now => return None,
            Stand::Done => JobState::Done,
        };
        Some(Found { state, attempts: job.attempts, crashes: job.crashes })
    }

    fn forget_done(&mut self) {
        if let Some((_, id)) = self.done.pop_first() {
            self.jobs.remove(&id);
        }
    }

    fn evict(&mut self, from: Priority, now: u64) -> Option<(JobId, Job)> {
        let (_, id) = self.lanes[from.rank()].pop_first()?;
        let job = self.jobs.remove(&id)?;
        if let Some(envelope) = &job.envelope {
            self.depths.moved(envelope, Some(At::Queued(job.place)), None, now);
        }
        Some((id, job))
    }

    /// What was evicted in vain.
    fn put_back(&mut self, id: JobId, job: Job, now: u64) {
        if let Some(envelope) = &job.envelope {
            self.depths.moved(envelope, None, Some(At::Queued(job.place)), now);
        }
        self.lanes[job.priority().rank()].insert(job.place, id.clone());
        self.jobs.insert(id, job);
    }

    fn there(&self) -> [There; 4] {
        Priority::ALL.map(|priority| There {
            usage: self.depths.usage()[priority.rank()],
            evictable: !self.lanes[priority.rank()].is_empty(),
        })
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}

impl Job {
    fn priority(&self) -> Priority {
        self.envelope.as_ref().map_or(Priority::Low, |kept| kept.priority)
    }

    fn size(&self) -> u64 {
        self.envelope.as_ref().map_or(0, Envelope::size)
    }
}
