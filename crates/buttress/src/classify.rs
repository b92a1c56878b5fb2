//! What an exchange came to: one verdict that trace, metrics, breaker and access log share.
//!
//! [`How`] says how the exchange ended, [`Outcome`] what that means, [`ErrorType`] why it is an error.
//!
//! ```
//! use buttress::classify::{Classify, How, HttpClassifier, Outcome, Seen};
//! use http::StatusCode;
//!
//! let seen = Seen { how: &How::Complete { trailers: None }, status: Some(StatusCode::NOT_FOUND), grpc: None };
//! assert_eq!(HttpClassifier::server().classify(&seen).outcome, Outcome::Ok);
//! assert_eq!(HttpClassifier::client().classify(&seen).outcome, Outcome::Error);
//! ```

mod code;
mod fault;
mod grpc;
mod wrapper;

use std::fmt;

use http::{HeaderMap, StatusCode};

pub use code::ErrorCode;
pub use fault::Fault;
#[cfg(feature = "circuit-breaker")]
pub(crate) use fault::REFUSED;
#[cfg(feature = "retry")]
pub(crate) use grpc::is_grpc;
pub(crate) use grpc::is_grpc_request;
pub use grpc::{Grpc, GrpcCode};
#[cfg(feature = "circuit-breaker")]
pub(crate) use wrapper::{Layered, Wrapper, know};

/// How an exchange ended. There is exactly one for each exchange.
#[derive(Debug)]
#[non_exhaustive]
pub enum How<'a> {
    /// The body was delivered to its end.
    Complete {
        /// The trailers that closed it.
        trailers: Option<&'a HeaderMap>,
    },
    /// The inner service answered with an error instead of a head.
    Failed(Fault<'a>),
    /// The body broke after the head.
    BodyFailed(Fault<'a>),
    /// The future was dropped before there was a head: the client went away, or a timeout outside fired.
    DroppedBeforeHead,
    /// The body was dropped before its end.
    DroppedInBody,
    /// The connection was given to another protocol.
    Upgraded,
    /// The service or the body panicked; the panic goes on.
    Panicked,
}

impl How<'_> {
    /// The name of this ending without its data.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Complete { .. } => Ending::Complete,
            Self::Failed(_) => Ending::Failed,
            Self::BodyFailed(_) => Ending::BodyFailed,
            Self::DroppedBeforeHead => Ending::DroppedBeforeHead,
            Self::DroppedInBody => Ending::DroppedInBody,
            Self::Upgraded => Ending::Upgraded,
            Self::Panicked => Ending::Panicked,
        }
    }
}

/// [`How`] an exchange ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// `complete`
    Complete,
    /// `failed`
    Failed,
    /// `body_failed`
    BodyFailed,
    /// `dropped_before_head`
    DroppedBeforeHead,
    /// `dropped_in_body`
    DroppedInBody,
    /// `upgraded`
    Upgraded,
    /// `panicked`
    Panicked,
}

impl Ending {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::BodyFailed => "body_failed",
            Self::DroppedBeforeHead => "dropped_before_head",
            Self::DroppedInBody => "dropped_in_body",
            Self::Upgraded => "upgraded",
            Self::Panicked => "panicked",
        }
    }
}

/// What an ending means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// `ok`
    Ok,
    /// `error`: [`ErrorType`] says why.
    Error,
    /// `cancelled`: the caller did not wait for the end. Not an error of the callee.
    Cancelled,
    /// `panicked`
    Panicked,
    /// `timeout`: an error whose type is `timeout`; of operations and observed functions. Exchanges tell it as an error.
    TimedOut,
}

impl Outcome {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
            Self::TimedOut => "timeout",
        }
    }

    /// Whether it counts as an error.
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::Panicked | Self::TimedOut)
    }

    /// Of work that came to an end, by what its error is called.
    #[cfg(feature = "trace")]
    pub(crate) fn of_error(error_type: Option<&str>) -> Self {
        match error_type {
            None => Self::Ok,
            Some("timeout") => Self::TimedOut,
            Some(_) => Self::Error,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// OpenTelemetry's `error.type`: few values, the same on span and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorType {
    /// An HTTP status, written as its number.
    Status(StatusCode),
    /// A gRPC status, written as its name.
    Grpc(GrpcCode),
    /// What a server that speaks no HTTP calls its error.
    Code(ErrorCode),
    /// The name of an error, a panic or a broken body.
    Name(&'static str),
}

impl ErrorType {
    /// The text of the attribute.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Status(status) => status.as_str(),
            Self::Grpc(code) => code.as_str(),
            Self::Code(code) => code.as_str(),
            Self::Name(name) => name,
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a classifier is shown, once, at the end.
#[derive(Debug)]
pub struct Seen<'a> {
    /// How it ended.
    pub how: &'a How<'a>,
    /// The status of the head, when there was one.
    pub status: Option<StatusCode>,
    /// What is known of the gRPC status, when this is a gRPC exchange.
    pub grpc: Option<Grpc>,
}

/// What an exchange tells about the health of whoever was called: what a breaker goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// It did what it is for.
    Well,
    /// It failed, or said that it has too much to do.
    Unwell,
    /// Nothing: the request deserved the error, the caller left, or nobody was called.
    Unknown,
}

/// What a classifier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it came to.
    pub outcome: Outcome,
    /// What it tells about the callee. Never `Well` where the outcome is an error, never `Unwell` where it is `Ok`.
    pub health: Health,
    /// Why it is an error; none for other outcomes.
    pub error_type: Option<ErrorType>,
    /// The gRPC status, when this is a gRPC exchange and a status was sent, or is implied by the way it ended.
    pub grpc_code: Option<GrpcCode>,
}

/// Turns the end of an exchange into a verdict; runs once for each.
pub trait Classify: Clone {
    /// The verdict.
    fn classify(&self, seen: &Seen<'_>) -> Verdict;
}

/// The conventions of OpenTelemetry for HTTP and gRPC.
///
/// HTTP: 5xx is an error; 4xx is one for clients only. gRPC: for servers UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
/// INTERNAL, UNAVAILABLE and DATA_LOSS are errors, for clients everything but OK. A missing gRPC status is UNKNOWN.
/// A caller that leaves is no error, unless the head had already told of one.
#[derive(Clone, Copy, Debug)]
pub struct HttpClassifier {
    client: bool,
}

impl HttpClassifier {
    /// The server's view.
    pub const fn server() -> Self {
        Self { client: false }
    }

    /// The client's view.
    pub const fn client() -> Self {
        Self { client: true }
    }

    /// Apart, because most exchanges are complete.
    #[inline(never)]
    fn incomplete(&self, seen: &Seen<'_>) -> Verdict {
        match seen.how {
            How::Complete { trailers } => self.complete(seen, *trailers),
            How::Upgraded => Verdict::ok(),
            How::Failed(fault) | How::BodyFailed(fault) => Verdict::of_fault(fault, seen.grpc.is_some()),
            How::DroppedBeforeHead => Verdict::cancelled(seen),
            How::DroppedInBody => self.dropped_in_body(seen),
            How::Panicked => Verdict {
                outcome: Outcome::Panicked,
                health: Health::Unwell,
                error_type: Some(ErrorType::Name("panic")),
                grpc_code: seen.grpc.map(|_| GrpcCode::UNKNOWN),
            },
        }
    }

    /// A caller that reads an error in the head and then drops the body has not made the error undone.
    fn dropped_in_body(&self, seen: &Seen<'_>) -> Verdict {
        let told = seen.status.is_some_and(|status| seen.grpc.is_none_or(|grpc| grpc.is_told_by_head(status)));
        let verdict = self.complete(seen, None);
        if told && verdict.outcome.is_error() { verdict } else { Verdict::cancelled(seen) }
    }

    #[inline]
    fn complete(&self, seen: &Seen<'_>, trailers: Option<&HeaderMap>) -> Verdict {
        match seen.grpc {
            None => Verdict::of_status(seen.status, self.client),
            Some(grpc) => self.complete_grpc(grpc, trailers),
        }
    }

    fn complete_grpc(&self, grpc: Grpc, trailers: Option<&HeaderMap>) -> Verdict {
        let code = trailers.and_then(GrpcCode::from_headers).or(grpc.head).unwrap_or(grpc.implied);
        match code {
            GrpcCode::OK => Verdict::ok().grpc(Some(code)),
            code if code.is_error(self.client) => Verdict::of_code(code),
            code => Verdict { health: Health::Unknown, ..Verdict::ok() }.grpc(Some(code)),
        }
    }
}

impl Classify for HttpClassifier {
    #[inline]
    fn classify(&self, seen: &Seen<'_>) -> Verdict {
        match seen.how {
            How::Complete { trailers } => self.complete(seen, *trailers),
            _ => self.incomplete(seen),
        }
    }
}

impl Verdict {
    /// A success.
    pub const fn ok() -> Self {
        Self { outcome: Outcome::Ok, health: Health::Well, error_type: None, grpc_code: None }
    }

    /// An error; `health` says whether the callee is to blame for it.
    pub const fn error(error_type: ErrorType, health: Health) -> Self {
        Self { outcome: Outcome::Error, health, error_type: Some(error_type), grpc_code: None }
    }

    /// With the status of a gRPC exchange.
    #[must_use]
    pub const fn grpc(mut self, code: Option<GrpcCode>) -> Self {
        self.grpc_code = code;
        self
    }

    fn cancelled(seen: &Seen<'_>) -> Self {
        let grpc_code = seen.grpc.map(|_| GrpcCode::CANCELLED);
        Self { outcome: Outcome::Cancelled, health: Health::Unknown, error_type: None, grpc_code }
    }

    /// An error that is a gRPC status tells its code; any other has a name.
    fn of_fault(fault: &Fault<'_>, is_grpc: bool) -> Self {
        match fault.grpc_code() {
            Some(code) if is_grpc && code != GrpcCode::OK => Self::of_code(code),
            _ => {
                let health = if fault.is_refusal() { Health::Unknown } else { Health::Unwell };
                Self::error(ErrorType::Name(fault.name()), health).grpc(is_grpc.then_some(GrpcCode::UNKNOWN))
            }
        }
    }

    fn of_code(code: GrpcCode) -> Self {
        // RESOURCE_EXHAUSTED is the client's error to OpenTelemetry, and yet it says that the server has too much to do.
        let unwell = code.is_error(false) || code == GrpcCode::RESOURCE_EXHAUSTED;
        let health = if unwell { Health::Unwell } else { Health::Unknown };
        Self::error(ErrorType::Grpc(code), health).grpc(Some(code))
    }

    #[inline]
    fn of_status(status: Option<StatusCode>, client: bool) -> Self {
        let Some(status) = status else {
            return Self::ok();
        };
        if status.is_server_error() {
            return Self::error(ErrorType::Status(status), Health::Unwell);
        }
        let too_much = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        match (status.is_client_error(), client) {
            (true, true) => {
                Self::error(ErrorType::Status(status), if too_much { Health::Unwell } else { Health::Unknown })
            }
            (true, false) => Self { health: Health::Unknown, ..Self::ok() },
            (false, _) => Self::ok(),
        }
    }
}
