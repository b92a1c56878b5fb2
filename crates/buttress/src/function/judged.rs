//! Whether what came out is an error. The macro knows no types, so the compiler picks the first of three traits that fits:
//! each is implemented with one reference less than the one before.

use std::any::type_name;
use std::fmt;

use crate::classify::Fault;

#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "it lasts for one call")]
pub struct Judged<'a, T>(pub &'a T);

/// A `Result` whose error can be looked into.
#[doc(hidden)]
pub trait DisplayedError {
    fn error_type(&self) -> Option<&'static str>;
}

impl<T, E: fmt::Display + 'static> DisplayedError for &&Judged<'_, Result<T, E>> {
    fn error_type(&self) -> Option<&'static str> {
        self.0.as_ref().err().map(|error| Fault::new(error).name())
    }
}

/// Any other `Result`.
#[doc(hidden)]
pub trait OtherError {
    fn error_type(&self) -> Option<&'static str>;
}

impl<T, E> OtherError for &Judged<'_, Result<T, E>> {
    fn error_type(&self) -> Option<&'static str> {
        self.0.as_ref().err().map(|_| type_name::<E>())
    }
}

/// What is no `Result`, and so no error.
#[doc(hidden)]
pub trait AnyOutput {
    fn error_type(&self) -> Option<&'static str>;
}

impl<T> AnyOutput for Judged<'_, T> {
    fn error_type(&self) -> Option<&'static str> {
        None
    }
}

/// What a function of the user's calls an error.
#[doc(hidden)]
pub fn error_type<T, E>(output: &Result<T, E>, name: impl FnOnce(&E) -> &'static str) -> Option<&'static str> {
    output.as_ref().err().map(name)
}
