//! The file: how it is opened, and what is in it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::super::EngineError;
use super::error::{NotAQueue, engine_error};

/// Of what is below, in the file's `user_version`.
pub(super) const VERSION: i64 = 2;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;

/// How often somebody looks whether another process has ended its transaction, and for how long: ten seconds.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LOOKS: i32 = 10_000;

/// Statements that are kept prepared: more than there are.
const STATEMENTS: usize = 64;

/// What changes often is apart from what is large, so that a claim does not write the data again.
///
/// `state`: 0 queued, 1 active, 2 dead. `time`: of an active job the end of its lease, of a dead one when it was buried.
/// `place` orders jobs that are due at one time; `counter` is where places and fencing tokens come from. `depths` is counted
/// along, so that nobody who asks what is there has to look at all of it.
const TABLES: &str = "
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    priority INTEGER NOT NULL,
    size INTEGER NOT NULL,
    state INTEGER NOT NULL,
    due INTEGER NOT NULL,
    place INTEGER NOT NULL,
    time INTEGER NOT NULL,
    token INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    reason TEXT
);
CREATE INDEX queued ON jobs (priority, due, place) WHERE state = 0;
CREATE INDEX typed ON jobs (type, priority, due) WHERE state = 0;
CREATE INDEX active ON jobs (time) WHERE state = 1;
CREATE INDEX dead ON jobs (time, id) WHERE state = 2;
CREATE TABLE depths (
    type TEXT NOT NULL,
    priority INTEGER NOT NULL,
    queued INTEGER NOT NULL,
    active INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    dead_bytes INTEGER NOT NULL,
    PRIMARY KEY (type, priority)
) WITHOUT ROWID;
CREATE TABLE envelopes (
    seq INTEGER PRIMARY KEY,
    v INTEGER NOT NULL,
    key TEXT,
    created INTEGER NOT NULL,
    traceparent TEXT,
    tracestate TEXT,
    baggage TEXT,
    data TEXT NOT NULL
);
CREATE TABLE done (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    until INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL
);
CREATE TABLE usage (
    priority INTEGER PRIMARY KEY,
    jobs INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
INSERT INTO usage VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0);
CREATE TABLE counter (value INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
PRAGMA user_version = 2;
";

/// A connection that writes, to a file that is a queue from now on.
pub(super) fn open(path: &Path) -> Result<Connection, EngineError> {
    let mut connection = connect(path)?;
    let journal = prepare(&mut connection).map_err(engine_error)?;
    if journal != "wal" {
        return Err(EngineError::Failed(Box::new(NotAQueue::Journal(journal))));
    }
    match make_tables(&mut connection).map_err(engine_error)? {
        VERSION => Ok(connection),
        0 => Err(EngineError::Failed(Box::new(NotAQueue::Foreign))),
        version => Err(EngineError::Failed(Box::new(NotAQueue::Version(version)))),
    }
}

/// Of a file that has none, of any kind; the version that it has then.
fn make_tables(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match version(&transaction)? {
        (0, 0) => {
            transaction.execute_batch(TABLES)?;
            transaction.commit().map(|()| VERSION)
        }
        (version, _) => Ok(version),
    }
}

/// A connection that only reads.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, EngineError> {
    let connection = connect(path)?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(engine_error)?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, EngineError> {
    let connection = Connection::open(path).map_err(engine_error)?;
    wait_for_others(&connection, true).map_err(engine_error)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Whether to wait for other processes. SQLite's own way looks less and less often, which the one that writes always wins.
pub(super) fn wait_for_others(connection: &Connection, wait: bool) -> rusqlite::Result<()> {
    fn look(times: i32) -> bool {
        thread::park_timeout(LOOK_EVERY);
        times < LOOKS
    }
    connection.busy_handler(wait.then_some(look))
}

/// Answers how the file is written. A file that is not new is not changed before its version is known, but for its
/// journal, which is its own affair.
fn prepare(connection: &mut Connection) -> rusqlite::Result<String> {
    if version(connection)? == (0, 0) {
        // Only before there are tables; what is free can be given back to a full disk then.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    } else if version(connection)?.0 != VERSION {
        return Ok("wal".to_owned());
    }
    let journal = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;")?;
    Ok(journal)
}

/// The version of the schema, and how many things there are.
fn version(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let version = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let things = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", (), |row| row.get(0))?;
    Ok((version, things))
}
