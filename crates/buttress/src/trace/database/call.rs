//! A call to a database from its beginning to its end: the same in span and metric, whatever the driver.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::comment::CommentForm;
use crate::classify::{ErrorCode, ErrorType, Outcome};
use crate::clock::{self, Instant};
use crate::context::{self, Annotations, Context, Key, Value};
use crate::metrics::{Buckets, Family, LabelValue, Labels, Registry, Timer};
use crate::trace::recording::{Finish, Recording, Subject};
use crate::trace::started::SamplingResult;
use crate::trace::{Sampler, SpanKind, Spans};

/// What is told of the calls to a database: a span for each, and `db.client.operation.duration`.
///
/// Clones share everything but what is set afterwards. See the [module](super) for an example.
#[derive(Clone)]
pub struct DatabaseTrace {
    spans: Spans,
    sampler: Sampler,
    duration: Family<Timer>,
    slow: Option<Duration>,
    comments: Option<CommentForm>,
    comment_prepared: bool,
    query_text: bool,
    place: Arc<Place>,
}

/// Where the database is.
#[derive(Clone, Default)]
struct Place {
    namespace: Option<String>,
    address: Option<String>,
    port: Option<u16>,
}

impl DatabaseTrace {
    /// Spans here, durations there. Slow from 500 ms on, no comments, masked texts.
    pub fn new(spans: Spans, registry: &Registry) -> Self {
        let bounds = [1, 5, 10, 50, 100, 500, 1000, 5000, 10_000].map(Duration::from_millis);
        let buckets = Buckets::durations(bounds).expect("they rise");
        let duration = registry.timer("db.client.operation.duration").buckets(buckets);
        Self {
            spans,
            sampler: Sampler::default(),
            duration: duration.description("How long calls to databases take"),
            slow: Some(Duration::from_millis(500)),
            comments: None,
            comment_prepared: false,
            query_text: true,
            place: Arc::default(),
        }
    }

    /// Who is traced. What the parent decided by default, and everything where there is none.
    #[must_use]
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = sampler;
        self
    }

    /// Spans of calls that took at least so long have `buttress.db.slow`; none has with `None`. 500 ms by default.
    /// Commands of Redis that wait by nature never have.
    #[must_use]
    pub fn slow(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.slow = threshold.into();
        self
    }

    /// Tells the database the trace of sampled statements in a comment of this form, unless they are prepared. Off by
    /// default. Of no effect on Redis.
    #[must_use]
    pub fn comments(mut self, form: CommentForm) -> Self {
        self.comments = Some(form);
        self
    }

    /// Prepared statements, too, which then are prepared anew each time: see [the module](super#comments) for what that
    /// costs. Off by default.
    #[must_use]
    pub fn comment_prepared(mut self, comment_prepared: bool) -> Self {
        self.comment_prepared = comment_prepared;
        self
    }

    /// Whether spans have the masked text of statements. On by default. Of no effect on Redis, whose spans never have.
    #[must_use]
    pub fn query_text(mut self, query_text: bool) -> Self {
        self.query_text = query_text;
        self
    }

    /// The name of the database: `db.namespace`, where the driver does not say.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.place).namespace = Some(namespace.into());
        self
    }

    /// `server.address` and `server.port`, where the driver does not say.
    #[must_use]
    pub fn server(mut self, address: impl Into<String>, port: u16) -> Self {
        let place = Arc::make_mut(&mut self.place);
        (place.address, place.port) = (Some(address.into()), Some(port));
        self
    }

    /// What the driver says, unless somebody has said it before.
    #[cfg(feature = "sqlx")]
    pub(super) fn placed(mut self, namespace: Option<String>, server: Option<(String, Option<u16>)>) -> Self {
        let place = Arc::make_mut(&mut self.place);
        place.namespace = place.namespace.take().or(namespace);
        if let (None, Some((address, port))) = (&place.address, server) {
            (place.address, place.port) = (Some(address), port);
        }
        self
    }

    #[cfg(feature = "sqlx")]
    pub(super) fn shows_text(&self) -> bool {
        self.query_text
    }

    /// The form of the comment for this statement, if it is to have one.
    #[cfg(feature = "sqlx")]
    pub(super) fn comment_for(&self, is_prepared: bool) -> Option<CommentForm> {
        self.comments.filter(|_| !is_prepared || self.comment_prepared)
    }
}

impl fmt::Debug for DatabaseTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseTrace")
            .field("slow", &self.slow)
            .field("comments", &self.comments)
            .field("comment_prepared", &self.comment_prepared)
            .field("query_text", &self.query_text)
            .finish_non_exhaustive()
    }
}

/// What is called, as its driver knows it.
pub(super) trait Described {
    /// `db.system.name`
    fn system(&self) -> &'static str;
    /// `db.operation.name`
    fn operation(&self) -> &str;
    /// `db.collection.name`
    fn collection(&self) -> Option<&str> {
        None
    }
    /// `db.namespace`, where the call knows it better.
    fn namespace(&self) -> Option<&str> {
        None
    }
    /// Waits by nature, and is not slow for that.
    fn waits(&self) -> bool {
        false
    }
    /// Everything else; asked of sampled calls only.
    fn attributes(&self, trace: &DatabaseTrace, push: &mut dyn FnMut(&'static str, Value));
}

/// Why a call failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    /// The server said so, with this code.
    Code(ErrorCode),
    /// The server said so, with no code that could be told.
    Uncoded,
    /// It never came to an answer.
    Name(&'static str),
}

impl Failure {
    /// With what the server calls its error.
    pub(super) fn coded(code: &str) -> Self {
        ErrorCode::new(code).map_or(Self::Uncoded, Self::Code)
    }

    fn error_type(self) -> ErrorType {
        match self {
            Self::Code(code) => ErrorType::Code(code),
            Self::Uncoded => ErrorType::Name("_OTHER"),
            Self::Name(name) => ErrorType::Name(name),
        }
    }
}

/// A call under way. Ends when it is dropped; as cancelled, unless it has been told how.
pub(super) struct Call<D: Described> {
    trace: Arc<DatabaseTrace>,
    pub(super) what: D,
    context: Context,
    started: Instant,
    ended: Option<Result<(), Failure>>,
}

impl<D: Described> Call<D> {
    pub(super) fn begin(trace: &Arc<DatabaseTrace>, what: D) -> Self {
        let started = clock::now();
        let mut context = context::active().map_or_else(Context::root, |context| context.below_recorded());
        let is_sampled = trace.sampler.settle(&mut context, SpanKind::Client, None, started, &trace.spans);
        context.claim(is_sampled);
        let result = if is_sampled { SamplingResult::RecordAndSample } else { SamplingResult::Drop };
        trace.spans.count_started(&context, result);
        Self { trace: Arc::clone(trace), what, context, started, ended: None }
    }

    /// Of the span of this call.
    #[cfg(feature = "sqlx")]
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn end(&mut self, result: Result<(), Failure>) {
        self.ended = Some(result);
    }

    fn record(&self, ended: Instant, verdict: Finish) {
        let mut attributes: Vec<(Key, Value)> = Vec::with_capacity(12);
        let mut push = |key: &'static str, value: Value| attributes.push((Cow::Borrowed(key), value));
        let labels = self.labels(None);
        labels.visit(&mut |key, value| {
            let key = KEYS.iter().find(|known| **known == key).expect("labels are of these keys");
            match value {
                LabelValue::Int(number) => push(key, number.into()),
                LabelValue::Text(text) => push(key, text.to_owned().into()),
                LabelValue::Bool(value) => push(key, value.into()),
            }
        });
        if let Some(Err(Failure::Code(code))) = &self.ended {
            push("db.response.status_code", code.as_str().to_owned().into());
        }
        let slow = self.trace.slow.is_some_and(|threshold| ended.saturating_duration_since(self.started) >= threshold);
        if slow && !self.what.waits() {
            push("buttress.db.slow", true.into());
        }
        self.what.attributes(&self.trace, &mut push);
        let name = match self.what.collection() {
            Some(collection) => format!("{} {collection}", self.what.operation()),
            None => self.what.operation().to_owned(),
        };
        self.trace.spans.hand_over(Box::new(Recording {
            context: self.context.clone(),
            annotations: Arc::<Annotations>::default(),
            kind: SpanKind::Client,
            subject: Subject::Named { name: name.into(), attributes },
            links: Vec::new(),
            started: self.started,
            ended,
            verdict,
        }));
    }

    fn labels<'a>(&'a self, error_type: Option<&'a ErrorType>) -> CallLabels<'a> {
        let Place { namespace, address, port } = &*self.trace.place;
        CallLabels {
            texts: [
                Some(self.what.system()),
                Some(self.what.operation()),
                self.what.collection(),
                self.what.namespace().or(namespace.as_deref()),
                address.as_deref(),
                error_type.map(ErrorType::as_str),
            ],
            port: port.filter(|_| address.is_some()),
        }
    }
}

impl<D: Described> Drop for Call<D> {
    fn drop(&mut self) {
        let ended = clock::now();
        let (outcome, error_type) = match self.ended {
            _ if std::thread::panicking() => (Outcome::Panicked, Some(ErrorType::Name("panic"))),
            Some(Ok(())) => (Outcome::Ok, None),
            Some(Err(failure)) => (Outcome::Error, Some(failure.error_type())),
            None => (Outcome::Cancelled, None),
        };
        let timer = self.trace.duration.with(self.labels(error_type.as_ref()));
        let took = ended.saturating_duration_since(self.started);
        // In the span's own context, so that the exemplar leads to it.
        self.context.enter(|| timer.record(took));
        if self.context.is_sampled() {
            self.record(ended, Finish { outcome, ending: None, error_type });
        }
    }
}

const KEYS: [&str; 7] = [
    "db.system.name",
    "db.operation.name",
    "db.collection.name",
    "db.namespace",
    "server.address",
    "error.type",
    "server.port",
];

/// What the metric and the span have in common.
struct CallLabels<'a> {
    texts: [Option<&'a str>; 6],
    port: Option<u16>,
}

impl Labels for CallLabels<'_> {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        for (key, text) in KEYS.iter().zip(self.texts) {
            if let Some(text) = text {
                visit(key, text.into());
            }
        }
        if let Some(port) = self.port {
            visit(KEYS[6], port.into());
        }
    }
}
