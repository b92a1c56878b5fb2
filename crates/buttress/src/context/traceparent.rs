//! `traceparent`: which trace, which span, which flags (W3C Trace Context level 2, section 3.2).

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::id::{SpanId, TraceId};
use super::{hex, list};
use crate::headers;

pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const VERSION_00_LENGTH: usize = 55;

/// The flags of a `traceparent`; bits that level 2 does not name are not kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// Whoever sent this may have recorded the trace.
    pub const SAMPLED: Self = Self(0b01);
    /// At least the last 56 bits of the trace id are random.
    pub const RANDOM: Self = Self(0b10);
    /// Neither.
    pub const NONE: Self = Self(0);

    /// The known bits of this byte.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte & 0b11)
    }

    /// The byte that goes into the header.
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// Whether the sampled bit is set.
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Whether the random bit is set.
    pub const fn is_random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }

    /// The same flags with the sampled bit as given.
    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self((self.0 & !Self::SAMPLED.0) | sampled as u8)
    }
}

impl fmt::Debug for TraceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceFlags({:02x})", self.0)
    }
}

/// The part of a context that every hop sends on: 25 bytes, `Copy`.
///
/// ```
/// use buttress::context::TraceContext;
///
/// let header = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = TraceContext::parse(header)?;
/// assert!(context.flags.is_sampled());
/// assert_eq!(&context.encode(), header);
/// # Ok::<(), buttress::context::TraceparentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The whole trace.
    pub trace_id: TraceId,
    /// The span that speaks: the parent of whatever the receiver starts.
    pub span_id: SpanId,
    /// Sampled, random.
    pub flags: TraceFlags,
}

impl TraceContext {
    /// A new root: random ids, the random bit set, not sampled until somebody decides so.
    pub fn random() -> Self {
        Self { trace_id: TraceId::random(), span_id: SpanId::random(), flags: TraceFlags::RANDOM }
    }

    /// Reads one `traceparent` value.
    ///
    /// Version 00 is exactly 55 characters; of a higher version the first 55 characters count, if nothing or a `-`
    /// follows them. Spaces and tabs around the value are allowed.
    ///
    /// # Errors
    ///
    /// [`TraceparentError`] says which part was wrong.
    pub fn parse(value: &[u8]) -> Result<Self, TraceparentError> {
        let value = list::trim(value);
        if value.len() < VERSION_00_LENGTH {
            return Err(TraceparentError::Length);
        }
        if value[2] != b'-' || value[35] != b'-' || value[52] != b'-' {
            return Err(TraceparentError::Separator);
        }
        match byte(value[0], value[1]).ok_or(TraceparentError::Version)? {
            0xff => return Err(TraceparentError::Version),
            0 if value.len() != VERSION_00_LENGTH => return Err(TraceparentError::Length),
            _ if value.len() > VERSION_00_LENGTH && value[VERSION_00_LENGTH] != b'-' => {
                return Err(TraceparentError::Length);
            }
            _ => {}
        }
        let flags = byte(value[53], value[54]).ok_or(TraceparentError::Flags)?;
        Ok(Self {
            trace_id: hex::decode(&value[3..35]).and_then(TraceId::from_bytes).ok_or(TraceparentError::TraceId)?,
            span_id: hex::decode(&value[36..52]).and_then(SpanId::from_bytes).ok_or(TraceparentError::SpanId)?,
            flags: TraceFlags::from_byte(flags),
        })
    }

    /// Reads the one `traceparent` of a request: `Ok(None)` when there is none.
    ///
    /// # Errors
    ///
    /// [`TraceparentError`] when the value is malformed or there is more than one.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, TraceparentError> {
        match headers::first_two(headers, &TRACEPARENT) {
            (None, _) => Ok(None),
            (Some(value), None) => Self::parse(value.as_bytes()).map(Some),
            (Some(_), Some(_)) => Err(TraceparentError::Repeated),
        }
    }

    /// The `traceparent` value, version 00, as ASCII.
    pub fn encode(&self) -> [u8; VERSION_00_LENGTH] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex::encode(&self.trace_id.to_bytes(), &mut out[3..35]);
        hex::encode(&self.span_id.to_bytes(), &mut out[36..52]);
        hex::encode(&[self.flags.to_byte()], &mut out[53..55]);
        out
    }

    /// The `traceparent` value as a header: one allocation.
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&self.encode()))
            .expect("hex digits and dashes are valid in a header")
    }
}

/// Version and flags, which nearly always begin with a zero.
#[inline]
fn byte(high: u8, low: u8) -> Option<u8> {
    if high == b'0' && low.is_ascii_digit() {
        return Some(low - b'0');
    }
    hex::decode(&[high, low]).map(|[byte]| byte)
}

/// Why a `traceparent` was not taken; a new trace starts instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceparentError {
    /// Not 55 characters, or no `-` after the 55th of a higher version.
    Length,
    /// A `-` is missing between the fields.
    Separator,
    /// The version is not two lower-case hex digits, or is `ff`.
    Version,
    /// The trace id is not 32 lower-case hex digits, or all zero.
    TraceId,
    /// The parent id is not 16 lower-case hex digits, or all zero.
    SpanId,
    /// The flags are not two lower-case hex digits.
    Flags,
    /// More than one `traceparent` header.
    Repeated,
}

impl fmt::Display for TraceparentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "traceparent must have 55 characters (a later version may go on after a '-')",
            Self::Separator => "traceparent fields must be separated by '-'",
            Self::Version => "traceparent version must be two lower-case hex digits other than ff",
            Self::TraceId => "traceparent trace id must be 32 lower-case hex digits, not all zero",
            Self::SpanId => "traceparent parent id must be 16 lower-case hex digits, not all zero",
            Self::Flags => "traceparent flags must be two lower-case hex digits",
            Self::Repeated => "only one traceparent header is allowed",
        })
    }
}

impl std::error::Error for TraceparentError {}
