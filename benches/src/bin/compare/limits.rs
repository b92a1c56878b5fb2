//! What ours may take over the bare service.

use crate::case::Case;

/// Name, instructions, allocations.
const LIMITS: [(&str, f64, f64); 9] = [
    ("server.unsampled", 2_500.0, 2.0),
    ("server.sampled", 4_000.0, 8.0),
    ("stack.unsampled", 4_500.0, 4.0),
    ("stack.sampled", 6_000.0, 10.0),
    ("breaker", 500.0, 0.0),
    // The clone of the head, and 300 more.
    ("retry", 1_550.0, 2.0),
    ("retry.not_retryable", 300.0, 0.0),
    ("metrics", 700.0, 0.0),
    // 1.3 times the floor's.
    ("propagate", 1_872.0, f64::NAN),
];

/// Of instructions and allocations.
pub fn of(case: &Case, figure: &str) -> Option<f64> {
    let (_, instructions, allocations) = LIMITS.iter().find(|(name, ..)| *name == case.name)?;
    let limit = if figure == "instructions" { *instructions } else { *allocations };
    (case.subject == "buttress" && !limit.is_nan()).then_some(limit)
}

/// Of nanoseconds with two threads, by those with one.
pub fn of_two(case: &Case, ns: f64) -> Option<f64> {
    (case.subject == "buttress" && case.name == "breaker").then_some(1.5 * ns)
}
