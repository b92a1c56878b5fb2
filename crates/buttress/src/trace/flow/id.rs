use std::fmt;
use std::str::FromStr;

use crate::context::{ParseIdError, TraceId};

/// The id of a flow: 16 random bytes, written as 32 lower-case hex digits.
///
/// It names a flow and grants nothing: it travels where baggage travels, so never take it for a proof of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(TraceId);

impl FlowId {
    pub(super) fn random() -> Self {
        Self(TraceId::random())
    }
}

impl FromStr for FlowId {
    type Err = ParseIdError;

    fn from_str(digits: &str) -> Result<Self, ParseIdError> {
        digits.parse().map(Self)
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
