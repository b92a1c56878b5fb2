//! What is looked at without changing it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{Contents, DeadLetter, Depth, Found, Usage};
use super::row::{Named, priority, rank, signed, unsigned};
use crate::job::{JobId, JobState, Priority, Reason};

pub(super) fn find(connection: &Connection, id: &JobId, now: u64) -> rusqlite::Result<Option<Found>> {
    const JOB: &str = "SELECT state, due, attempts, crashes FROM jobs WHERE id = ?1";
    const DONE: &str = "SELECT attempts, crashes FROM done WHERE id = ?1 AND until > ?2";
    let job = connection.prepare_cached(JOB)?.query_row([id.as_str()], |row| {
        let state = match row.get(0)? {
            0 if unsigned(row, 1)? > now => JobState::Delayed,
            0 => JobState::Waiting,
            1 => JobState::Active,
            _ => JobState::Dead,
        };
        Ok(Found { state, attempts: row.get(2)?, crashes: row.get(3)? })
    });
    if let Some(found) = job.optional()? {
        return Ok(Some(found));
    }
    let done = connection.prepare_cached(DONE)?.query_row(params![id.as_str(), signed(now)], |row| {
        Ok(Found { state: JobState::Done, attempts: row.get(0)?, crashes: row.get(1)? })
    });
    done.optional()
}

pub(super) fn contents(connection: &Connection, now: u64) -> rusqlite::Result<Contents> {
    const DEPTHS: &str = "SELECT type, priority, queued, active, bytes FROM depths
        WHERE queued + active > 0 ORDER BY type, priority";
    // All of it is of one moment.
    let moment = connection.unchecked_transaction()?;
    let mut statement = moment.prepare_cached(DEPTHS)?;
    let depths = statement.query_map((), |row| {
        let (kind, priority) = (row.get(0)?, priority(row, 1)?);
        let (active, bytes) = (unsigned(row, 3)?, unsigned(row, 4)?);
        let lane = Lane { connection: &moment, kind: &kind, priority, queued: unsigned(row, 2)?, now };
        let (waiting, oldest) = (lane.waiting()?, lane.oldest()?);
        let delayed = lane.queued - waiting;
        Ok(Depth { kind, priority, waiting, delayed, active, bytes, oldest })
    })?;
    let depths = depths.collect::<Result<_, _>>()?;
    Ok(Contents { depths, dead: buried(&moment)?.jobs })
}

/// How much of dead letters there is.
pub(super) fn buried(connection: &Connection) -> rusqlite::Result<Usage> {
    const DEAD: &str = "SELECT COALESCE(SUM(dead), 0), COALESCE(SUM(dead_bytes), 0) FROM depths";
    let usage = |row: &Row<'_>| Ok(Usage { jobs: unsigned(row, 0)?, bytes: unsigned(row, 1)? });
    connection.prepare_cached(DEAD)?.query_row((), usage)
}

/// What is queued of one type and priority.
struct Lane<'a> {
    connection: &'a Connection,
    kind: &'a Arc<str>,
    priority: Priority,
    queued: u64,
    now: u64,
}

impl Lane<'_> {
    /// How many of them can be claimed. Counts those or the others, whichever are fewer.
    fn waiting(&self) -> rusqlite::Result<u64> {
        const DUE: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM jobs INDEXED BY typed
            WHERE state = 0 AND type = ?1 AND priority = ?2 AND due <= ?3 LIMIT ?4)";
        const LATER: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM jobs INDEXED BY typed
            WHERE state = 0 AND type = ?1 AND priority = ?2 AND due > ?3 LIMIT ?4)";
        let mut most = 1_000;
        loop {
            let later = self.count(LATER, most)?;
            if later < most {
                return Ok(self.queued.saturating_sub(later));
            }
            let due = self.count(DUE, most)?;
            if due < most {
                return Ok(due);
            }
            most *= 4;
        }
    }

    fn count(&self, sql: &str, most: u64) -> rusqlite::Result<u64> {
        let lane = params![self.kind, rank(self.priority), signed(self.now), signed(most)];
        self.connection.prepare_cached(sql)?.query_row(lane, |row| unsigned(row, 0))
    }

    /// Since when the first could be claimed.
    fn oldest(&self) -> rusqlite::Result<Option<u64>> {
        const FIRST: &str = "SELECT due FROM jobs INDEXED BY typed
            WHERE state = 0 AND type = ?1 AND priority = ?2 AND due <= ?3 ORDER BY due LIMIT 1";
        let lane = params![self.kind, rank(self.priority), signed(self.now)];
        self.connection.prepare_cached(FIRST)?.query_row(lane, |row| unsigned(row, 0)).optional()
    }
}

/// Dead letters after this one, by when it was buried and its id.
pub(super) fn dead(
    connection: &Connection,
    after: Option<&(u64, JobId)>,
    max: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    const DEAD: &str = "SELECT id, type, priority, seq, attempts, crashes, time, reason FROM jobs
        WHERE state = 2 AND (time, id) > (?1, ?2) ORDER BY time, id LIMIT ?3";
    let moment = connection.unchecked_transaction()?;
    let (time, id) = after.map_or((-1, ""), |(buried, id)| (signed(*buried), id.as_str()));
    let mut statement = moment.prepare_cached(DEAD)?;
    let letters = statement.query_map(params![time, id, signed(max as u64)], |row| {
        let envelope = Named::read(row)?.envelope(&moment, row.get(3)?)?;
        let reason = Reason::from(row.get::<_, Option<String>>(7)?.unwrap_or_default());
        let (attempts, crashes, buried) = (row.get(4)?, row.get(5)?, unsigned(row, 6)?);
        Ok(DeadLetter { envelope, reason, attempts, crashes, buried })
    })?;
    letters.collect()
}

/// When there will be something to claim.
pub(super) fn next_due(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    const QUEUED: &str = "SELECT due FROM jobs INDEXED BY queued WHERE state = 0 AND priority = ?1
        ORDER BY due, place LIMIT 1";
    const ACTIVE: &str = "SELECT time FROM jobs INDEXED BY active WHERE state = 1 ORDER BY time LIMIT 1";
    let mut queued = connection.prepare_cached(QUEUED)?;
    let mut next = connection.prepare_cached(ACTIVE)?.query_row((), |row| unsigned(row, 0)).optional()?;
    for rank in 0..4 {
        let due = queued.query_row([rank], |row| unsigned(row, 0)).optional()?;
        next = next.into_iter().chain(due).min();
    }
    Ok(next)
}
