//! Circuit breaker: calls that would fail are rejected before they are made.

mod transition;

pub use transition::{Reason, State, Transition};
