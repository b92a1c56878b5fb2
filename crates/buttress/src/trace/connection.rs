//! Spans of connections that outlive the request that upgraded them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::recording::{Finish, Recording, Subject};
use super::span::{SpanKind, SpanLink};
use super::spans::Spans;
use super::started::SamplingResult;
use crate::classify::{ErrorType, Outcome};
use crate::clock;
use crate::context::{self, Annotations, Context};

/// The span of an upgraded connection: a trace of its own, linked to the request that opened it, with message counters.
///
/// The request's span ends with its `101`; a connection may last for days. Ends when it is dropped.
///
/// ```
/// use buttress::context::Context;
/// use buttress::trace::{Connection, Spans};
///
/// let spans = Spans::new();
/// Context::root().enter(|| {
///     let connection = Connection::open("chat", &spans);
///     connection.received(5);
///     connection.sent(12);
/// });
/// let span = &spans.latest(1)[0];
/// assert_eq!(span.name, "chat");
/// assert_eq!(span.attribute("connection.messages.sent").unwrap().to_string(), "1");
/// assert_eq!(span.links.len(), 1);
/// ```
pub struct Connection {
    spans: Spans,
    name: Cow<'static, str>,
    context: Context,
    annotations: Arc<Annotations>,
    opened_by: Option<Context>,
    started: clock::Instant,
    counters: Counters,
    error: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    received_bytes: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Connection {
    /// Opens a span of this name, linked to the current context.
    pub fn open(name: impl Into<Cow<'static, str>>, spans: &Spans) -> Self {
        let opened_by = context::active();
        let annotations = Arc::<Annotations>::default();
        let mut context = Context::root();
        context.claim(opened_by.as_ref().is_none_or(|opener| opener.is_sampled() || !opener.origin().decided));
        let result = if context.is_sampled() { SamplingResult::RecordAndSample } else { SamplingResult::Drop };
        spans.count_started(&context, result);
        context.set_annotations(Arc::clone(&annotations));
        Self {
            spans: spans.clone(),
            name: name.into(),
            context,
            annotations,
            opened_by,
            started: clock::now(),
            counters: Counters::default(),
            error: None,
        }
    }

    /// The context of the connection: run the handling of its messages in it.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Counts a message that came in.
    pub fn received(&self, bytes: usize) {
        self.counters.received.fetch_add(1, Relaxed);
        self.counters.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts a message that went out.
    pub fn sent(&self, bytes: usize) {
        self.counters.sent.fetch_add(1, Relaxed);
        self.counters.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// The connection broke; `error_type` is of few values.
    pub fn failed(&mut self, error_type: &'static str) {
        self.error = Some(error_type);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.context.is_sampled() {
            return;
        }
        let Counters { received, received_bytes, sent, sent_bytes } = &self.counters;
        let attributes = [
            ("connection.messages.received", received),
            ("connection.messages.received_bytes", received_bytes),
            ("connection.messages.sent", sent),
            ("connection.messages.sent_bytes", sent_bytes),
        ];
        let outcome = match self.error {
            _ if std::thread::panicking() => Outcome::Panicked,
            Some(_) => Outcome::Error,
            None => Outcome::Ok,
        };
        let error_type = if outcome == Outcome::Panicked { Some("panic") } else { self.error };
        self.spans.hand_over(Box::new(Recording {
            context: self.context.clone(),
            annotations: Arc::clone(&self.annotations),
            kind: SpanKind::Server,
            subject: Subject::Named {
                name: self.name.clone(),
                attributes: attributes.map(|(key, count)| (key.into(), count.load(Relaxed).into())).into(),
            },
            links: self.opened_by.iter().map(|context| SpanLink::new(context.trace(), "opened_by")).collect(),
            started: self.started,
            ended: clock::now(),
            verdict: Finish { outcome, ending: None, error_type: error_type.map(ErrorType::Name) },
        }));
    }
}

impl fmt::Debug for Connection {
    /// Without name and annotations: they are cleaned when the span is finished, not before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("context", &self.context)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
