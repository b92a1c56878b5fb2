use std::error::Error as StdError;
use std::fmt;

use crate::job::JobId;

/// Why an engine did not do what it was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// The lease is somebody else's by now, or the job is done. Whatever was done with it will be done again.
    LeaseLost(JobId),
    /// The disk, or what is allowed of it, is full. Nothing was changed; what is done makes room.
    StorageFull,
    /// It cannot be reached now.
    Unavailable(Box<dyn StdError + Send + Sync>),
    /// It failed.
    Failed(Box<dyn StdError + Send + Sync>),
    /// It has been closed.
    Closed,
}

impl EngineError {
    /// Whether the same may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::StorageFull | Self::Unavailable(_))
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseLost(id) => write!(f, "the lease of job {id} is over"),
            Self::StorageFull => f.write_str("the storage of the queue is full"),
            Self::Unavailable(_) => f.write_str("the storage of the queue cannot be reached"),
            Self::Failed(_) => f.write_str("the storage of the queue failed"),
            Self::Closed => f.write_str("the queue is closed"),
        }
    }
}

impl StdError for EngineError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Unavailable(error) | Self::Failed(error) => Some(&**error),
            Self::LeaseLost(_) | Self::StorageFull | Self::Closed => None,
        }
    }
}
