//! An operation that is ended by hand.

use std::fmt;

use super::work::Work;
use crate::classify::Outcome;
use crate::context::Context;

/// An operation under way, for code that is neither a future nor a closure; of
/// [`Operation::begin`](super::Operation::begin).
///
/// Dropped without an end it was cancelled, or has panicked when that is why it is dropped.
#[must_use = "it is cancelled when it is dropped"]
pub struct Running(pub(super) Work);

impl Running {
    /// The context of the work; none where telemetry is off and there was none.
    pub fn context(&self) -> Option<&Context> {
        self.0.context()
    }

    /// Does some of the work in its context, with its span as the current one.
    pub fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.0.run(work)
    }

    /// Ends it well.
    pub fn succeed(mut self) {
        self.0.end(None);
    }

    /// Ends it with an error; `error_type` is of few values.
    pub fn fail(mut self, error_type: &'static str) {
        self.0.end(Some(error_type));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.finish(Outcome::Panicked, None);
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("context", &self.0.context()).finish_non_exhaustive()
    }
}
