//! From our spans to OpenTelemetry's.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buttress::context::{Key, TraceContext, TraceState, Value};
use buttress::settings::Settings;
use buttress::trace::{self, SpanRecord};
use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceId};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// The resource that the settings describe: `service.name`, the attributes of `OTEL_RESOURCE_ATTRIBUTES`, and the SDK's.
pub fn resource(settings: &Settings) -> Resource {
    let attributes = settings.resource_attributes.value.iter();
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("telemetry.sdk.language", "rust"),
            KeyValue::new("telemetry.sdk.name", "buttress"),
            KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_attributes(attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .with_service_name(settings.service_name.value.clone())
        .build()
}

/// Who made the spans and the metrics.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("buttress").with_version(env!("CARGO_PKG_VERSION")).build()
}

pub(crate) fn span_data(span: &SpanRecord, scope: &InstrumentationScope) -> SpanData {
    let trace = trace_of(span);
    SpanData {
        span_context: span_context(trace, &span.tracestate, false),
        parent_span_id: span.parent_span_id.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_bytes())),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: match span.kind {
            trace::SpanKind::Server => SpanKind::Server,
            trace::SpanKind::Client => SpanKind::Client,
            trace::SpanKind::Producer => SpanKind::Producer,
            trace::SpanKind::Consumer => SpanKind::Consumer,
            _ => SpanKind::Internal,
        },
        name: span.name.clone(),
        start_time: time(span.start_unix_nanos),
        end_time: time(span.end_unix_nanos),
        attributes: attributes(&span.attributes),
        dropped_attributes_count: span.dropped_attributes,
        events: events(span),
        links: links(span),
        status: match span.status {
            trace::Status::Error => Status::error(""),
            _ => Status::Unset,
        },
        instrumentation_scope: scope.clone(),
    }
}

pub(crate) fn span_context(trace: TraceContext, tracestate: &TraceState, is_remote: bool) -> SpanContext {
    let tracestate = match tracestate.is_empty() {
        true => opentelemetry::trace::TraceState::NONE,
        false => opentelemetry::trace::TraceState::from_str(tracestate.as_str()).unwrap_or_default(),
    };
    SpanContext::new(
        TraceId::from_bytes(trace.trace_id.to_bytes()),
        SpanId::from_bytes(trace.span_id.to_bytes()),
        opentelemetry::TraceFlags::new(trace.flags.to_byte()),
        is_remote,
        tracestate,
    )
}

fn trace_of(span: &SpanRecord) -> TraceContext {
    TraceContext { trace_id: span.trace_id, span_id: span.span_id, flags: span.flags }
}

fn events(span: &SpanRecord) -> SpanEvents {
    let event = |event: &trace::SpanEvent| {
        Event::new(event.name.clone(), time(event.unix_nanos), attributes(&event.attributes), 0)
    };
    let mut events = SpanEvents::default();
    events.events = span.events.iter().map(event).collect();
    events.dropped_count = span.dropped_events;
    events
}

fn links(span: &SpanRecord) -> SpanLinks {
    let link = |link: &trace::SpanLink| {
        Link::new(span_context(link.trace, &TraceState::EMPTY, true), attributes(&link.attributes), 0)
    };
    let mut links = SpanLinks::default();
    links.links = span.links.iter().map(link).collect();
    links
}

fn attributes(attributes: &[(Key, Value)]) -> Vec<KeyValue> {
    attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), attribute(value))).collect()
}

fn attribute(value: &Value) -> opentelemetry::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::I64(value) => (*value).into(),
        Value::F64(value) => (*value).into(),
        Value::Text(text) => match text.as_static() {
            Some(text) => text.into(),
            None => opentelemetry::Value::String(Arc::<str>::from(text.clone()).into()),
        },
        Value::Texts(values) => {
            opentelemetry::Value::Array(Array::String(values.iter().cloned().map(StringValue::from).collect()))
        }
        other => other.to_string().into(),
    }
}

fn time(unix_nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}
