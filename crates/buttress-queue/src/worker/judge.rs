//! What an error of a processor is.

use std::fmt::Write;
use std::sync::Arc;

use buttress::circuit_breaker::Rejected;

use crate::BoxError;
use crate::job::Outcome;

#[derive(Clone)]
pub(super) struct Judge(Arc<dyn Fn(&BoxError) -> Outcome + Send + Sync>);

impl Judge {
    pub(super) fn of(judge: impl Fn(&BoxError) -> Outcome + Send + Sync + 'static) -> Self {
        Self(Arc::new(judge))
    }

    pub(super) fn outcome(&self, error: &BoxError) -> Outcome {
        (self.0)(error)
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self::of(|error| match Rejected::of(&**error) {
            Some(rejected) => Outcome::defer(rejected.retry_after, rejected.to_string()),
            None => Outcome::retry(told(error)),
        })
    }
}

/// An error with its sources.
pub(super) fn told(error: &BoxError) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a String cannot fail.
        let _ = write!(told, ": {error}");
        source = error.source();
    }
    told
}
