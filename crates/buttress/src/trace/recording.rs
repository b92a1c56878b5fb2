//! What is kept of a span until it is finished: reference counts of what the request has anyway, no text built.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderValue;

use super::attributes::Attributes;
use super::capture::shown;
use super::http::HttpExchange;
use super::layer::Config;
use super::repeated::Repetitions;
use super::span::{SpanEvent, SpanKind, SpanLink, SpanRecord, Status};
use crate::classify::{Ending, ErrorType, Outcome};
use crate::clock::{self, Instant};
use crate::context::{Annotations, Context, Key, Value};

pub(super) struct Recording {
    pub(super) context: Context,
    pub(super) annotations: Arc<Annotations>,
    pub(super) kind: SpanKind,
    pub(super) subject: Subject,
    pub(super) links: Vec<SpanLink>,
    pub(super) started: Instant,
    pub(super) ended: Instant,
    pub(super) verdict: Finish,
}

/// What the span is about.
#[allow(clippy::large_enum_variant, reason = "the large one is the frequent one, and the recording is boxed")]
pub(super) enum Subject {
    Http(HttpExchange, Arc<Config>),
    Named { name: Cow<'static, str>, attributes: Vec<(Key, Value)> },
}

/// What it came to.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub(super) outcome: Outcome,
    pub(super) ending: Option<Ending>,
    pub(super) error_type: Option<ErrorType>,
}

impl Finish {
    pub(super) const OK: Self = Self { outcome: Outcome::Ok, ending: None, error_type: None };
}

impl Recording {
    /// Builds what sinks are given, with its attributes in this memory; off the request path. (In its box: it is large.)
    pub(super) fn into_record(
        mut self: Box<Self>,
        attributes: Vec<(Key, Value)>,
        repetitions: &mut Repetitions,
    ) -> SpanRecord {
        let Finish { outcome, ending, error_type } = self.verdict;
        let mut attributes = Attributes::within(attributes);
        let mut name = match &self.subject {
            Subject::Http(exchange, config) => {
                exchange.describe(self.kind, config, self.started, repetitions, &mut attributes)
            }
            Subject::Named { name, attributes: given } => {
                given.iter().for_each(|(key, value)| attributes.set(key.clone(), value.clone()));
                attributes.text(name.clone())
            }
        };
        attributes.push_some("error.type", error_type.map(|error_type| error_type.as_str().to_owned()));
        describe_fields(&self.context, &mut attributes);

        let notes = self.annotations.take().unwrap_or_default();
        notes.attributes.into_iter().for_each(|(key, value)| attributes.set(key, value));
        if let Some(given) = notes.name {
            name = attributes.text(given);
        }
        let events = notes.events.into_iter().map(|event| finished(event, &mut attributes.cut)).collect();
        let started = clock::unix_nanos(self.started);
        let took = self.ended.saturating_duration_since(self.started).as_nanos() as u64;
        let trace = self.context.trace();
        SpanRecord {
            trace_id: trace.trace_id,
            span_id: trace.span_id,
            parent_span_id: self.context.parent_span_id(),
            parent_is_remote: self.context.origin().remote_parent && self.context.parent_span_id().is_some(),
            flags: trace.flags,
            tracestate: self.context.tracestate().clone(),
            kind: self.kind,
            name,
            start_unix_nanos: started,
            end_unix_nanos: started.saturating_add(took),
            status: if error_type.is_some() { Status::Error } else { Status::Unset },
            outcome,
            ending,
            error_type,
            attributes: attributes.list,
            dropped_attributes: attributes.dropped + notes.dropped_attributes,
            cut_values: attributes.cut,
            events,
            dropped_events: notes.dropped_events,
            links: std::mem::take(&mut self.links),
        }
    }
}

/// An event within the limits of attributes, and without secrets.
fn finished(event: crate::context::Event, cut: &mut u32) -> SpanEvent {
    let mut attributes = Attributes::default();
    event.attributes.into_iter().for_each(|(key, value)| attributes.set(key, value));
    let name = attributes.text(event.name);
    *cut += attributes.cut;
    SpanEvent {
        name,
        unix_nanos: clock::unix_nanos(event.at),
        attributes: attributes.list,
        dropped_attributes: attributes.dropped,
    }
}

/// The fields of correlation, by OpenTelemetry's names where it has them.
fn describe_fields(context: &Context, attributes: &mut Attributes) {
    let Some(fields) = context.shared().map(|shared| &shared.fields) else {
        return;
    };
    let shown = |field: &Option<HeaderValue>| field.as_ref().map(|value| shown(value).into_owned());
    let header = |field| shown(field).map(|text| Value::Texts(vec![text]));
    attributes.push_some("http.request.header.x-trace-id", header(&fields.correlation_id));
    attributes.push_some("http.request.header.x-request-id", header(&fields.request_id));
    attributes.push_some("tenant.id", shown(&fields.tenant_id));
    attributes.push_some("user.id", shown(&fields.user_id));
    attributes.push_some("session.id", shown(&fields.session_id));
}
