//! Operations: a span for each run, right about how it ended.
#![cfg(feature = "trace")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod attributes;
mod layer;
#[cfg(feature = "telemetry")]
mod measured;
mod outcomes;
mod parents;
#[cfg(feature = "stream")]
mod streams;

use std::sync::Arc;

use buttress::trace::{SpanRecord, Spans};

fn last(spans: &Spans) -> Arc<SpanRecord> {
    spans.latest(1).pop().expect("a span was recorded")
}

fn told(span: &SpanRecord, key: &str) -> String {
    span.attribute(key).map(ToString::to_string).unwrap_or_default()
}
