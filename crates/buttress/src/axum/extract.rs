//! What a handler asks for in its parameters.

use std::convert::Infallible;
use std::fmt;

use ::axum::extract::{FromRequestParts, OptionalFromRequestParts};
use ::axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::context::{self, Baggage, Context, TraceContext};

/// A handler asked for the context of its request, and no layer of this crate is around it. Answers 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoContext;

impl fmt::Display for NoContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no context around this handler: add PropagateLayer, TraceLayer or Telemetry::server() to the router",
        )
    }
}

impl std::error::Error for NoContext {}

impl IntoResponse for NoContext {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// The context of this request: [`context::current`] at the time of extraction.
impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = NoContext;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Self, NoContext> {
        context::current().ok_or(NoContext)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(context::current())
    }
}

/// Trace, span and flags of this request's server span.
impl<S: Sync> FromRequestParts<S> for TraceContext {
    type Rejection = NoContext;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Self, NoContext> {
        context::with_current(|context| context.map(Context::trace)).ok_or(NoContext)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(context::with_current(|context| context.map(Context::trace)))
    }
}

/// The baggage that the layer let in; empty where there is none.
impl<S: Sync> FromRequestParts<S> for Baggage {
    type Rejection = Infallible;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(context::with_current(|context| context.map(|context| context.baggage().clone())).unwrap_or_default())
    }
}
