//! What is counted along while jobs come, move and go.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::super::Usage;
use super::row::{priority, rank, signed, unsigned};
use crate::job::Priority;

/// Where a job stands: `jobs.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Queued,
    Active,
    Dead,
}

/// What a job is counted by.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) kind: Arc<str>,
    pub(super) priority: Priority,
    pub(super) size: u64,
}

impl Counted {
    /// From the columns `type, priority, size`, of which the first is this.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self { kind: row.get(first)?, priority: priority(row, first + 1)?, size: unsigned(row, first + 2)? })
    }
}

/// The counts of a transaction: what there was when it began, and what has moved.
pub(super) struct Depths {
    usage: [Usage; 4],
    before: [Usage; 4],
    moved: HashMap<(Arc<str>, Priority), Moved>,
}

/// By how much the counts of a type and priority have changed.
#[derive(Clone, Copy, Default)]
struct Moved {
    queued: i64,
    active: i64,
    bytes: i64,
    dead: i64,
    dead_bytes: i64,
}

impl Depths {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut usage = [Usage::default(); 4];
        let mut statement = connection.prepare_cached("SELECT priority, jobs, bytes FROM usage")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            usage[priority(row, 0)?.rank()] = Usage { jobs: unsigned(row, 1)?, bytes: unsigned(row, 2)? };
        }
        Ok(Self { usage, before: usage, moved: HashMap::new() })
    }

    /// Of each priority what there is, dead letters not among it.
    pub(super) const fn usage(&self) -> &[Usage; 4] {
        &self.usage
    }

    /// A job came from nowhere, went there, or stands elsewhere than before.
    pub(super) fn moved(&mut self, Counted { kind, priority, size }: Counted, from: Option<Stand>, to: Option<Stand>) {
        let usage = &mut self.usage[priority.rank()];
        let moved = self.moved.entry((kind, priority)).or_default();
        if let Some(from) = from {
            moved.count(from, -1, size);
            if from != Stand::Dead {
                usage.take(size);
            }
        }
        if let Some(to) = to {
            moved.count(to, 1, size);
            if to != Stand::Dead {
                usage.add(size);
            }
        }
    }

    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        const USAGE: &str = "UPDATE usage SET jobs = ?2, bytes = ?3 WHERE priority = ?1";
        const DEPTH: &str = "INSERT INTO depths VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET
            queued = queued + excluded.queued, active = active + excluded.active, bytes = bytes + excluded.bytes,
            dead = dead + excluded.dead, dead_bytes = dead_bytes + excluded.dead_bytes";
        for (priority, usage) in Priority::ALL.into_iter().zip(self.usage) {
            if usage != self.before[priority.rank()] {
                let values = params![rank(priority), signed(usage.jobs), signed(usage.bytes)];
                connection.prepare_cached(USAGE)?.execute(values)?;
            }
        }
        for ((kind, priority), moved) in self.moved {
            let Moved { queued, active, bytes, dead, dead_bytes } = moved;
            let values = params![kind, rank(priority), queued, active, bytes, dead, dead_bytes];
            connection.prepare_cached(DEPTH)?.execute(values)?;
        }
        Ok(())
    }
}

impl Moved {
    fn count(&mut self, stand: Stand, by: i64, size: u64) {
        let (count, bytes) = match stand {
            Stand::Queued => (&mut self.queued, &mut self.bytes),
            Stand::Active => (&mut self.active, &mut self.bytes),
            Stand::Dead => (&mut self.dead, &mut self.dead_bytes),
        };
        *count += by;
        *bytes += by * signed(size);
    }
}
