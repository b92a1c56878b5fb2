//! How claims end.

use bullmq::Error;

use super::batch::{Attending, unattended};
use super::link::Via;
use super::{Redis, ids, scripts};
use crate::engine::{Answer, EngineError, Lease, Settlement};

/// How many claims are ended by one question.
const CHUNK: usize = 128;

type Result<T> = std::result::Result<T, EngineError>;

/// A claim that ends.
pub(super) struct End {
    lease: Lease,
    settlement: Settlement,
    now: u64,
}

impl Redis {
    pub(super) fn end<'a>(&'a self, lease: &'a Lease, settlement: Settlement, now: u64) -> Answer<'a, ()> {
        Box::pin(async move {
            let (answered, attending) = self.0.settling.add(End { lease: lease.clone(), settlement, now });
            if let Some(attending) = attending {
                tokio::spawn(self.clone().settle_all(attending));
            }
            answered.await.unwrap_or_else(unattended)
        })
    }

    async fn settle_all(self, mut attending: Attending<End, ()>) {
        while let Some(batch) = attending.next(CHUNK) {
            let settled = self.ask(self.longer(), |via| self.settle_these(via, &batch.questions)).await;
            batch.answer(settled);
            self.changed();
        }
    }

    async fn settle_these(&self, via: Via, ends: &[End]) -> Result<Vec<Result<()>>> {
        let now = ends.iter().map(|end| end.now).max().unwrap_or_default();
        let mut call = via.call(&scripts::SETTLE, now);
        for End { lease, settlement, .. } in ends {
            let mut ids = ids::candidates(&lease.id).into_iter();
            call = call.arg(ids.next()).arg(ids.next().unwrap_or_default()).arg(self.lock(lease.token));
            call = call.args(wire_of(settlement));
        }
        let answers: Vec<String> = via.run(call).await?;
        let mut settled = Vec::with_capacity(answers.len());
        for (End { lease, settlement, .. }, answer) in ends.iter().zip(answers) {
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
