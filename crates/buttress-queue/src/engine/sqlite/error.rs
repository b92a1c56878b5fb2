//! What SQLite says, in the queue's words.

use std::fmt;

use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rusqlite::{Error, ErrorCode};

use super::super::EngineError;

/// Whether there was no room for it.
pub(super) fn is_full(error: &Error) -> bool {
    let Error::SqliteFailure(failure, _) = error else { return false };
    // The index of the log could not grow: a full disk by another name.
    failure.code == ErrorCode::DiskFull || failure.extended_code == SQLITE_IOERR_SHMSIZE
}

pub(super) fn engine_error(error: Error) -> EngineError {
    use ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, SystemIoFailure};
    match error.sqlite_error_code() {
        _ if is_full(&error) => EngineError::StorageFull,
        Some(DatabaseBusy | DatabaseLocked | SystemIoFailure | CannotOpen) => EngineError::Unavailable(Box::new(error)),
        _ => EngineError::Failed(Box::new(error)),
    }
}

/// Why a file is not opened as a queue.
#[derive(Debug)]
pub(super) enum NotAQueue {
    /// It has tables of somebody else.
    Foreign,
    /// It is of another version.
    Version(i64),
    /// It cannot be written through a log: this is how it is written instead.
    Journal(String),
}

impl fmt::Display for NotAQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = super::schema::VERSION;
        match self {
            Self::Foreign => f.write_str("the file is a database, and not of a queue"),
            Self::Version(found) => {
                write!(f, "the file has version {found} of the queue's schema: this program knows {known}")
            }
            Self::Journal(mode) => write!(f, "the file is written with journal mode {mode:?}: a queue needs \"wal\""),
        }
    }
}

impl std::error::Error for NotAQueue {}
