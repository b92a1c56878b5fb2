//! The same work written by hand for this one service: no options, no other protocols, nothing that is checked twice.
//!
//! What nobody can do without: read and check traceparent, decide, make a span id, keep both ids where handlers find them,
//! answer them in one header; two readings of a clock, a histogram and what is in flight; outcomes and state of a circuit; a
//! budget and a copy of the request's head; and for what is sampled a span in a queue.

#[cfg(feature = "http")]
mod export;
mod part;
mod promised;
mod service;

use std::sync::Arc;

use buttress_benches::subject::Subject;

use crate::case::Case;
use crate::requests::{Kind, bare};
pub use service::{Floor, Shared};

use promised::Promised;

use part::{BREAKER, ECHO, INJECT, METRICS, PROPAGATE, RETRY, TRACE};

const FLOOR: &str = "floor";
/// The floor with what is promised besides.
const PROMISED: &str = "floor, all promised";
pub const SERVER: u8 = PROPAGATE | ECHO | TRACE | METRICS;
const STACK: u8 = SERVER | BREAKER | RETRY;
const CLIENT: u8 = TRACE | METRICS | BREAKER | RETRY | INJECT;

pub fn cases() -> Vec<Case> {
    use Kind::{Outgoing, Post, Sampled, Tenth, Unsampled};
    vec![
        Case::new("bare.unsampled", "bare", Unsampled, of::<0>),
        Case::new("bare.sampled", "bare", Sampled, of::<0>),
        Case::new("bare.tenth", "bare", Tenth, of::<0>),
        Case::new("bare.post", "bare", Post, of::<0>),
        Case::new("bare.outgoing", "bare", Outgoing, of::<0>),
        Case::new("stack.unsampled", FLOOR, Unsampled, of::<STACK>),
        Case::new("stack.sampled", FLOOR, Sampled, of::<STACK>),
        Case::new("stack.not_retryable", FLOOR, Post, of::<STACK>),
        Case::new("server.unsampled", FLOOR, Unsampled, of::<SERVER>),
        Case::new("server.sampled", FLOOR, Sampled, of::<SERVER>),
        Case::new("server.10pct", FLOOR, Tenth, of::<SERVER>),
        Case::new("client.unsampled", FLOOR, Outgoing, of::<CLIENT>),
        Case::new("client.sampled", FLOOR, Outgoing, of::<CLIENT>),
        Case::new("trace.unsampled", FLOOR, Unsampled, of::<{ PROPAGATE | ECHO | TRACE }>),
        Case::new("trace.sampled", FLOOR, Sampled, of::<{ PROPAGATE | ECHO | TRACE }>),
        Case::new("trace.10pct", FLOOR, Tenth, of::<{ PROPAGATE | ECHO | TRACE }>),
        Case::new("server.unsampled", PROMISED, Unsampled, promised::<{ PROPAGATE | ECHO | METRICS }>),
        Case::new("propagate", FLOOR, Unsampled, of::<{ PROPAGATE | ECHO }>),
        Case::new("propagate", PROMISED, Unsampled, promised::<{ PROPAGATE | ECHO }>),
        Case::new("propagate.silent", FLOOR, Unsampled, of::<PROPAGATE>),
        Case::new("metrics", FLOOR, Unsampled, of::<METRICS>),
        Case::new("metrics", PROMISED, Unsampled, promised::<METRICS>),
        Case::new("breaker", FLOOR, Unsampled, of::<BREAKER>),
        Case::new("breaker", PROMISED, Unsampled, promised::<BREAKER>),
        Case::new("retry", FLOOR, Unsampled, of::<RETRY>),
        Case::new("retry.not_retryable", FLOOR, Post, of::<RETRY>),
    ]
}

/// Requests that are held.
pub fn in_flight() -> Vec<Case> {
    vec![
        Case::new("bare.in_flight", "bare", Kind::Held, of::<0>),
        Case::new("growth.in_flight", FLOOR, Kind::Held, of::<STACK>),
    ]
}

fn of<const PARTS: u8>(case: &Case) -> Box<dyn Subject> {
    if PARTS == 0 {
        return case.calling(bare(case.kind));
    }
    let shared = Arc::new(Shared::new());
    let service = Floor::<_, PARTS>::new(bare(case.kind), Arc::clone(&shared));
    case.settled(service, move || while shared.take().is_some() {})
}

fn promised<const PARTS: u8>(case: &Case) -> Box<dyn Subject> {
    let shared = Arc::new(promised::Shared::new());
    case.calling(Promised::<_, PARTS>::new(bare(case.kind), shared))
}
