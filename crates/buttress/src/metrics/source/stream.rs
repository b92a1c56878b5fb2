use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::{self, Instant};
use crate::metrics::{Buckets, Counter, LabelValue, Labels, Registry, Timer, UpDownCounter};

pub(super) const KIND: &str = "stream.kind";
pub(super) const DIRECTION: &str = "stream.direction";
pub(super) const IN: &str = "in";
pub(super) const OUT: &str = "out";
pub(super) const OPEN: &str = "stream.open";
pub(super) const OPENED: &str = "stream.opened";
pub(super) const MESSAGES: &str = "stream.messages";
pub(super) const BYTES: &str = "stream.bytes";
pub(super) const ERRORS: &str = "stream.errors";

/// What streams of a kind are measured by: connections and bodies that last, whose duration is no latency.
///
/// | metric | kind | labels beside `stream.kind` and `http.route` |
/// |---|---|---|
/// | `stream.open` | up-down counter | |
/// | `stream.opened` | counter | |
/// | `stream.messages` | counter | `stream.direction`: `in`, `out` |
/// | `stream.bytes` | counter | `stream.direction`: `in`, `out` |
/// | `stream.duration` | timer, 100 ms to a day | |
/// | `stream.errors` | counter | |
///
/// What a [`RequestMetricsLayer`](crate::metrics::RequestMetricsLayer) of the same registry has seen upgraded is counted in
/// `stream.opened` by the layer, as a websocket if the answer calls it that: the layer cannot see how long it lasts and what
/// passes. Wrap it ([`metered_io`](Self::metered_io), `websocket`, `metered`) or [`open`](Self::open) it to count that as
/// well; a websocket or an upgrade that is opened after the layer has counted one is taken to be that one and not counted
/// in `stream.opened` again. They are told apart by number only: if some of a registry's upgrades are never wrapped, then
/// as many streams of these two kinds that no layer has seen are missing in `stream.opened`.
///
/// Everything is looked up here, so that [opening](Self::open) one allocates nothing. Clones share everything.
///
/// ```
/// use buttress::metrics::Registry;
/// use buttress::metrics::source::{StreamKind, StreamMetrics, stream_totals};
///
/// let registry = Registry::new();
/// let events = StreamMetrics::for_route(&registry, StreamKind::Sse, "/orders/{id}/events");
/// let open = events.open();
/// open.message_out(120);
/// drop(open);
/// let stats = stream_totals(&registry.snapshot(), StreamKind::Sse);
/// assert_eq!((stats.open, stats.opened, stats.bytes_out), (0, 1, 120));
/// ```
#[derive(Clone)]
pub struct StreamMetrics(Arc<Series>);

struct Series {
    kind: StreamKind,
    open: UpDownCounter,
    opened: Counter,
    received: OneWay,
    sent: OneWay,
    duration: Timer,
    errors: Counter,
    unwrapped: Arc<Unwrapped>,
}

/// Upgrades of a registry that a layer has counted as opened, and that nobody has wrapped since.
#[derive(Default)]
pub(in crate::metrics) struct Unwrapped(AtomicU64);

impl Unwrapped {
    fn leave(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Whether there was one.
    fn take(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok()
    }
}

struct OneWay {
    messages: Counter,
    bytes: Counter,
}

/// The value of the label `stream.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamKind {
    /// A websocket.
    Websocket,
    /// Server-sent events.
    Sse,
    /// A connection that was upgraded to something else.
    Upgrade,
    /// Whatever else lasts.
    Other,
}

impl StreamKind {
    /// As the label has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
            Self::Upgrade => "upgrade",
            Self::Other => "other",
        }
    }
}

impl StreamMetrics {
    /// Of streams of this kind, on whatever route.
    pub fn new(registry: &Registry, kind: StreamKind) -> Self {
        Self::find(registry, kind, None)
    }

    /// Of streams of this kind on one route: its template, never a path.
    pub fn for_route(registry: &Registry, kind: StreamKind, route: &str) -> Self {
        Self::find(registry, kind, Some(route))
    }

    fn find(registry: &Registry, kind: StreamKind, route: Option<&str>) -> Self {
        let labels = StreamLabels { kind, route, direction: None };
        let open = registry.up_down_counter(OPEN).unit("{stream}").description("Streams that are open");
        let opened = registry.counter(OPENED).unit("{stream}").description("Streams that were opened");
        let messages = registry.counter(MESSAGES).unit("{message}").description("Messages on streams");
        let bytes = registry.counter(BYTES).unit("By").description("Payload of the messages on streams");
        let errors = registry.counter(ERRORS).unit("{error}").description("Errors on streams");
        let duration = registry.timer("stream.duration").description("How long streams were open").buckets(lifetimes());
        let one_way = |direction| {
            let labels = StreamLabels { direction: Some(direction), ..labels };
            OneWay { messages: messages.with(labels), bytes: bytes.with(labels) }
        };
        Self(Arc::new(Series {
            kind,
            open: open.with(labels),
            opened: opened.with(labels),
            received: one_way(IN),
            sent: one_way(OUT),
            duration: duration.with(labels),
            errors: errors.with(labels),
            unwrapped: Arc::clone(registry.unwrapped()),
        }))
    }

    /// A layer has seen an upgrade, and will not see its end.
    pub(in crate::metrics) fn upgraded(&self) {
        self.0.opened.add(1);
        self.0.unwrapped.leave();
    }

    /// A stream is open from now on, until the guard is dropped.
    pub fn open(&self) -> OpenStream {
        let is_upgrade = matches!(self.0.kind, StreamKind::Websocket | StreamKind::Upgrade);
        if !is_upgrade || !self.0.unwrapped.take() {
            self.0.opened.add(1);
        }
        self.0.open.add(1);
        OpenStream { series: Arc::clone(&self.0), since: Some(clock::now()), follower: None }
    }
}

impl fmt::Debug for StreamMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMetrics").field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

/// A stream that is open until this is dropped, however that comes about; of [`StreamMetrics::open`].
#[must_use = "the stream is closed when the guard is dropped"]
pub struct OpenStream {
    series: Arc<Series>,
    // None as soon as it is closed.
    since: Option<Instant>,
    // None as well.
    follower: Option<Box<dyn Follow>>,
}

/// Is told what an [`OpenStream`] is told, and dropped when that is closed.
pub(crate) trait Follow: Send + Sync {
    fn message_in(&self, bytes: usize);
    fn message_out(&self, bytes: usize);
    fn error(&self);
    /// A message closes the stream. The other side may answer with a second one.
    #[cfg_attr(not(feature = "stream"), allow(dead_code, reason = "messages are seen by what is metered"))]
    fn closed_by(&self, side: Side, code: u16);
}

/// Who does something to a stream.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "stream"), allow(dead_code, reason = "messages are seen by what is metered"))]
pub(crate) enum Side {
    Us,
    Peer,
}

impl OpenStream {
    /// A message of this size was received.
    pub fn message_in(&self, bytes: usize) {
        self.series.received.count(bytes);
        self.tell(|follower| follower.message_in(bytes));
    }

    /// A message of this size was sent.
    pub fn message_out(&self, bytes: usize) {
        self.series.sent.count(bytes);
        self.tell(|follower| follower.message_out(bytes));
    }

    /// So many bytes were received that are no message of their own.
    pub fn bytes_in(&self, bytes: usize) {
        self.series.received.bytes.add(bytes as u64);
    }

    /// So many bytes were sent that are no message of their own.
    pub fn bytes_out(&self, bytes: usize) {
        self.series.sent.bytes.add(bytes as u64);
    }

    /// Something went wrong, whether or not the stream goes on.
    pub fn error(&self) {
        self.series.errors.add(1);
        self.tell(|follower| follower.error());
    }

    #[cfg(feature = "stream")]
    pub(super) fn closed_by(&self, side: Side, code: u16) {
        self.tell(|follower| follower.closed_by(side, code));
    }

    #[cfg(feature = "stream")]
    pub(super) fn followed_by(mut self, follower: Box<dyn Follow>) -> Self {
        self.follower = Some(follower);
        self
    }

    fn tell(&self, what: impl FnOnce(&dyn Follow)) {
        if let Some(follower) = &self.follower {
            what(&**follower);
        }
    }

    /// Closes it, once. What is counted after that still counts.
    pub(super) fn close(&mut self) {
        if let Some(since) = self.since.take() {
            self.series.open.add(-1);
            self.series.duration.record(clock::now().saturating_duration_since(since));
        }
        self.follower = None;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, since, .. } = self;
        f.debug_struct("OpenStream").field("kind", &series.kind).field("open", &since.is_some()).finish_non_exhaustive()
    }
}

impl OneWay {
    fn count(&self, bytes: usize) {
        self.messages.add(1);
        self.bytes.add(bytes as u64);
    }
}

#[derive(Clone, Copy)]
struct StreamLabels<'a> {
    kind: StreamKind,
    route: Option<&'a str>,
    direction: Option<&'static str>,
}

impl Labels for StreamLabels<'_> {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        visit(KIND, LabelValue::Text(self.kind.as_str()));
        if let Some(route) = self.route {
            visit("http.route", LabelValue::Text(route));
        }
        if let Some(direction) = self.direction {
            visit(DIRECTION, LabelValue::Text(direction));
        }
    }
}

/// Buckets of latencies end where streams begin.
fn lifetimes() -> Buckets {
    const HOUR: u64 = 3600;
    let seconds = [1, 5, 15, 60, 5 * 60, 15 * 60, HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR];
    let bounds = std::iter::once(Duration::from_millis(100)).chain(seconds.map(Duration::from_secs));
    Buckets::durations(bounds).expect("eleven bounds that rise")
}
