//! A span of the floor as exporters take it.

use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, SpanId, TraceId, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::service::Span;

impl Span {
    pub fn export(&self) -> SpanData {
        let context = &self.context;
        let span_id = SpanId::from_bytes(context.span_id);
        let trace_id = TraceId::from_bytes(context.trace_id);
        let end_time = SystemTime::now() - self.ended.elapsed();
        let text = |key, value: &str| KeyValue::new(key, Value::String(value.to_owned().into()));
        let mut attributes = vec![
            text("http.request.method", self.method.as_str()),
            text("url.path", self.uri.path()),
            text("url.scheme", "http"),
            KeyValue::new("http.response.status_code", i64::from(self.status)),
        ];
        attributes.extend(self.uri.query().map(|query| text("url.query", query)));
        let header = |key, value: &Option<http::HeaderValue>| Some(text(key, value.as_ref()?.to_str().ok()?));
        attributes.extend(header("server.address", &self.host));
        attributes.extend(header("user_agent.original", &self.agent));
        SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: SpanId::from_bytes(context.parent),
            parent_span_is_remote: true,
            span_kind: SpanKind::Server,
            name: "GET".into(),
            start_time: end_time - (self.ended - self.started),
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }
}
