//! Trace ids on log lines, whatever writes the lines and whether the request is sampled or not.

use std::fmt;

use super::{SpanId, TraceId, carrier};

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

#[cfg(feature = "tracing-subscriber")]
pub use subscriber::ContextFormat;

#[cfg(feature = "tracing-subscriber")]
mod subscriber {
    use std::fmt;

    use tracing_core::{Event, Subscriber};
    use tracing_subscriber::fmt::format::Writer;
    use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
    use tracing_subscriber::registry::LookupSpan;

    use super::log_fields;

    /// An event format that adds `trace_id` and `span_id` to whatever another format writes.
    ///
    /// ```
    /// use buttress::context::ContextFormat;
    /// use tracing_subscriber::fmt::format;
    ///
    /// let lines = tracing_subscriber::fmt().event_format(ContextFormat::text(format())).finish();
    /// let json = tracing_subscriber::fmt()
    ///     .event_format(ContextFormat::json(format().json()))
    ///     .fmt_fields(format::JsonFields::new())
    ///     .finish();
    /// # let _ = (lines, json);
    /// ```
    #[derive(Clone, Debug)]
    pub struct ContextFormat<F> {
        inner: F,
        json: bool,
    }

    impl<F> ContextFormat<F> {
        /// Starts each line with the ids; for the full, compact and pretty formats.
        pub fn text(inner: F) -> Self {
            Self { inner, json: false }
        }

        /// Puts the ids in front of the other members of a JSON object.
        pub fn json(inner: F) -> Self {
            Self { inner, json: true }
        }
    }

    impl<S, N, F> FormatEvent<S, N> for ContextFormat<F>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
        F: FormatEvent<S, N>,
    {
        fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
            let fields = log_fields();
            let (Some(trace_id), Some(span_id)) = (fields.trace_id(), fields.span_id()) else {
                return self.inner.format_event(context, out, event);
            };
            if !self.json {
                write!(out, "{fields} ")?;
                return self.inner.format_event(context, out, event);
            }
            let mut line = String::new();
            self.inner.format_event(context, Writer::new(&mut line), event)?;
            match line.strip_prefix('{') {
                Some(rest) if rest.starts_with('}') => {
                    write!(out, r#"{{"trace_id":"{trace_id}","span_id":"{span_id}"{rest}"#)
                }
                Some(rest) => write!(out, r#"{{"trace_id":"{trace_id}","span_id":"{span_id}",{rest}"#),
                None => out.write_str(&line),
            }
        }
    }
}
