//! How claims end: those that end at about the same time by one script, while the one before is under way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bullmq::Error;
use tokio::sync::oneshot;

use super::link::Via;
use super::{Redis, ids, scripts};
use crate::engine::{Answer, EngineError, Lease, Settlement};

/// How many claims are ended by one question.
const CHUNK: usize = 128;

type Result<T> = std::result::Result<T, EngineError>;

/// What is to be settled.
#[derive(Default)]
pub(super) struct Settling(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    ends: Vec<End>,
    /// Whether somebody sees to it.
    attended: bool,
}

struct End {
    lease: Lease,
    settlement: Settlement,
    now: u64,
    answer: oneshot::Sender<Result<()>>,
}

impl Settling {
    /// Whether there is somebody to be sent for.
    fn add(&self, end: End) -> bool {
        let mut queue = self.queue();
        queue.ends.push(end);
        !std::mem::replace(&mut queue.attended, true)
    }

    /// What is to be done next; with nothing left nobody sees to it any more.
    fn next(&self) -> Vec<End> {
        let mut queue = self.queue();
        queue.attended = !queue.ends.is_empty();
        let some = queue.ends.len().min(CHUNK);
        queue.ends.drain(..some).collect()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it. When that ends before everything is done, or has begun, because its runtime does, all who wait are to ask again.
struct Attending {
    engine: Redis,
    done: bool,
}

impl Attending {
    async fn settle_all(mut self) {
        loop {
            let ends = self.engine.0.settling.next();
            if ends.is_empty() {
                self.done = true;
                return;
            }
            self.engine.settle_some(ends).await;
        }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        if !self.done {
            *self.engine.0.settling.queue() = Queue::default();
        }
    }
}

impl Redis {
    pub(super) fn end<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()> {
        let (answer, answered) = oneshot::channel();
        let end = End { lease: lease.clone(), settlement, now, answer };
        Box::pin(async move {
            if self.0.settling.add(end) {
                // On a task of its own: whoever asks may be dropped, and the others are not to hear of it.
                tokio::spawn(Attending { engine: self.clone(), done: false }.settle_all());
            }
            answered.await.unwrap_or_else(|_| Err(EngineError::Unavailable("its runtime has ended".into())))
        })
    }

    async fn settle_some(&self, ends: Vec<End>) {
        let (asked, answers): (Vec<_>, Vec<_>) =
            ends.into_iter().map(|end| ((end.lease, end.settlement, end.now), end.answer)).unzip();
        let settled = self.ask(self.longer(), |via| self.settle_these(via, &asked)).await;
        self.changed();
        match settled {
            Ok(settled) => answers.into_iter().zip(settled).for_each(|(answer, settled)| drop(answer.send(settled))),
            Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(again(&error))))),
        }
    }

    async fn settle_these(&self, via: Via, asked: &[(Lease, Settlement, u64)]) -> Result<Vec<Result<()>>> {
        let now = asked.iter().map(|(.., now)| *now).max().unwrap_or_default();
        let mut call = via.call(&scripts::SETTLE, now);
        for (lease, settlement, _) in asked {
            let mut ids = ids::candidates(&lease.id).into_iter();
            call = call.arg(ids.next()).arg(ids.next().unwrap_or_default()).arg(self.lock(lease.token));
            call = call.args(wire_of(settlement));
        }
        let answers: Vec<String> = via.run(call).await?;
        let mut settled = Vec::with_capacity(answers.len());
        for ((lease, settlement, _), answer) in asked.iter().zip(answers) {
            let lost = || EngineError::LeaseLost(lease.id.clone());
            settled.push(match answer.strip_prefix("hand ") {
                Some(raw) => {
                    hand_over(&via, raw, settlement, now).await.and_then(|there| there.then_some(()).ok_or_else(lost))
                }
                None if answer == "done" => Ok(()),
                None => Err(lost()),
            });
        }
        Ok(settled)
    }

    /// Ends a claim of a job by the name that BullMQ knows it by, and its lock.
    pub(super) async fn end_at(
        &self,
        via: &Via,
        (raw, lock): &(String, String),
        settlement: Settlement,
        now: u64,
    ) -> Result<()> {
        let call = via.call(&scripts::SETTLE, now).arg(raw).arg("").arg(lock).args(wire_of(&settlement));
        let answers: Vec<String> = via.run(call).await?;
        match answers.first().and_then(|answer| answer.strip_prefix("hand ")) {
            Some(raw) => hand_over(via, raw, &settlement, now).await.map(drop),
            None => Ok(()),
        }
    }
}

/// What the script is told of a settlement.
fn wire_of(settlement: &Settlement) -> [String; 3] {
    let told = |what: &str, number: u64, reason: &str| [what.to_owned(), number.to_string(), reason.to_owned()];
    match settlement {
        Settlement::Done => told("done", 0, ""),
        Settlement::Release => told("release", 0, ""),
        Settlement::Defer { due } => told("defer", *due, ""),
        Settlement::Retry { due, reason } => told("retry", *due, reason.as_str()),
        Settlement::Bury { reason, attempts } => told("bury", u64::from(*attempts), reason.as_str()),
    }
}

/// Has BullMQ's own script end a claim, of a job that others wait for. What the crate reads has no token, so that is what the
/// lock has been made. Whether there was such a job.
async fn hand_over(via: &Via, raw: &str, settlement: &Settlement, now: u64) -> Result<bool> {
    let job = via.link.queue.get_job(raw).await.map_err(|error| via.error(error))?;
    let Some(mut job) = job else { return Ok(false) };
    let ended = match settlement {
        Settlement::Bury { reason, attempts } => {
            let buried = job.move_to_failed(reason.as_str()).await;
            if buried.is_ok() {
                // It is buried, whether or not the number is right.
                let call = via.call(&scripts::BURY, now).arg("tried").arg(raw).arg(attempts);
                let _ = via.run::<Vec<String>>(call).await;
            }
            buried
        }
        _ => job.move_to_completed("").await,
    };
    match ended {
        Ok(()) => Ok(true),
        // No such job, no lock, not active, or the lock of somebody else.
        Err(Error::Script { code: -1 | -2 | -3 | -6, .. }) => Ok(false),
        Err(error) => Err(via.error(error)),
    }
}

/// The same, for the next who asked.
fn again(error: &EngineError) -> EngineError {
    match error {
        EngineError::LeaseLost(id) => EngineError::LeaseLost(id.clone()),
        EngineError::StorageFull => EngineError::StorageFull,
        EngineError::Unavailable(error) => EngineError::Unavailable(error.to_string().into()),
        EngineError::Failed(error) => EngineError::Failed(error.to_string().into()),
        EngineError::Closed => EngineError::Closed,
    }
}
