use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::LONGEST_KIND;
use crate::engine::{EngineError, Full};

/// Why a job was not pushed.
#[derive(Debug)]
#[non_exhaustive]
pub enum PushError {
    /// There was no room.
    Full(Full),
    /// Its data has more bytes than [`Queue::largest`](super::Queue::largest) says.
    TooLarge {
        /// So many.
        bytes: usize,
        /// So many may it have.
        most: usize,
    },
    /// Its type is no name: it is empty, longer than 200 bytes, or has control characters in it.
    Kind(Arc<str>),
    /// The engine failed; it may have been pushed. Shared by what was pushed together.
    Engine(Arc<EngineError>),
}

impl PushError {
    /// Nobody answered for it.
    pub(super) fn unanswered() -> Self {
        Self::Engine(Arc::new(EngineError::Closed))
    }

    /// Whether there was no room, by the queue's bounds or by its disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Engine(error) => matches!(**error, EngineError::StorageFull),
            Self::TooLarge { .. } | Self::Kind(_) => false,
        }
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the queue is full"),
            Self::TooLarge { bytes, most } => write!(f, "the data of the job has {bytes} bytes, and {most} at most"),
            Self::Kind(kind) => {
                write!(f, "{kind:?} is no type of a job: it has 1 to {LONGEST_KIND} bytes, and no control characters")
            }
            Self::Engine(_) => f.write_str("the job could not be stored"),
        }
    }
}

impl StdError for PushError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Full(full) => Some(full),
            Self::Engine(error) => Some(&**error),
            Self::TooLarge { .. } | Self::Kind(_) => None,
        }
    }
}
