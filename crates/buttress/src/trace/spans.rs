//! From the request path to the sinks: a bounded lock-free hand-over, a ring of the latest, a thread that feeds the sinks.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, mpsc};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::time::Instant;

use super::recording::Recording;
use super::repeated::Repetitions;
use super::span::SpanRecord;
use super::started::{SamplingResult, Started};
use crate::clock;
use crate::context::Context;

/// How long a span waits at most before it is finished and given to the sinks.
const TICK: Duration = Duration::from_millis(200);
/// How often the wall clock is looked at again, in ticks.
const RESYNC_TICKS: u32 = 300;
/// What sinks are given at once.
const BATCH: usize = 512;
/// The thread that feeds the sinks is woken after so many: seldom enough to cost a request nothing, and often enough that it
/// is soon done, since on a machine with few cores requests wait for it.
const WAKE_AFTER: usize = 256;
/// More than spans of HTTP have without anybody's own.
const USUAL_ATTRIBUTES: usize = 16;

/// Takes finished spans: an exporter, a file.
///
/// Sinks are called by a thread of their own, one after the other; a slow one delays the others and loses spans when the
/// hand-over is full, but never delays a request.
pub trait SpanSink: Send + Sync + 'static {
    /// Takes some spans. May block on a file, but not wait for a network: hand over to a task for that.
    fn export(&self, spans: &[Arc<SpanRecord>]);

    /// Resolves when everything taken so far has been delivered or given up.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when some of it could not be delivered.
    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A sink that somebody else looks at too.
impl<S: SpanSink + ?Sized> SpanSink for Arc<S> {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        (**self).export(spans);
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        (**self).flush()
    }
}

/// Where finished spans go. Clones share everything.
///
/// Recording never waits: when the hand-over is full, the span is dropped and counted. The latest spans are kept in a ring
/// for tests, consoles and the curious.
#[derive(Clone)]
pub struct Spans(Arc<Shared>);

struct Shared {
    started: Started,
    queue: ArrayQueue<Box<Recording>>,
    wake_after: u64,
    recorded: AtomicU64,
    dropped: AtomicU64,
    exported: AtomicU64,
    drained: Mutex<Drained>,
    sinks: Mutex<Vec<Arc<dyn SpanSink>>>,
    /// Held while sinks are fed: one batch after the other.
    feeding: Mutex<()>,
    has_sinks: OnceLock<Thread>,
}

/// What has left the hand-over.
#[derive(Default)]
struct Drained {
    ring: VecDeque<Arc<SpanRecord>>,
    ring_capacity: usize,
    /// For the sinks.
    pending: VecDeque<Arc<SpanRecord>>,
    repetitions: Repetitions,
}

impl Drained {
    /// Makes room in the ring where it is full. A record that nobody looks at any more leaves its memory to the new one, which is
    /// cheaper than to give back so much and to ask for it again.
    fn finish(&mut self, recording: Box<Recording>) -> Arc<SpanRecord> {
        let is_full = self.ring.len() == self.ring_capacity;
        let oldest = if is_full { self.ring.pop_front() } else { None };
        if let Some(mut oldest) = oldest
            && let Some(record) = Arc::get_mut(&mut oldest)
        {
            let attributes = std::mem::take(&mut record.attributes);
            *record = recording.into_record(attributes, &mut self.repetitions);
            return oldest;
        }
        Arc::new(recording.into_record(Vec::with_capacity(USUAL_ATTRIBUTES), &mut self.repetitions))
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanStats {
    /// Spans that ended.
    pub recorded: u64,
    /// Of these, spans that found the hand-over or the sinks' queue full.
    pub dropped: u64,
    /// Spans given to every sink.
    pub exported: u64,
    /// Spans that were not sampled because there were too many in that second.
    pub rate_limited: u64,
    /// Spans that were not sampled, and kept because of how they went.
    pub kept_late: u64,
}

impl Default for Spans {
    fn default() -> Self {
        Self::new()
    }
}

impl Spans {
    /// Room for 8192 spans on their way, and a ring of the latest 1024.
    pub fn new() -> Self {
        Self::with_capacity(8192, 1024)
    }

    /// Room for so many spans on their way (at least one), and a ring of the latest so many.
    pub fn with_capacity(queue: usize, ring: usize) -> Self {
        Self(Arc::new(Shared {
            started: Started::new(),
            queue: ArrayQueue::new(queue.max(1)),
            wake_after: (queue / 2).clamp(1, WAKE_AFTER) as u64,
            recorded: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            drained: Mutex::new(Drained { ring_capacity: ring, ..Drained::default() }),
            sinks: Mutex::default(),
            feeding: Mutex::default(),
            has_sinks: OnceLock::new(),
        }))
    }

    /// Adds a sink. The first one starts the thread that feeds them.
    #[must_use]
    pub fn with_sink(self, sink: impl SpanSink) -> Self {
        self.add_sink(sink);
        self
    }

    /// Adds a sink to spans that are in use already.
    pub fn add_sink(&self, sink: impl SpanSink) {
        lock(&self.0.sinks).push(Arc::new(sink));
        self.0.has_sinks.get_or_init(|| start_feeding(Arc::downgrade(&self.0)));
    }

    /// The latest finished spans, newest first.
    pub fn latest(&self, count: usize) -> Vec<Arc<SpanRecord>> {
        let drained = self.0.drain();
        drained.ring.iter().rev().take(count).cloned().collect()
    }

    /// How many spans ended, were dropped and were exported, and what became of them before.
    pub fn stats(&self) -> SpanStats {
        SpanStats {
            recorded: self.0.recorded.load(Relaxed),
            dropped: self.0.dropped.load(Relaxed),
            exported: self.0.exported.load(Relaxed),
            rate_limited: self.0.started.rate_limited(),
            kept_late: self.0.started.kept_late(),
        }
    }

    /// Gives everything recorded so far to the sinks and waits until they have delivered it.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when a sink failed or the deadline passed first.
    pub async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        if self.0.has_sinks.get().is_none() {
            return Ok(());
        }
        let until = clock::now() + deadline;
        let shared = Arc::clone(&self.0);
        let fed = tokio::task::spawn_blocking(move || feed_within(shared, deadline));
        fed.await.unwrap_or_else(|_| Err(FlushError::new("a sink panicked")))?;
        let sinks = lock(&self.0.sinks).clone();
        let mut flushed = Ok(());
        for sink in sinks {
            flushed = flushed.and(timeout(until, sink.flush()).await);
        }
        flushed
    }

    /// By `otel.span.parent.origin` and `otel.span.sampling_result`.
    #[cfg(feature = "telemetry")]
    pub(crate) fn started(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.0.started.by_result()
    }

    pub(super) fn count_started(&self, context: &Context, result: SamplingResult) {
        self.0.started.count(context, result);
    }

    pub(super) fn count_rate_limited(&self) {
        self.0.started.count_rate_limited();
    }

    pub(super) fn count_kept_late(&self) {
        self.0.started.count_kept_late();
    }

    pub(super) fn hand_over(&self, recording: Box<Recording>) {
        let shared = &*self.0;
        let nth = shared.recorded.fetch_add(1, Relaxed) + 1;
        let sinks = shared.has_sinks.get();
        match (shared.queue.push(recording), sinks) {
            (Ok(()), Some(feeder)) if nth.is_multiple_of(shared.wake_after) => feeder.unpark(),
            (Ok(()), _) => {}
            // Without sinks nobody drains but readers of the ring: the newest spans are worth more.
            (Err(recording), None) => drop(shared.queue.force_push(recording)),
            (Err(_), Some(_)) => drop(shared.dropped.fetch_add(1, Relaxed)),
        }
    }
}

impl Shared {
    /// Finishes what is in the hand-over: into the ring, and into the sinks' queue if there are sinks.
    fn drain(&self) -> MutexGuard<'_, Drained> {
        let mut drained = lock(&self.drained);
        // Bounded, so that a reader cannot be kept here by those who record.
        for _ in 0..self.queue.capacity() {
            let Some(recording) = self.queue.pop() else { break };
            let record = drained.finish(recording);
            if self.has_sinks.get().is_some() {
                if drained.pending.len() < self.queue.capacity() {
                    drained.pending.push_back(Arc::clone(&record));
                } else {
                    self.dropped.fetch_add(1, Relaxed);
                }
            }
            if drained.ring_capacity > 0 {
                drained.ring.push_back(record);
            }
        }
        drained
    }

    /// Gives the sinks what is there.
    fn feed(&self) {
        let _one_at_a_time = lock(&self.feeding);
        let sinks = lock(&self.sinks).clone();
        loop {
            let mut drained = self.drain();
            let count = drained.pending.len().min(BATCH);
            let batch: Vec<_> = drained.pending.drain(..count).collect();
            drop(drained);
            if batch.is_empty() {
                return;
            }
            for sink in sinks.iter() {
                // A sink that panics loses its batch, not the thread.
                let _ = catch_unwind(AssertUnwindSafe(|| sink.export(&batch)));
            }
            self.exported.fetch_add(batch.len() as u64, Relaxed);
        }
    }
}

impl Drop for Shared {
    /// The last spans of a process that forgot to flush still reach the sinks that need no runtime.
    fn drop(&mut self) {
        if self.has_sinks.get().is_some() {
            self.feed();
        }
    }
}

/// Starts the thread that feeds the sinks until the spans are gone. A thread and no task: sinks may block, and spans of a
/// runtime that is stuck still get out.
fn start_feeding(shared: Weak<Shared>) -> Thread {
    let feed = move || {
        let mut ticks: u32 = 0;
        while let Some(shared) = shared.upgrade() {
            shared.feed();
            drop(shared);
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(RESYNC_TICKS) {
                clock::resync();
            }
            thread::park_timeout(TICK);
        }
    };
    let thread = thread::Builder::new().name("buttress-spans".to_owned()).spawn(feed);
    match thread {
        Ok(handle) => handle.thread().clone(),
        // Out of threads: spans still reach the ring, and the sinks when somebody flushes.
        Err(_) => thread::current(),
    }
}

/// Feeds the sinks on a thread that is left behind when a sink hangs: the runtime must not wait for it at its end.
///
/// Called on tokio's blocking pool, which keeps paused time from running on meanwhile.
fn feed_within(shared: Arc<Shared>, deadline: Duration) -> Result<(), FlushError> {
    let (fed, done) = mpsc::channel();
    let feeding = thread::Builder::new().name("buttress-flush".to_owned()).spawn(move || {
        shared.feed();
        let _ = fed.send(());
    });
    feeding.map_err(|error| FlushError::new(format!("no thread for it: {error}")))?;
    done.recv_timeout(deadline).map_err(|_| FlushError::new("the deadline passed"))
}

async fn timeout<T>(until: Instant, future: impl Future<Output = Result<T, FlushError>>) -> Result<T, FlushError> {
    tokio::time::timeout_at(until, future).await.unwrap_or_else(|_| Err(FlushError::new("the deadline passed")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spans").field(&self.stats()).finish()
    }
}

/// Not everything could be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushError {
    reason: String,
}

impl FlushError {
    /// With the reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not everything was delivered: {}", self.reason)
    }
}

impl std::error::Error for FlushError {}
