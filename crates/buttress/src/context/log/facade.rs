//! Trace ids on the lines of loggers of the `log` crate.

use std::fmt;

use ::log::kv::{Error, Key, Source, Value, VisitSource};
use ::log::{Log, Metadata, Record};

use super::log_fields;
use crate::context::{SpanId, TraceId};

/// A logger of the `log` crate that gives another one the ids of the current context with each record.
///
/// ```
/// use buttress::context::{Context, Correlated};
/// use log::LevelFilter;
///
/// let lines = env_logger::Builder::new().filter_level(LevelFilter::Info).build();
/// log::set_boxed_logger(Box::new(Correlated::text(lines)))?;
/// log::set_max_level(LevelFilter::Info);
///
/// // [INFO  shop] trace_id=4bf9.. span_id=00f0.. order placed
/// Context::root().enter(|| log::info!("order placed"));
/// # Ok::<(), log::SetLoggerError>(())
/// ```
///
/// Outside of a context the record goes on as it came. Nothing is allocated. A logger with a format of its own can do
/// without this: [`log_fields`] in the format says the same.
#[derive(Clone, Debug)]
pub struct Correlated<L> {
    inner: L,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    KeyValues,
}

impl<L> Correlated<L> {
    /// Starts each message with the ids, as [`log_fields`] writes them; for loggers that write nothing but messages.
    pub fn text(inner: L) -> Self {
        Self { inner, form: Form::Text }
    }

    /// Puts the ids in front of the record's other key-values; for loggers that write these: JSON, `env_logger` with its
    /// feature `kv`. A key `trace_id` or `span_id` of the record itself is left as it is, behind them.
    pub fn key_values(inner: L) -> Self {
        Self { inner, form: Form::KeyValues }
    }
}

impl<L: Log> Log for Correlated<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let fields = log_fields();
        let (Some(trace_id), Some(span_id)) = (fields.trace_id(), fields.span_id()) else {
            return self.inner.log(record);
        };
        match self.form {
            Form::Text => {
                let message = record.args();
                self.inner.log(&record.to_builder().args(format_args!("{fields} {message}")).build());
            }
            Form::KeyValues => {
                let ids = Ids { trace_id, span_id, others: record.key_values() };
                self.inner.log(&record.to_builder().key_values(&ids).build());
            }
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// The key-values of a record, behind the ids.
struct Ids<'a> {
    trace_id: TraceId,
    span_id: SpanId,
    others: &'a dyn Source,
}

const TRACE_ID: &str = "trace_id";
const SPAN_ID: &str = "span_id";

fn shown<T: fmt::Display>(id: &T) -> Value<'_> {
    Value::from_display(id)
}

impl Source for Ids<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        visitor.visit_pair(Key::from_str(TRACE_ID), shown(&self.trace_id))?;
        visitor.visit_pair(Key::from_str(SPAN_ID), shown(&self.span_id))?;
        self.others.visit(visitor)
    }

    fn get(&self, key: Key<'_>) -> Option<Value<'_>> {
        match key.as_str() {
            TRACE_ID => Some(shown(&self.trace_id)),
            SPAN_ID => Some(shown(&self.span_id)),
            _ => self.others.get(key),
        }
    }

    fn count(&self) -> usize {
        2 + self.others.count()
    }
}
