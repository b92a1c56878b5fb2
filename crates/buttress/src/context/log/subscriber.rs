//! Trace ids on the lines of `tracing-subscriber`.

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
