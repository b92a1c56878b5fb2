//! Batches for an exporter, made and sent by a task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use buttress::metrics::Registry;
use buttress::trace::{FlushError, SpanRecord, SpanSink};
use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::attempt::attempt;
use crate::convert;

/// Hands finished spans to an exporter of OpenTelemetry, in batches, on a task of its own.
///
/// At most 4096 spans wait; what comes beyond is dropped and counted. A batch goes out when it has 512 spans or after a second,
/// and is given up after ten seconds, so that a collector that hangs costs spans and nothing else.
pub struct ExportSink {
    messages: mpsc::UnboundedSender<Message>,
    counters: Arc<Counters>,
    scope: InstrumentationScope,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportStats {
    /// Spans that the exporter took.
    pub exported: u64,
    /// Spans in batches that the exporter refused, that took too long, or in which it panicked.
    pub failed: u64,
    /// Spans that found the queue full.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    queued: AtomicUsize,
    exported: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    fn stats(&self) -> ExportStats {
        ExportStats {
            exported: self.exported.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

enum Message {
    Spans(Vec<SpanData>),
    Flush(oneshot::Sender<Result<(), FlushError>>),
}

/// Spans that may wait, the batch included that is being exported.
const MAX_QUEUED: usize = 4096;
const MAX_BATCH: usize = 512;
const MAX_DELAY: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

impl ExportSink {
    /// Starts the task that exports.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new<E: SpanExporter + 'static>(exporter: E, resource: Resource) -> Self {
        Self::with_timeout(exporter, resource, EXPORT_TIMEOUT)
    }

    /// As [`new`](Self::new), giving up a batch after this long.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn with_timeout<E: SpanExporter + 'static>(mut exporter: E, resource: Resource, timeout: Duration) -> Self {
        exporter.set_resource(&resource);
        let (messages, received) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        let task = Task {
            exporter: Arc::new(exporter),
            timeout,
            counters: Arc::clone(&counters),
            pending: Vec::new(),
            failure: None,
        };
        tokio::spawn(task.run(received));
        Self { messages, counters, scope: convert::scope() }
    }

    /// How many spans were exported, failed and dropped.
    pub fn stats(&self) -> ExportStats {
        self.counters.stats()
    }

    /// Tells these numbers to a registry at each tick, as `otel.sdk.exporter.span.exported`. The exporters that the settings
    /// ask for report by themselves.
    pub fn report(&self, registry: &Registry) {
        let family = registry
            .counter("otel.sdk.exporter.span.exported")
            .unit("{span}")
            .description("Spans that the exporter is done with, and why when the collector did not get them");
        let component = ("otel.component.type", "buttress_otel");
        let exported = family.with([component]);
        let failed = family.with([component, ("error.type", "export_failed")]);
        let dropped = family.with([component, ("error.type", "queue_full")]);
        let counters = Arc::clone(&self.counters);
        registry.add_source(move |_now| {
            let stats = counters.stats();
            exported.advance_to(stats.exported);
            failed.advance_to(stats.failed);
            dropped.advance_to(stats.dropped);
        });
    }
}

impl SpanSink for ExportSink {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        let room = MAX_QUEUED.saturating_sub(self.counters.queued.load(Relaxed)).min(spans.len());
        self.counters.dropped.fetch_add((spans.len() - room) as u64, Relaxed);
        if room == 0 {
            return;
        }
        let batch = spans[..room].iter().map(|span| convert::span_data(span, &self.scope)).collect();
        self.counters.queued.fetch_add(room, Relaxed);
        if self.messages.send(Message::Spans(batch)).is_err() {
            // The runtime of the task is gone.
            self.counters.queued.fetch_sub(room, Relaxed);
            self.counters.dropped.fetch_add(room as u64, Relaxed);
        }
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        Box::pin(async {
            let (answer, answered) = oneshot::channel();
            let gone = || FlushError::new("the runtime of the exporter is gone");
            self.messages.send(Message::Flush(answer)).map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

impl fmt::Debug for ExportSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExportSink").field(&self.stats()).finish()
    }
}

struct Task<E> {
    exporter: Arc<E>,
    timeout: Duration,
    counters: Arc<Counters>,
    pending: Vec<SpanData>,
    /// Why something failed since the last flush.
    failure: Option<String>,
}

impl<E: SpanExporter + 'static> Task<E> {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let mut due: Option<Instant> = None;
        loop {
            let message = match due {
                Some(due) => tokio::time::timeout_at(due, messages.recv()).await,
                None => Ok(messages.recv().await),
            };
            match message {
                Ok(Some(Message::Spans(spans))) => {
                    // Moved as a whole where it can be: a span is large.
                    match self.pending.is_empty() {
                        true => self.pending = spans,
                        false => self.pending.extend(spans),
                    }
                    due.get_or_insert_with(|| Instant::now() + MAX_DELAY);
                    if self.pending.len() >= MAX_BATCH {
                        self.export_all().await;
                        due = None;
                    }
                }
                Ok(Some(Message::Flush(answer))) => {
                    self.export_all().await;
                    due = None;
                    let failure = self.failure.take();
                    let _ = answer.send(failure.map_or(Ok(()), |reason| Err(FlushError::new(reason))));
                }
                // Nobody sends any more: the last spans, and the end.
                Ok(None) => {
                    self.export_all().await;
                    let _ = self.exporter.shutdown();
                    return;
                }
                Err(_due) => {
                    self.export_all().await;
                    due = None;
                }
            }
        }
    }

    async fn export_all(&mut self) {
        while !self.pending.is_empty() {
            let batch: Vec<SpanData> = match self.pending.len() <= MAX_BATCH {
                true => std::mem::take(&mut self.pending),
                false => self.pending.drain(..MAX_BATCH).collect(),
            };
            let count = batch.len();
            let exported = self.export(batch).await;
            self.counters.queued.fetch_sub(count, Relaxed);
            let counter = if exported.is_ok() { &self.counters.exported } else { &self.counters.failed };
            counter.fetch_add(count as u64, Relaxed);
            if let Err(reason) = exported {
                self.failure = Some(reason);
            }
        }
    }

    async fn export(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let exporter = Arc::clone(&self.exporter);
        attempt(self.timeout, async move { exporter.export(batch).await.map_err(|error| error.to_string()) }).await
    }
}
