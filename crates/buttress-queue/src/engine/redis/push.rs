//! Jobs on their way in.

use std::time::Duration;

use super::batch::{Attending, unattended};
use super::link::Via;
use super::look::{Rows, state_of};
use super::{Redis, ids, millis, scripts, wire};
use crate::engine::{Admitted, Bounds, EngineError, Entry, Room, There, Usage};
use crate::job::Priority;

/// How many jobs are pushed, replayed or discarded by one question.
pub(super) const CHUNK: usize = 128;

type Result<T> = std::result::Result<T, EngineError>;

impl Redis {
    /// Pushes one, with whatever else is pushed now.
    pub(super) async fn push_one(&self, entry: &Entry, now: u64) -> Result<Admitted> {
        let (answered, attending) = self.0.pushing.add((entry.clone(), now));
        if let Some(attending) = attending {
            tokio::spawn(self.clone().push_gathered(attending));
        }
        let answer = answered.await.unwrap_or_else(unattended)?;
        self.admitted(entry, &answer, now).await
    }

    async fn push_gathered(self, mut attending: Attending<(Entry, u64), String>) {
        let engine = &self;
        while let Some(batch) = attending.next(CHUNK) {
            let now = batch.questions.iter().map(|(_, now)| *now).max().unwrap_or_default();
            let entries: Vec<_> = batch.questions.iter().map(|(entry, _)| entry).collect();
            let offer =
                engine.ask(engine.patience(), |via| async move { engine.offer(&via, &entries, true, now).await });
            let offered = offer.await;
            batch.answer(offered.map(|answers| answers.into_iter().map(Ok).collect()));
        }
    }

    /// Pushes as many as one question is about.
    pub(super) async fn push_some(&self, entries: &[Entry], now: u64) -> Result<Vec<Admitted>> {
        let offered: Vec<_> = entries.iter().collect();
        let offer = self.ask(self.patience(), |via| async move { self.offer(&via, &offered, true, now).await });
        let mut admitted = Vec::with_capacity(entries.len());
        for (entry, answer) in entries.iter().zip(offer.await?) {
            admitted.push(self.admitted(entry, &answer, now).await?);
        }
        Ok(admitted)
    }

    /// What became of a push of which the script says this.
    async fn admitted(&self, entry: &Entry, answer: &str, now: u64) -> Result<Admitted> {
        match answer {
            "new" => Ok(Admitted::New { evicted: Vec::new() }),
            "lane" | "total" => {
                self.ask(self.patience(), |via| async move { self.make_room(&via, entry, now).await }).await
            }
            state => Ok(Admitted::Duplicate(state_of(state))),
        }
    }

    fn patience(&self) -> Duration {
        self.0.links.config().patience
    }

    /// Pushes, within the bounds or not, and answers what the script says of each.
    async fn offer(&self, via: &Via, entries: &[&Entry], bounded: bool, now: u64) -> Result<Vec<String>> {
        let config = &self.0.config;
        let most = |bound: u64| if bounded { bound } else { u64::MAX };
        let total = config.bounds.total();
        let mut call =
            via.call(&scripts::PUSH, now).arg(millis(config.remember)).arg(most(total.jobs)).arg(most(total.bytes));
        for Entry { envelope, due } in entries {
            let number = self.numbers().of(envelope.priority);
            let delay = due.saturating_sub(now);
            let opts = wire::options(envelope, number, delay, config.remember, config.keep_dead)
                .map_err(|error| EngineError::Failed(error.into()))?;
            let lane = config.bounds.of_priority(envelope.priority);
            call = call
                .arg(&*ids::encode(&envelope.id))
                .arg(&*envelope.kind)
                .arg(envelope.data.get())
                .arg(opts)
                .arg(envelope.created)
                .arg(due)
                .arg(number)
                .arg(most(lane.jobs))
                .arg(most(lane.bytes))
                .arg(envelope.size())
                .arg(envelope.key.as_deref().unwrap_or_default());
        }
        via.run(call).await
    }

    /// Throws something away for a job, if that is allowed and helps.
    async fn make_room(&self, via: &Via, entry: &Entry, now: u64) -> Result<Admitted> {
        let (priority, size) = (entry.envelope.priority, entry.envelope.size());
        let bounds = &self.0.config.bounds;
        let (mut evicted, mut out_of_sight) = (Vec::new(), [false; 4]);
        loop {
            let (mut there, idle) = there(&self.count(via, now).await?, self.numbers());
            for (there, out_of_sight) in there.iter_mut().zip(out_of_sight) {
                there.evictable &= !out_of_sight;
            }
            let from = match bounds.room(priority, size, &there) {
                Room::Yes => break,
                Room::Full(full) => return Ok(Admitted::Full(full)),
                Room::Evict(from) => from,
            };
            if let Room::Full(full) = at_best(bounds, priority, size, there, &idle) {
                return Ok(Admitted::Full(full));
            }
            let call = via.call(&scripts::EVICT, now).arg(self.numbers().of(from));
            let gone: Option<String> = via.run(call).await?;
            out_of_sight[from.rank()] = gone.is_none();
            evicted.extend(gone.and_then(|gone| ids::decode(&gone)).map(|id| (id, from)));
        }
        let answers = self.offer(via, &[entry], false, now).await?;
        Ok(match answers.first().map_or("new", String::as_str) {
            "new" => Admitted::New { evicted },
            state => Admitted::Duplicate(state_of(state)),
        })
    }
}

/// What there is of each priority, and how much of it nobody works on.
fn there(rows: &Rows, numbers: &wire::Numbers) -> ([There; 4], [Usage; 4]) {
    let (mut there, mut idle) = ([There::default(); 4], [Usage::default(); 4]);
    for row in &rows.found {
        let rank = numbers.priority(row.number).rank();
        let more = Usage { jobs: row.jobs, bytes: row.bytes };
        there[rank].usage = there[rank].usage.and(more);
        if row.state != "active" {
            idle[rank] = idle[rank].and(more);
            there[rank].evictable |= row.jobs > 0;
        }
    }
    (there, idle)
}

/// Whether there would be room if everything were thrown away that may be.
fn at_best(bounds: &Bounds, priority: Priority, size: u64, mut there: [There; 4], idle: &[Usage; 4]) -> Room {
    loop {
        match bounds.room(priority, size, &there) {
            Room::Evict(from) => {
                let (lane, idle) = (&mut there[from.rank()], idle[from.rank()]);
                lane.usage.jobs = lane.usage.jobs.saturating_sub(idle.jobs);
                lane.usage.bytes = lane.usage.bytes.saturating_sub(idle.bytes);
                lane.evictable = false;
            }
            room => return room,
        }
    }
}
