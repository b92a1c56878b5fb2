use std::error::Error;
use std::fmt;
use std::time::Duration;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// There was no answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimedOut {
    /// One attempt took longer than this.
    Attempt(Duration),
    /// The deadline for all attempts has passed.
    Deadline,
}

impl TimedOut {
    /// Finds it in an error or its sources.
    pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|error: &'a (dyn Error + 'static)| error.downcast_ref())
    }

    /// Whether no time is left for another attempt.
    pub const fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline)
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt(after) => write!(f, "no answer within {after:?}"),
            Self::Deadline => f.write_str("the deadline has passed"),
        }
    }
}

impl Error for TimedOut {}

/// The error of an attempt: it took too long, or what its service failed with.
///
/// A type with a name, because a compiler that asks whether a future is `Send` does not get through services whose error is
/// a box.
#[derive(Debug)]
pub struct AttemptError(pub(super) BoxError);

impl AttemptError {
    /// Whether it took too long.
    pub fn is_timeout(&self) -> bool {
        self.0.is::<TimedOut>()
    }

    /// What it wraps.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

impl From<TimedOut> for AttemptError {
    fn from(timed_out: TimedOut) -> Self {
        Self(timed_out.into())
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the attempt failed")
    }
}

impl Error for AttemptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Wraps an error that says no: a repeat of the request is not even thought about, and takes nothing of a budget.
///
/// For whatever turns requests away before they are sent: a limit, a queue that is full. It may stand anywhere in the
/// chain of sources.
#[derive(Debug)]
pub struct NotRetryable(BoxError);

impl NotRetryable {
    /// Wraps it.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// Finds it in an error or its sources.
    pub fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|error: &'a (dyn Error + 'static)| error.downcast_ref())
    }
}

impl fmt::Display for NotRetryable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must not be tried again")
    }
}

impl Error for NotRetryable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether this one error, not its sources, turned the request away on purpose.
pub(super) fn is_rejection(error: &(dyn Error + 'static)) -> bool {
    error.is::<NotRetryable>()
}
