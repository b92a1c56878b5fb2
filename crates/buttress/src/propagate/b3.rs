//! Zipkin's B3 headers, for callers and callees that know nothing newer (openzipkin/b3-propagation).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::context::{SpanId, TraceContext, TraceFlags, TraceId};

const B3: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Which form of B3 is written beside `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum B3 {
    /// One `b3` header.
    Single,
    /// `X-B3-TraceId` and its siblings.
    Multi,
}

/// What came as B3: a trace, a decision, or both.
pub(super) struct Extracted {
    pub(super) trace: Option<TraceContext>,
    pub(super) sampled: Option<bool>,
}

/// Reads the single header, else the multiple ones.
pub(super) fn extract(headers: &HeaderMap) -> Option<Extracted> {
    if let Some(value) = headers.get(B3) {
        let mut parts = value.as_bytes().split(|byte| *byte == b'-');
        let first = parts.next()?;
        return match parts.next() {
            Some(span_id) => extracted(Some((first, span_id)), parts.next()),
            None => extracted(None, Some(first)),
        };
    }
    let value = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let debug = value(FLAGS) == Some(b"1");
    let sampled = if debug { Some(&b"d"[..]) } else { value(SAMPLED) };
    extracted(value(TRACE_ID).zip(value(SPAN_ID)), sampled)
}

fn extracted(ids: Option<(&[u8], &[u8])>, sampled: Option<&[u8]>) -> Option<Extracted> {
    let sampled = match sampled {
        Some(b"1" | b"d" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        None => None,
        Some(_) => return None,
    };
    let trace = match ids {
        Some((trace_id, span_id)) => Some(TraceContext {
            trace_id: trace_id_of(trace_id)?,
            span_id: SpanId::from_hex(span_id).ok()?,
            flags: TraceFlags::NONE.with_sampled(sampled == Some(true)),
        }),
        None => None,
    };
    (trace.is_some() || sampled.is_some()).then_some(Extracted { trace, sampled })
}

/// 32 digits, or 16 that stand for the right half.
fn trace_id_of(digits: &[u8]) -> Option<TraceId> {
    if digits.len() != 16 {
        return TraceId::from_hex(digits).ok();
    }
    let mut padded = [b'0'; 32];
    padded[16..].copy_from_slice(digits);
    TraceId::from_hex(&padded).ok()
}

/// Without a decision the sampling state is left out, which lets the callee decide.
pub(super) fn inject(form: B3, trace: &TraceContext, decided: bool, headers: &mut HeaderMap) {
    let sampled = decided.then_some(if trace.flags.is_sampled() { "1" } else { "0" });
    match form {
        B3::Single => {
            let mut value = format!("{}-{}", trace.trace_id, trace.span_id);
            if let Some(sampled) = sampled {
                value.push('-');
                value.push_str(sampled);
            }
            headers.insert(B3, ascii(value.as_bytes()));
        }
        B3::Multi => {
            headers.insert(TRACE_ID, ascii(&trace.trace_id.to_hex()));
            headers.insert(SPAN_ID, ascii(&trace.span_id.to_hex()));
            match sampled {
                Some(sampled) => drop(headers.insert(SAMPLED, HeaderValue::from_static(sampled))),
                None => drop(headers.remove(SAMPLED)),
            }
        }
    }
}

pub(super) fn remove(headers: &mut HeaderMap) {
    for name in [B3, TRACE_ID, SPAN_ID, SAMPLED, FLAGS] {
        headers.remove(name);
    }
}

fn ascii(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("hex digits and dashes are valid in a header")
}
