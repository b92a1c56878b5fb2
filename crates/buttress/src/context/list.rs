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

/// What a byte may be part of: one look where ranges take several.
pub(super) struct Class([bool; 256]);

impl Class {
    /// Of the bytes for which this holds.
    pub(super) const fn new(bytes: &[u8]) -> Self {
        let (mut of, mut at) = ([false; 256], 0);
        while at < bytes.len() {
            of[bytes[at] as usize] = true;
            at += 1;
        }
        Self(of)
    }

    /// All visible ASCII characters and the space but these.
    pub(super) const fn printable_but(bytes: &[u8]) -> Self {
        let (mut of, mut byte) = ([false; 256], b' ');
        while byte <= b'~' {
            of[byte as usize] = true;
            byte += 1;
        }
        let mut at = 0;
        while at < bytes.len() {
            of[bytes[at] as usize] = false;
            at += 1;
        }
        Self(of)
    }

    #[inline]
    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    /// How many bytes at the start belong to it.
    #[inline]
    pub(super) fn run(&self, bytes: &[u8]) -> usize {
        bytes.iter().position(|byte| !self.has(*byte)).unwrap_or(bytes.len())
    }
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
