//! Whether what came out is an error.

use std::fmt;

use crate::classify::Fault;

/// Says of the output of an operation whether it is an error, and of which kind.
///
/// [`Results`] is what operations begin with; [`Operation::infallible`](super::Operation::infallible) and
/// [`Operation::judged`](super::Operation::judged) change it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say whether `{T}` is an error",
    note = "operations take a `Result` whose error can be displayed",
    note = "for another output say `.infallible()`, or how to tell with `.judged(..)`"
)]
pub trait Judge<T> {
    /// A name of few values for `error.type`, or none when all is well.
    fn error_type(&self, output: &T) -> Option<&'static str>;
}

/// `Err` is an error, named like the error of a client: `timeout`, `connection_refused`, else its type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Results;

impl<T, E: fmt::Display + 'static> Judge<Result<T, E>> for Results {
    fn error_type(&self, output: &Result<T, E>) -> Option<&'static str> {
        output.as_ref().err().map(|error| Fault::new(error).name())
    }
}

/// Whatever comes out is fine.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyOutput;

impl<T> Judge<T> for AnyOutput {
    fn error_type(&self, _output: &T) -> Option<&'static str> {
        None
    }
}

/// What a closure says; of [`Operation::judged`](super::Operation::judged).
#[derive(Clone)]
pub struct JudgedBy<F>(pub(crate) F);

impl<T, F: Fn(&T) -> Option<&'static str>> Judge<T> for JudgedBy<F> {
    fn error_type(&self, output: &T) -> Option<&'static str> {
        self.0(output)
    }
}

impl<F> fmt::Debug for JudgedBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JudgedBy")
    }
}
