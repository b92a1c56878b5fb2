//! The parts of the floor, each as few lines as it takes.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub const PROPAGATE: u8 = 1;
/// The ids in the answer.
pub const ECHO: u8 = 2;
pub const TRACE: u8 = 4;
pub const METRICS: u8 = 8;
pub const BREAKER: u8 = 16;
pub const RETRY: u8 = 32;
/// The context in the headers that go out.
pub const INJECT: u8 = 64;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const X_SPAN_ID: HeaderName = HeaderName::from_static("x-span-id");

thread_local! {
    static CURRENT: Cell<Option<Arc<Context>>> = const { Cell::new(None) };
    static RANDOM: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

/// What handlers may ask for.
#[expect(dead_code, reason = "the bare service does not ask")]
pub struct Context {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub parent: [u8; 8],
    pub sampled: bool,
    pub tracestate: Option<HeaderValue>,
    pub baggage: Option<HeaderValue>,
}

impl Context {
    pub fn extract(headers: &HeaderMap) -> Arc<Self> {
        let (trace_id, parent, sampled) = headers.get(&TRACEPARENT).and_then(traceparent).unwrap_or_default();
        let visible = |value: &&HeaderValue| value.len() <= 8192 && value.to_str().is_ok();
        Arc::new(Self {
            trace_id,
            span_id: random().to_be_bytes(),
            parent,
            sampled,
            tracestate: headers.get(&TRACESTATE).filter(visible).cloned(),
            baggage: headers.get(&BAGGAGE).filter(visible).cloned(),
        })
    }

    pub fn root(sampled: bool) -> Arc<Self> {
        let mut trace_id = [1; 16];
        trace_id[..8].copy_from_slice(&random().to_be_bytes());
        let span_id = random().to_be_bytes();
        Arc::new(Self { trace_id, span_id, parent: [0; 8], sampled, tracestate: None, baggage: None })
    }

    pub fn echo(&self, headers: &mut HeaderMap) {
        headers.insert(X_TRACE_ID, ascii(&hex::<16, 32>(self.trace_id)));
        headers.insert(X_SPAN_ID, ascii(&hex::<8, 16>(self.span_id)));
    }

    pub fn inject(&self, headers: &mut HeaderMap) {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        value[3..35].copy_from_slice(&hex::<16, 32>(self.trace_id));
        value[36..52].copy_from_slice(&hex::<8, 16>(self.span_id));
        value[54] = b'0' + u8::from(self.sampled);
        headers.insert(TRACEPARENT, ascii(&value));
    }
}

/// Runs with this context where handlers look for it.
pub fn enter<R>(context: &mut Option<Arc<Context>>, work: impl FnOnce() -> R) -> R {
    if context.is_none() {
        return work();
    }
    let before = CURRENT.replace(context.take());
    let result = work();
    *context = CURRENT.replace(before);
    result
}

fn traceparent(value: &HeaderValue) -> Option<([u8; 16], [u8; 8], bool)> {
    let value = value.as_bytes();
    if value.len() != 55 || !value.starts_with(b"00-") || value[35] != b'-' || value[52] != b'-' {
        return None;
    }
    let (trace_id, span_id) = (unhex(&value[3..35])?, unhex(&value[36..52])?);
    let [flags] = unhex::<1>(&value[53..])?;
    (trace_id != [0; 16] && span_id != [0; 8]).then_some((trace_id, span_id, flags & 1 == 1))
}

fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut seen = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    (seen < 16).then_some(bytes)
}

/// Of lower-case hex digits; 16 for all else.
static VALUES: [u8; 256] = {
    let mut values = [16; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

fn hex<const N: usize, const DIGITS: usize>(bytes: [u8; N]) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    digits
}

fn ascii(digits: &[u8]) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(digits)).expect("hex digits are valid in a header")
}

/// Xorshift (Marsaglia, "Xorshift RNGs", 2003).
fn random() -> u64 {
    let mut state = RANDOM.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    RANDOM.set(state);
    state
}
