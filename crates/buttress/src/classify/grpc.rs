use std::fmt;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::headers;

/// A gRPC status code, 0 to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcCode(u8);

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl GrpcCode {
    /// 0
    pub const OK: Self = Self(0);
    /// 1
    pub const CANCELLED: Self = Self(1);
    /// 2
    pub const UNKNOWN: Self = Self(2);
    /// 3
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// 4
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// 5
    pub const NOT_FOUND: Self = Self(5);
    /// 6
    pub const ALREADY_EXISTS: Self = Self(6);
    /// 7
    pub const PERMISSION_DENIED: Self = Self(7);
    /// 8
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// 9
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// 10
    pub const ABORTED: Self = Self(10);
    /// 11
    pub const OUT_OF_RANGE: Self = Self(11);
    /// 12
    pub const UNIMPLEMENTED: Self = Self(12);
    /// 13
    pub const INTERNAL: Self = Self(13);
    /// 14
    pub const UNAVAILABLE: Self = Self(14);
    /// 15
    pub const DATA_LOSS: Self = Self(15);
    /// 16
    pub const UNAUTHENTICATED: Self = Self(16);

    /// The code of this number; what gRPC does not know is [`GrpcCode::UNKNOWN`].
    pub const fn from_number(number: u8) -> Self {
        if (number as usize) < NAMES.len() { Self(number) } else { Self::UNKNOWN }
    }

    /// The `grpc-status` of trailers or of a trailers-only head; a malformed one is [`GrpcCode::UNKNOWN`].
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get("grpc-status")?;
        Some(match value.as_bytes() {
            [digit @ b'0'..=b'9'] => Self(digit - b'0'),
            [b'1', digit @ b'0'..=b'6'] => Self(10 + digit - b'0'),
            _ => Self::UNKNOWN,
        })
    }

    /// The code that a client has to assume of an answer without one (gRPC, "HTTP to gRPC Status Code Mapping").
    pub fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::INTERNAL,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 => Self::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The name, as in `DEADLINE_EXCEEDED`.
    pub const fn as_str(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// Whether OpenTelemetry counts it as an error, seen from the client or the server.
    pub const fn is_error(self, client: bool) -> bool {
        match self {
            Self::OK => false,
            Self::UNKNOWN
            | Self::DEADLINE_EXCEEDED
            | Self::UNIMPLEMENTED
            | Self::INTERNAL
            | Self::UNAVAILABLE
            | Self::DATA_LOSS => true,
            _ => client,
        }
    }
}

impl fmt::Display for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the head of a gRPC answer says about its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// The status of a trailers-only answer.
    pub head: Option<GrpcCode>,
    /// The status to assume when none comes.
    pub implied: GrpcCode,
}

impl Grpc {
    pub(crate) const UNANSWERED: Self = Self { head: None, implied: GrpcCode::UNKNOWN };

    pub(crate) fn of_head(status: StatusCode, headers: &HeaderMap) -> Self {
        Self { head: GrpcCode::from_headers(headers), implied: GrpcCode::from_http(status) }
    }

    /// Whether the head has said all there is to know, so that the status does not wait for trailers.
    pub(crate) fn is_told_by_head(self, status: StatusCode) -> bool {
        self.head.is_some() || status != StatusCode::OK
    }
}

/// Whether a request is gRPC: `application/grpc`, alone or with a `+codec`, but not gRPC-Web.
///
/// gRPC is a POST (gRPC over HTTP/2, "Requests"): whatever else names its content type is none, and is spared the look-up.
#[inline]
pub(crate) fn is_grpc_request(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST && is_grpc(headers)
}

/// A request has one `content-type` (RFC 9110, section 8.3). Of several the first counts, as it does for tonic: what serves
/// the request and what watches it shall not take it for different things.
#[inline]
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers::first(headers, &CONTENT_TYPE).is_some_and(is_grpc_type)
}

/// The same of its content type.
#[inline]
fn is_grpc_type(content_type: &HeaderValue) -> bool {
    match content_type.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
        None => false,
    }
}
