//! One JSON object a span and a line.

use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::span::SpanRecord;
use super::spans::{FlushError, SpanSink};

/// Writes each span as a line of JSON, with the field names of OTLP/JSON.
///
/// A writer that fails (a full disk) loses the spans of that batch; they are counted, and the next batch is tried again.
///
/// ```no_run
/// use buttress::trace::{JsonLines, Spans};
///
/// let file = std::fs::File::options().create(true).append(true).open("spans.jsonl")?;
/// let spans = Spans::new().with_sink(JsonLines::new(file));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct JsonLines<W> {
    writer: Mutex<Lines<W>>,
    failed: AtomicU64,
    /// Of these, those that a flush has told of.
    told: AtomicU64,
}

impl<W: Write + Send + 'static> JsonLines<W> {
    /// Writes to a file, to standard output, ..
    pub fn new(writer: W) -> Self {
        Self { writer: Mutex::new(Lines { writer, torn: false }), failed: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// Spans in batches that could not be written.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    fn write(&self, spans: &[Arc<SpanRecord>]) -> io::Result<()> {
        let mut lines = Vec::with_capacity(spans.len() * 512);
        for span in spans {
            serde_json::to_writer(&mut lines, &**span)?;
            lines.push(b'\n');
        }
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write(&lines)
    }
}

struct Lines<W> {
    writer: W,
    /// The last batch may have been written in part.
    torn: bool,
}

impl<W: Write> Lines<W> {
    /// Starts on a line of its own, also after half a batch.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if std::mem::replace(&mut self.torn, true) {
            self.writer.write_all(b"\n")?;
        }
        self.writer.write_all(lines)?;
        self.writer.flush()?;
        self.torn = false;
        Ok(())
    }
}

impl<W: Write + Send + 'static> SpanSink for JsonLines<W> {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        if self.write(spans).is_err() {
            self.failed.fetch_add(spans.len() as u64, Relaxed);
        }
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        let failed = self.failed();
        let flushed = match failed - self.told.swap(failed, Relaxed) {
            0 => Ok(()),
            lost => Err(FlushError::new(format!("{lost} spans could not be written"))),
        };
        Box::pin(std::future::ready(flushed))
    }
}

impl<W> fmt::Debug for JsonLines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").field("failed", &self.failed).finish_non_exhaustive()
    }
}
