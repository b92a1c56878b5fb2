//! What there is, what is dead, and what is forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use bullmq::RetryOptions;
use futures_util::future::join_all;

use super::link::Via;
use super::wire::{Fields, Numbers};
use super::{Redis, ids, millis, scripts};
use crate::engine::{Bound, Contents, DeadLetter, Depth, EngineError, Found};
use crate::job::{JobId, JobState, Priority, Reason};

/// How many jobs of each priority and state are looked at to tell what there is.
const LOOKED_AT: usize = 1000;
/// How many jobs are forgotten by one question, and how many such questions there are at a time.
const CLEANED: (usize, usize) = (1000, 50);

type Result<T> = std::result::Result<T, EngineError>;

/// What was counted.
pub(super) struct Rows {
    pub(super) dead: u64,
    pub(super) found: Vec<Row>,
}

/// So many jobs in one state, of one type and priority.
pub(super) struct Row {
    pub(super) state: String,
    pub(super) number: u32,
    pub(super) jobs: u64,
    pub(super) bytes: u64,
    kind: String,
    oldest: u64,
}

impl Redis {
    pub(super) fn numbers(&self) -> &Numbers {
        &self.0.links.config().numbers
    }

    pub(super) async fn count(&self, via: &Via, now: u64) -> Result<Rows> {
        let call = via.call(&scripts::CONTENTS, now).arg(LOOKED_AT).args(self.numbers().0);
        let (dead, rows): (u64, Vec<[String; 6]>) = via.run(call).await?;
        let number = |text: String| text.parse().unwrap_or_default();
        let found = rows.into_iter().map(|[state, kind, priority, jobs, bytes, oldest]| Row {
            state,
            number: priority.parse().unwrap_or_default(),
            jobs: number(jobs),
            bytes: number(bytes),
            kind,
            oldest: number(oldest),
        });
        Ok(Rows { dead, found: found.collect() })
    }

    pub(super) async fn look_over(&self, via: Via, now: u64) -> Result<Contents> {
        let Rows { dead, found } = self.count(&via, now).await?;
        let mut depths: BTreeMap<(String, Priority), Depth> = BTreeMap::new();
        for Row { state, number, jobs, bytes, kind, oldest } in found {
            let priority = self.numbers().priority(number);
            let none = || Depth::none(kind.as_str().into(), priority);
            let depth = depths.entry((kind.clone(), priority)).or_insert_with(none);
            depth.bytes += bytes;
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

    pub(super) async fn look_up(&self, via: Via, id: &JobId, now: u64) -> Result<Option<Found>> {
        let call = via.call(&scripts::FIND, now).arg(millis(self.0.config.remember)).args(ids::candidates(id));
        let found: Option<[String; 4]> = via.run(call).await?;
        Ok(found.map(|[_, state, attempts, crashes]| Found {
            state: state_of(&state),
            attempts: attempts.parse().unwrap_or_default(),
            crashes: crashes.parse().unwrap_or_default(),
        }))
    }

    pub(super) async fn letters(&self, via: Via, after: Option<&DeadLetter>, max: usize) -> Result<Vec<DeadLetter>> {
        let mut call = via.call(&scripts::DEAD, 0).arg(max);
        if let Some(after) = after {
            call = call.arg(after.buried).args(ids::candidates(&after.envelope.id));
        }
        let letters: Vec<[String; 11]> = via.run(call).await?;
        Ok(letters.into_iter().filter_map(|letter| self.letter(letter)).collect())
    }

    fn letter(&self, fields: [String; 11]) -> Option<DeadLetter> {
        let [id, buried, name, data, options, created, priority, key, attempts, crashes, reason] = fields;
        let created = created.parse().unwrap_or_default();
        let (id, name, options, priority, key) = (&*id, &*name, &*options, &*priority, &*key);
        Some(DeadLetter {
            envelope: Fields { id, name, data, options, created, priority, key }.envelope(self.numbers())?,
            reason: Reason::from(reason),
            attempts: attempts.parse().unwrap_or_default(),
            crashes: crashes.parse().unwrap_or_default(),
            buried: buried.parse().unwrap_or_default(),
        })
    }

    /// Which of these are dead letters, as BullMQ knows them.
    async fn dead_of(&self, via: &Via, what: &str, ids: &[JobId], now: u64) -> Result<Vec<String>> {
        via.run(via.call(&scripts::BURY, now).arg(what).args(ids.iter().flat_map(ids::candidates))).await
    }

    pub(super) async fn put_back(&self, via: Via, ids: &[JobId], now: u64) -> Result<u64> {
        let dead = self.dead_of(&via, "replay", ids, now).await?;
        let replays = dead.iter().map(|id| async {
            match via.link.queue.get_job(id).await? {
                Some(mut job) => {
                    let anew = RetryOptions { reset_attempts_made: true, reset_attempts_started: true };
                    job.retry("failed", Some(anew)).await.map(|()| true)
                }
                None => Ok(false),
            }
        });
        counted(join_all(replays).await, &via)
    }

    pub(super) async fn throw_away(&self, via: Via, ids: &[JobId]) -> Result<u64> {
        let dead = self.dead_of(&via, "discard", ids, 0).await?;
        counted(join_all(dead.iter().map(|id| via.link.queue.remove(id))).await, &via)
    }

    pub(super) async fn clean(&self, via: Via, now: u64) -> Result<()> {
        let config = &self.0.config;
        // A dead letter is kept for all of its last millisecond.
        let ended = [(config.remember, 1, "completed", Bound::NONE), (config.keep_dead, 0, "failed", config.most_dead)];
        for (age, grace, state, most) in ended {
            if age == Duration::MAX && most == Bound::NONE {
                continue;
            }
            let before = if age == Duration::MAX { 0 } else { now.saturating_sub(millis(age)).saturating_add(grace) };
            let [jobs, bytes] = [most.jobs, most.bytes].map(|most| i64::try_from(most).unwrap_or(-1));
            for _ in 0..CLEANED.1 {
                let call = via.call(&scripts::CLEAN, now).arg(state).arg(before).arg(CLEANED.0).arg(jobs).arg(bytes);
                let (cleaned, others): (usize, Vec<String>) = via.run(call).await?;
                counted(join_all(others.iter().map(|id| via.link.queue.remove(id))).await, &via)?;
                if cleaned < CLEANED.0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// How many went well; that one was not there any more is no error.
fn counted(answers: Vec<std::result::Result<bool, bullmq::Error>>, via: &Via) -> Result<u64> {
    let mut count = 0;
    for answer in answers {
        match answer {
            Ok(done) => count += u64::from(done),
            Err(error @ bullmq::Error::Redis(_)) => return Err(via.error(error)),
            Err(_) => {}
        }
    }
    Ok(count)
}

pub(super) fn state_of(state: &str) -> JobState {
    match state {
        "delayed" => JobState::Delayed,
        "active" => JobState::Active,
        "done" => JobState::Done,
        "dead" => JobState::Dead,
        _ => JobState::Waiting,
    }
}
