//! A finished span: what sinks are given.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::classify::{Ending, ErrorType, Outcome};
use crate::context::{Key, SpanId, TraceContext, TraceFlags, TraceId, TraceState, Value};

/// OpenTelemetry's span kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpanKind {
    /// Work inside this process.
    Internal,
    /// A request that came in.
    Server,
    /// A request that went out.
    Client,
    /// A message that was handed over.
    Producer,
    /// A message that is processed.
    Consumer,
}

impl SpanKind {
    /// The number that OTLP gives it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
        }
    }
}

/// OpenTelemetry's span status. Success is [`Status::Unset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Nothing to report.
    Unset,
    /// The work failed; the attribute `error.type` says how.
    Error,
}

/// A span of another trace, or another try of the same call, that this one belongs to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpanLink {
    /// The other span.
    pub trace: TraceContext,
    /// Why it is linked.
    pub attributes: Vec<(Key, Value)>,
}

impl SpanLink {
    pub(super) fn new(trace: TraceContext, why: &'static str) -> Self {
        Self { trace, attributes: vec![("buttress.link".into(), why.into())] }
    }
}

/// Something that happened at one moment of a span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpanEvent {
    /// Its name, of few values.
    pub name: Cow<'static, str>,
    /// When, in nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// Details.
    pub attributes: Vec<(Key, Value)>,
    /// Attributes beyond the limit.
    pub dropped_attributes: u32,
}

/// A finished span. Secrets have been taken out, values are cut at 256 characters and attributes at 64.
///
/// As JSON it has the field names of OTLP/JSON, with `attributes` as one object and `outcome` beside them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpanRecord {
    /// The trace.
    pub trace_id: TraceId,
    /// This span.
    pub span_id: SpanId,
    /// The span that caused it.
    pub parent_span_id: Option<SpanId>,
    /// Whether that one is in another process.
    pub parent_is_remote: bool,
    /// The flags that were sent on.
    pub flags: TraceFlags,
    /// The trace state that was sent on.
    pub tracestate: TraceState,
    /// Server, client or internal.
    pub kind: SpanKind,
    /// Of few values: method and route, or the gRPC method.
    pub name: Cow<'static, str>,
    /// Nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Nanoseconds since the Unix epoch.
    pub end_unix_nanos: u64,
    /// Unset, or error.
    pub status: Status,
    /// Ok, error, cancelled or panicked.
    pub outcome: Outcome,
    /// How the exchange ended; none for spans that are no exchange.
    pub ending: Option<Ending>,
    /// Why it is an error.
    pub error_type: Option<ErrorType>,
    /// By the semantic conventions of OpenTelemetry.
    pub attributes: Vec<(Key, Value)>,
    /// Attributes beyond the limit.
    pub dropped_attributes: u32,
    /// Values that were longer than the limit.
    pub cut_values: u32,
    /// What happened on the way.
    pub events: Vec<SpanEvent>,
    /// Events beyond the limit of 128.
    pub dropped_events: u32,
    /// Other spans that it belongs to.
    pub links: Vec<SpanLink>,
}

impl SpanRecord {
    /// How long it took.
    pub fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.end_unix_nanos.saturating_sub(self.start_unix_nanos))
    }

    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

impl Serialize for SpanRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &Text(self.trace_id))?;
        map.serialize_entry("spanId", &Text(self.span_id))?;
        if let Some(parent) = self.parent_span_id {
            map.serialize_entry("parentSpanId", &Text(parent))?;
        }
        if !self.tracestate.is_empty() {
            map.serialize_entry("traceState", self.tracestate.as_str())?;
        }
        map.serialize_entry("flags", &self.flags.to_byte())?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("kind", &self.kind.number())?;
        // OTLP/JSON writes 64-bit numbers as text.
        map.serialize_entry("startTimeUnixNano", &Text(self.start_unix_nanos))?;
        map.serialize_entry("endTimeUnixNano", &Text(self.end_unix_nanos))?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("outcome", self.outcome.as_str())?;
        if let Some(ending) = self.ending {
            map.serialize_entry("ending", ending.as_str())?;
        }
        map.serialize_entry("attributes", &Attributes(&self.attributes))?;
        if self.dropped_attributes > 0 {
            map.serialize_entry("droppedAttributesCount", &self.dropped_attributes)?;
        }
        if self.cut_values > 0 {
            map.serialize_entry("cutValuesCount", &self.cut_values)?;
        }
        map.serialize_entry("events", &self.events)?;
        if self.dropped_events > 0 {
            map.serialize_entry("droppedEventsCount", &self.dropped_events)?;
        }
        map.serialize_entry("links", &self.links)?;
        map.end()
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if *self == Self::Error {
            map.serialize_entry("code", &2)?;
        }
        map.end()
    }
}

impl Serialize for SpanEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timeUnixNano", &Text(self.unix_nanos))?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("attributes", &Attributes(&self.attributes))?;
        if self.dropped_attributes > 0 {
            map.serialize_entry("droppedAttributesCount", &self.dropped_attributes)?;
        }
        map.end()
    }
}

impl Serialize for SpanLink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &Text(self.trace.trace_id))?;
        map.serialize_entry("spanId", &Text(self.trace.span_id))?;
        map.serialize_entry("attributes", &Attributes(&self.attributes))?;
        map.end()
    }
}

struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Attributes<'a>(&'a [(Key, Value)]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, Json(value))))
    }
}

struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::Text(value) => serializer.serialize_str(value),
            Value::Texts(values) => values.serialize(serializer),
        }
    }
}
