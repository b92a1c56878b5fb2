//! Jobs as rows.

use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, Error, Row};
use serde_json::value::RawValue;

use crate::job::{Envelope, JobId, Priority, Trace};

/// As SQLite keeps it: the greatest for everything beyond.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(|number: i64| u64::try_from(number).unwrap_or_default())
}

pub(super) fn priority(row: &Row<'_>, column: usize) -> rusqlite::Result<Priority> {
    row.get::<_, u8>(column).map(|rank| Priority::of_rank(rank.into()))
}

pub(super) const fn rank(priority: Priority) -> i64 {
    priority.rank() as i64
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<JobId> {
    JobId::new(row.get::<_, Arc<str>>(column)?).map_err(|error| unreadable(column, error))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// What a job is called by, of whose row more is read.
pub(super) struct Named {
    pub(super) id: JobId,
    pub(super) kind: Arc<str>,
    pub(super) priority: Priority,
}

impl Named {
    /// From the columns `id, type, priority`.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: id(row, 0)?, kind: row.get(1)?, priority: priority(row, 2)? })
    }

    /// With what is kept apart.
    pub(super) fn envelope(self, connection: &Connection, seq: i64) -> rusqlite::Result<Envelope> {
        const APART: &str =
            "SELECT v, key, created, traceparent, tracestate, baggage, data FROM envelopes WHERE seq = ?1";
        let Self { id, kind, priority } = self;
        connection.prepare_cached(APART)?.query_row([seq], |row| {
            let trace = Trace { traceparent: row.get(3)?, tracestate: row.get(4)?, baggage: row.get(5)? };
            let data = RawValue::from_string(row.get(6)?).map_err(|error| unreadable(6, error))?;
            let (v, key, created) = (row.get(0)?, row.get(1)?, unsigned(row, 2)?);
            Ok(Envelope { v, id, kind, priority, key, created, trace, data })
        })
    }
}
