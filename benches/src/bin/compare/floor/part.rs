//! The parts of the floor, each as few lines as it takes.

use std::cell::Cell;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub const PROPAGATE: u8 = 1;
/// Both ids in a header of the answer.
pub const ECHO: u8 = 2;
pub const TRACE: u8 = 4;
pub const METRICS: u8 = 8;
pub const BREAKER: u8 = 16;
pub const RETRY: u8 = 32;
/// The context in the headers that go out.
pub const INJECT: u8 = 64;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

thread_local! {
    static CURRENT: Cell<Option<Context>> = const { Cell::new(None) };
    static RANDOM: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

/// What handlers may ask for. Trace state and baggage stay in the headers, where they find them too.
#[derive(Clone, Copy)]
pub struct Context {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "the bare service does not ask"))]
    pub parent: [u8; 8],
    pub sampled: bool,
}

impl Context {
    pub fn extract(headers: &HeaderMap) -> Self {
        let received = headers.get(&TRACEPARENT).and_then(traceparent);
        let Some((trace_id, parent, sampled)) = received else { return Self::root(false) };
        Self { trace_id, span_id: random().to_be_bytes(), parent, sampled }
    }

    pub fn root(sampled: bool) -> Self {
        let mut trace_id = [1; 16];
        trace_id[..8].copy_from_slice(&random().to_be_bytes());
        Self { trace_id, span_id: random().to_be_bytes(), parent: [0; 8], sampled }
    }

    /// Both ids in one header.
    pub fn echo(&self, headers: &mut HeaderMap) {
        headers.insert(TRACERESPONSE, self.encode());
    }

    pub fn inject(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.encode());
    }

    fn encode(&self) -> HeaderValue {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&self.trace_id, &mut value[3..35]);
        hex(&self.span_id, &mut value[36..52]);
        value[54] = b'0' + u8::from(self.sampled);
        HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&value)).expect("hex digits are valid in a header")
    }
}

/// Runs with this context where handlers look for it.
#[inline]
pub fn enter<R>(context: Option<Context>, work: impl FnOnce() -> R) -> R {
    if context.is_none() {
        return work();
    }
    let before = CURRENT.replace(context);
    let result = work();
    CURRENT.set(before);
    result
}

fn traceparent(value: &HeaderValue) -> Option<([u8; 16], [u8; 8], bool)> {
    let value = value.as_bytes();
    if value.len() != 55 || !value.starts_with(b"00-") || value[35] != b'-' || value[52] != b'-' {
        return None;
    }
    let (trace_id, span_id) = (unhex(&value[3..35])?, unhex(&value[36..52])?);
    let [.., flags] = unhex::<4>(&[b'0', b'0', b'0', b'0', b'0', b'0', value[53], value[54]])?;
    (trace_id != [0; 16] && span_id != [0; 8]).then_some((trace_id, span_id, flags & 1 == 1))
}

/// Eight digits at a time; lower case only.
fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut wrong = 0;
    for (four, eight) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(digits.as_chunks::<8>().0) {
        let eight = u64::from_le_bytes(*eight);
        let nibbles = (eight & each(0x0f)) + ((eight >> 6) & each(1)) * 9;
        wrong |= (nibbles & each(0xf0)) | (digits_of(nibbles) ^ eight);
        let pairs = (nibbles & HIGH) << 4 | (nibbles >> 8) & HIGH;
        let twos = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
        *four = ((twos | twos >> 16) as u32).to_le_bytes();
    }
    (wrong == 0).then_some(bytes)
}

pub fn hex(bytes: &[u8], digits: &mut [u8]) {
    for (four, eight) in bytes.as_chunks::<4>().0.iter().zip(digits.as_chunks_mut::<8>().0) {
        let four = u64::from(u32::from_le_bytes(*four));
        let twos = (four | four << 16) & 0x0000_ffff_0000_ffff;
        let pairs = (twos | twos << 8) & 0x00ff_00ff_00ff_00ff;
        *eight = digits_of((pairs >> 4) & HIGH | (pairs & HIGH) << 8).to_le_bytes();
    }
}

/// The places of the first digits of bytes.
const HIGH: u64 = 0x000f_000f_000f_000f;

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Of eight nibbles: the digits, and from ten on the letters.
const fn digits_of(nibbles: u64) -> u64 {
    let letters = ((nibbles + each(6)) >> 4) & each(1);
    nibbles + each(b'0') + letters * (b'a' - 10 - b'0') as u64
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
