//! Consistent probability sampling (OpenTelemetry, "TraceState: Probability Sampling").

use std::fmt;

use super::{Decision, SampleInput};
use crate::context::{TraceId, TraceState};

/// The size of the space of random values: 56 bits.
const SPACE: u64 = 1 << 56;
const OT: &str = "ot";

/// A share of all traces, above 0 and up to 1.
///
/// ```
/// use buttress::trace::Ratio;
///
/// assert!(Ratio::new(0.1).is_ok());
/// assert_eq!(Ratio::new(10.0).unwrap_err().to_string(), "a sampling ratio is between 0 and 1, not 10");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    ratio: f64,
    /// Values of the random part below it are not sampled.
    threshold: u64,
}

impl Ratio {
    /// Every trace.
    pub const ALL: Self = Self { ratio: 1.0, threshold: 0 };

    /// A share between 0 and 1.
    ///
    /// # Errors
    ///
    /// [`RatioError`] for anything else, NaN included.
    pub fn new(ratio: f64) -> Result<Self, RatioError> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(RatioError(ratio));
        }
        let threshold = ((1.0 - ratio) * SPACE as f64).round() as u64;
        Ok(Self { ratio, threshold })
    }

    /// The share.
    pub const fn get(self) -> f64 {
        self.ratio
    }

    pub(super) fn decide(self, input: &SampleInput<'_>) -> Decision {
        let sub_keys = input.tracestate.get(OT).unwrap_or("");
        let explicit = sub_key(sub_keys, "rv").and_then(parse_random_value);
        // Whoever sent a trace id without the random bit may have any bits in it: draw once, and tell the others.
        let drawn = (explicit.is_none() && !input.random).then(|| TraceId::random().random_part());
        let random = explicit.or(drawn).unwrap_or_else(|| input.trace_id.random_part());
        if random < self.threshold || self.threshold == SPACE {
            // A threshold stands for a sampled trace only.
            let changes = drawn.is_some() || sub_key(sub_keys, "th").is_some();
            let tracestate = changes.then(|| state(input.tracestate, None, drawn));
            return Decision { tracestate, ..Decision::plain(false) };
        }
        let tracestate = Some(state(input.tracestate, Some(self.threshold), drawn));
        Decision { tracestate, ..Decision::plain(true) }
    }
}

/// The trace state with our decision in its `ot` member; what else stands there is kept.
fn state(state: &TraceState, threshold: Option<u64>, random: Option<u64>) -> TraceState {
    let mut value = String::new();
    let mut put = |sub_key: &str, text: &str| {
        if !value.is_empty() {
            value.push(';');
        }
        value.push_str(sub_key);
        value.push(':');
        value.push_str(text);
    };
    if let Some(threshold) = threshold {
        let digits = format!("{threshold:014x}");
        let short = digits.trim_end_matches('0');
        put("th", if short.is_empty() { "0" } else { short });
    }
    if let Some(random) = random {
        put("rv", &format!("{random:014x}"));
    }
    let others = state.get(OT).unwrap_or("").split(';').filter_map(|pair| pair.split_once(':'));
    for (key, text) in others.filter(|(key, _)| *key != "th" && (*key != "rv" || random.is_none())) {
        put(key, text);
    }
    let mut state = state.clone();
    if value.is_empty() {
        state.remove(OT);
        return state;
    }
    // Too long a value can only come from what others wrote there: then it stays as it was.
    let _ = state.insert(OT, &value);
    state
}

fn sub_key<'a>(sub_keys: &'a str, key: &str) -> Option<&'a str> {
    sub_keys.split(';').filter_map(|pair| pair.split_once(':')).find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn parse_random_value(digits: &str) -> Option<u64> {
    let is_hex = digits.len() == 14 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The number is no share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioError(f64);

impl fmt::Display for RatioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a sampling ratio is between 0 and 1, not {}", self.0)
    }
}

impl std::error::Error for RatioError {}
