//! What is looked at without changing it.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Contents, DeadLetter, Depth, Found};
use super::row::{Named, priority, signed, unsigned};
use crate::job::{JobId, JobState, Reason};

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
    const DEPTHS: &str = "SELECT type, priority,
            SUM(state = 0 AND due <= ?1), SUM(state = 0 AND due > ?1), SUM(state = 1), SUM(size),
            MIN(CASE WHEN state = 0 AND due <= ?1 THEN due END)
        FROM jobs WHERE state < 2 GROUP BY type, priority ORDER BY type, priority";
    // Both are of one moment.
    let moment = connection.unchecked_transaction()?;
    let mut statement = moment.prepare_cached(DEPTHS)?;
    let depths = statement.query_map([signed(now)], |row| {
        let oldest = row.get::<_, Option<i64>>(6)?.and_then(|oldest| oldest.try_into().ok());
        let (waiting, delayed, active) = (unsigned(row, 2)?, unsigned(row, 3)?, unsigned(row, 4)?);
        let (kind, priority, bytes) = (row.get(0)?, priority(row, 1)?, unsigned(row, 5)?);
        Ok(Depth { kind, priority, waiting, delayed, active, bytes, oldest })
    })?;
    let depths = depths.collect::<Result<_, _>>()?;
    let dead =
        moment.prepare_cached("SELECT COUNT(*) FROM jobs WHERE state = 2")?.query_row((), |row| unsigned(row, 0))?;
    Ok(Contents { depths, dead })
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
