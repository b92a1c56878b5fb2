use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::Rejected;
use crate::classify::{Fault, Layered, REFUSED, Wrapper};

/// The error of a [`CircuitBreaker`](super::CircuitBreaker).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// The call was rejected; nobody was called. Not to be retried before [`Rejected::retry_after`].
    Open(Rejected),
    /// The call was made and failed.
    Inner(E),
}

impl<E> Error<E> {
    /// Whether the call was rejected.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// When to ask again, if the call was rejected.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Open(rejected) => Some(rejected.retry_after),
            Self::Inner(_) => None,
        }
    }

    /// The error of the call, if it was made.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Open(_) => None,
            Self::Inner(error) => Some(error),
        }
    }
}

impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "the call was not made",
            Self::Inner(_) => "the call failed",
        })
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Open(rejected) => Some(rejected),
            Self::Inner(error) => Some(error),
        }
    }
}

impl<E: fmt::Display + 'static> Wrapper for Error<E> {
    fn layered(&self) -> Layered<'_> {
        match self {
            Self::Open(_) => Layered::Own { name: REFUSED, is_refusal: true },
            Self::Inner(error) => Layered::Inner(Fault::new(error)),
        }
    }
}
