//! Dead letters in memory, and what is forgotten of it.

use std::ops::Bound;

use super::super::super::{DeadLetter, after};
use super::{At, Job, Stand, State};
use crate::job::{JobId, Reason};

impl State {
    pub(super) fn bury(&mut self, id: &JobId, reason: Reason, attempts: u32, now: u64) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.stand = Stand::Dead(reason);
        job.attempts = attempts;
        job.place.0 = now;
        self.dead.insert((now, id.clone()));
        self.dead_usage.add(job.size());
        if let Some(envelope) = &job.envelope {
            self.depths.moved(envelope, Some(At::Active), None, now);
        }
    }

    pub(in super::super) fn dead(&self, after: Option<&DeadLetter>, max: usize) -> Vec<DeadLetter> {
        let from =
            after.map_or(Bound::Unbounded, |letter| Bound::Excluded((letter.buried, letter.envelope.id.clone())));
        let later = self.dead.range((from, Bound::Unbounded));
        later.filter_map(|(_, id)| self.jobs.get(id).and_then(Job::letter)).take(max).collect()
    }

    pub(in super::super) fn replay(&mut self, ids: &[JobId], now: u64) -> u64 {
        let mut replayed = 0;
        for id in ids {
            let Some(job) = self.jobs.get_mut(id).filter(|job| matches!(job.stand, Stand::Dead(_))) else { continue };
            (job.attempts, job.crashes) = (0, 0);
            self.dead.remove(&(job.place.0, id.clone()));
            self.dead_usage.take(job.size());
            self.queue_again(id, Some(now), now);
            replayed += 1;
        }
        replayed
    }

    pub(in super::super) fn discard(&mut self, ids: &[JobId]) -> u64 {
        let before = self.dead.len();
        for id in ids {
            if let Some((buried, size)) =
                self.jobs.get(id).filter(|job| job.is_dead()).map(|job| (job.place.0, job.size()))
            {
                self.dead.remove(&(buried, id.clone()));
                self.dead_usage.take(size);
                self.jobs.remove(id);
            }
        }
        (before - self.dead.len()) as u64
    }

    pub(in super::super) fn maintain(&mut self, now: u64) {
        while self.done.first_key_value().is_some_and(|((forgotten, _), _)| *forgotten <= now) {
            self.forget_done();
        }
        let kept = now.saturating_sub(after(0, self.config.keep_dead));
        while self.dead.first().is_some_and(|(buried, _)| *buried < kept)
            || !self.config.most_dead.holds(self.dead_usage)
        {
            let Some((_, id)) = self.dead.pop_first() else { break };
            if let Some(job) = self.jobs.remove(&id) {
                self.dead_usage.take(job.size());
            }
        }
    }
}

impl Job {
    const fn is_dead(&self) -> bool {
        matches!(self.stand, Stand::Dead(_))
    }

    fn letter(&self) -> Option<DeadLetter> {
        let Stand::Dead(reason) = &self.stand else { return None };
        let (envelope, reason) = (self.envelope.clone()?, reason.clone());
        Some(DeadLetter { envelope, reason, attempts: self.attempts, crashes: self.crashes, buried: self.place.0 })
    }
}
