//! Trace ids on log lines, whatever writes the lines and whether the request is sampled or not.

#[cfg(feature = "log")]
mod facade;
#[cfg(feature = "tracing-subscriber")]
mod subscriber;

use std::fmt;

use super::{SpanId, TraceId, carrier};

#[cfg(feature = "log")]
pub use facade::Correlated;
#[cfg(feature = "tracing-subscriber")]
pub use subscriber::ContextFormat;

/// The ids of the current context, for log lines: `trace_id=4bf9.. span_id=00f0..`, or nothing outside a context.
///
/// ```
/// use buttress::context::{self, Context};
///
/// assert_eq!(context::log_fields().to_string(), "");
/// Context::root().enter(|| {
///     let line = format!("order placed {}", context::log_fields());
///     assert!(line.starts_with("order placed trace_id="));
/// });
/// ```
pub fn log_fields() -> LogFields {
    LogFields(carrier::peek(|context| context.map(|context| (context.trace_id(), context.span_id()))))
}

/// See [`log_fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFields(Option<(TraceId, SpanId)>);

impl LogFields {
    /// The trace id, in a context.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.map(|(trace_id, _)| trace_id)
    }

    /// The span id, in a context.
    pub fn span_id(&self) -> Option<SpanId> {
        self.0.map(|(_, span_id)| span_id)
    }
}

impl fmt::Display for LogFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((trace_id, span_id)) => write!(f, "trace_id={trace_id} span_id={span_id}"),
            None => Ok(()),
        }
    }
}
