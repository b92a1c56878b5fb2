//! Dead letters in the file, and what is forgotten of it.

use rusqlite::{OptionalExtension, params};

use super::super::super::after;
use super::super::depths::{Counted, Stand};
use super::super::read;
use super::super::row::{signed, unsigned};
use super::Work;
use crate::job::JobId;

impl Work<'_> {
    pub(in super::super) fn replay(&mut self, ids: &[JobId], now: u64) -> rusqlite::Result<u64> {
        const REPLAY: &str = "UPDATE jobs SET state = 0, due = ?2, place = ?3, attempts = 0, crashes = 0, reason = NULL
            WHERE id = ?1 AND state = 2 RETURNING type, priority, size";
        let mut replayed = 0;
        for id in ids {
            let place = self.next();
            let values = params![id.as_str(), signed(now), place];
            let one = self.sql(REPLAY)?.query_row(values, |row| Counted::read(row, 0));
            if let Some(counted) = one.optional()? {
                self.depths.moved(counted, Some(Stand::Dead), Some(Stand::Queued));
                replayed += 1;
            }
        }
        Ok(replayed)
    }

    pub(in super::super) fn discard(&mut self, ids: &[JobId]) -> rusqlite::Result<u64> {
        const DEAD: &str = "SELECT seq, type, priority, size FROM jobs WHERE id = ?1 AND state = 2";
        let mut discarded = 0;
        for id in ids {
            let letter = self.sql(DEAD)?.query_row([id.as_str()], |row| Ok((row.get(0)?, Counted::read(row, 1)?)));
            if let Some((seq, counted)) = letter.optional()? {
                self.remove(seq)?;
                self.depths.moved(counted, Some(Stand::Dead), None);
                discarded += 1;
            }
        }
        Ok(discarded)
    }

    /// Forgets at most so many; whether there may be more.
    pub(in super::super) fn forget(&mut self, most: usize, now: u64) -> rusqlite::Result<bool> {
        // In the order in which they were done, which is that of their end but for a clock that was set back.
        const DONE: &str = "DELETE FROM done WHERE seq IN (SELECT seq FROM done ORDER BY seq LIMIT ?1)
            AND (until <= ?2 OR seq <= (SELECT MAX(seq) FROM done) - ?3)";
        const EMPTY: &str = "DELETE FROM depths WHERE queued = 0 AND active = 0 AND dead = 0";
        let limit = signed(most as u64);
        let done = self.run(DONE, params![limit, signed(now), signed(self.config.bounds.most())])?;
        let dead = self.forget_dead(limit, now)?;
        self.run(EMPTY, ())?;
        Ok(done == most || dead == most)
    }

    /// The oldest, as long as their time is over or there are too many.
    fn forget_dead(&mut self, limit: i64, now: u64) -> rusqlite::Result<usize> {
        const OLDEST: &str =
            "SELECT seq, type, priority, size, time FROM jobs WHERE state = 2 ORDER BY time, id LIMIT ?1";
        let kept = now.saturating_sub(after(0, self.config.keep_dead));
        let mut left = read::buried(self.connection)?;
        let mut over = Vec::new();
        let mut statement = self.sql(OLDEST)?;
        let mut rows = statement.query([limit])?;
        while let Some(row) = rows.next()? {
            let counted = Counted::read(row, 1)?;
            if unsigned(row, 4)? >= kept && self.config.most_dead.holds(left) {
                break;
            }
            left.take(counted.size);
            over.push((row.get(0)?, counted));
        }
        drop(rows);
        let forgotten = over.len();
        for (seq, counted) in over {
            self.remove(seq)?;
            self.depths.moved(counted, Some(Stand::Dead), None);
        }
        Ok(forgotten)
    }
}
