//! What a caller is given when a call was not made: an error, or an answer.

use std::fmt;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::{Error, Rejected};
use crate::classify::{GrpcCode, know};
use crate::hint::PUSHBACK;

/// Put into the extensions of an answer that a circuit gave in the place of whoever was not called.
///
/// Breakers and retries farther out go by it: such an answer is neither a failure of the callee nor worth another try.
#[derive(Clone, Debug)]
pub struct Refused(pub Rejected);

/// How a [`CircuitBreaker`](super::CircuitBreaker) tells that a call was not made.
///
/// [`Fail`] and [`Answer`] are all there are.
pub trait Refuse: Clone + sealed::Sealed {
    /// The error of the breaker around a service with this error.
    type Error<E>;

    #[doc(hidden)]
    fn refuse<E: fmt::Display + 'static>(
        &self,
        rejected: Rejected,
        is_grpc: bool,
    ) -> Result<Response<()>, Self::Error<E>>;

    #[doc(hidden)]
    fn inner<E: fmt::Display + 'static>(error: E) -> Self::Error<E>;
}

/// With [`Error::Open`].
#[derive(Clone, Copy, Debug)]
pub struct Fail;

/// With an answer of this status and `Retry-After`, or gRPC's UNAVAILABLE with a pushback; for services that are
/// infallible, as axum's, and for gateways.
#[derive(Clone, Copy, Debug)]
pub struct Answer(pub(super) StatusCode);

mod sealed {
    #[allow(unnameable_types, reason = "nobody else may implement Refuse")]
    pub trait Sealed {}

    impl Sealed for super::Fail {}
    impl Sealed for super::Answer {}
}

impl Refuse for Fail {
    type Error<E> = Error<E>;

    fn refuse<E: fmt::Display + 'static>(&self, rejected: Rejected, _is_grpc: bool) -> Result<Response<()>, Error<E>> {
        know::<Error<E>>();
        Err(Error::Open(rejected))
    }

    fn inner<E: fmt::Display + 'static>(error: E) -> Error<E> {
        know::<Error<E>>();
        Error::Inner(error)
    }
}

impl Refuse for Answer {
    type Error<E> = E;

    fn refuse<E>(&self, rejected: Rejected, is_grpc: bool) -> Result<Response<()>, E> {
        let mut response = Response::new(());
        // Up to the next whole second, and never none: who comes back at once comes too early.
        let millis = u64::try_from(rejected.retry_after.as_millis()).unwrap_or(u64::MAX);
        let headers = response.headers_mut();
        if is_grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(u16::from(GrpcCode::UNAVAILABLE.number())));
            headers.insert("grpc-message", HeaderValue::from_static("circuit open"));
            headers.insert(PUSHBACK, HeaderValue::from(millis));
        } else {
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000).max(1)));
            *response.status_mut() = self.0;
        }
        let extensions = response.extensions_mut();
        // For those on this side. Whoever reads it from the wire is told when to come again.
        #[cfg(feature = "retry")]
        extensions.insert(crate::retry::DoNotRetry::Rejected);
        extensions.insert(Refused(rejected));
        Ok(response)
    }

    fn inner<E>(error: E) -> E {
        error
    }
}
