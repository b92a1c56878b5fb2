//! `X-Trace-ID`, `X-Request-ID` and their kin: checked, kept, answered, never made into a trace context by force.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::context::TraceId;
use crate::{clock, random};

pub(super) const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
pub(super) const X_SPAN_ID: HeaderName = HeaderName::from_static("x-span-id");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
pub(super) const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
pub(super) const X_SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");

/// Longer ids are not kept.
const MAX_LENGTH: usize = 128;

/// The header, if it holds an id: 1 to 128 letters, digits and `-._~:/+=@`.
pub(super) fn id_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.get(name).filter(|value| {
        let bytes = value.as_bytes();
        let is_id_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte);
        (1..=MAX_LENGTH).contains(&bytes.len()) && bytes.iter().all(is_id_byte)
    })
}

/// The trace id that an `X-Trace-ID` spells: 32 hex digits of either case, or a hyphenated UUID.
pub(super) fn as_trace_id(value: &HeaderValue) -> Option<TraceId> {
    let bytes = value.as_bytes();
    if !matches!(bytes.len(), 32 | 36) {
        return None;
    }
    let uuid = Uuid::try_parse_ascii(bytes).ok()?;
    TraceId::from_bytes(*uuid.as_bytes())
}

/// A time-ordered UUID (RFC 9562, version 7) for a request that came without an id.
pub(super) fn new_request_id() -> HeaderValue {
    let id = uuid::Builder::from_unix_timestamp_millis(clock::unix_millis(), &random::bytes()).into_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
        .expect("hex digits and dashes are valid in a header")
}
