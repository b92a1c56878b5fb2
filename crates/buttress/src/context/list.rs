//! What `tracestate` and `baggage` share: comma-separated members over one or several headers, kept as the bytes that came.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;

/// The members of one header value, in order, without surrounding white space and without the empty ones.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without the spaces and tabs around it: the OWS of RFC 9110. `trim_ascii` would also take line breaks, which no
/// header may carry.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Joins members with `,`; `None` when there is none.
pub(super) fn join<'a>(members: impl Iterator<Item = &'a [u8]> + Clone) -> Option<HeaderValue> {
    let length: usize = members.clone().map(|member| member.len() + 1).sum();
    if length == 0 {
        return None;
    }
    let mut out = BytesMut::with_capacity(length - 1);
    for (index, member) in members.enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_slice(member);
    }
    Some(header(out.freeze()))
}

/// A header of bytes whose characters have been checked.
pub(super) fn header(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).expect("members were checked to be visible ASCII")
}
