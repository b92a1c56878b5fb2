use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use buttress::metrics::{Registry, Snapshot};
use buttress::settings::Settings;
use buttress::telemetry::Flush;
use buttress::trace::FlushError;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::client::{self, MetricsClient};
use super::convert::Form;
use crate::attempt::attempt;
use crate::otlp::OtlpError;

/// Sends the numbers of a registry to a collector, at an interval and whenever it is flushed.
///
/// It has nothing but the registry to remember: what a collector did not take is in the next export. Only when a collector
/// takes a request and its answer is lost, are those numbers counted twice by a delta.
///
/// Clones share one exporter. When the last one is dropped, it exports once more and stops.
#[derive(Clone)]
pub struct MetricsExporter {
    flushes: mpsc::UnboundedSender<Asked>,
    counters: Arc<Counters>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsStats {
    /// Requests that the collector took.
    pub exported: u64,
    /// Requests that it refused, that took too long, or in which the client panicked.
    pub failed: u64,
    /// Of those that it took, requests of which it left something out.
    pub partial: u64,
    /// Points that it left out.
    pub rejected_points: u64,
}

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    failed: AtomicU64,
    partial: AtomicU64,
    rejected_points: AtomicU64,
}

type Asked = oneshot::Sender<Result<(), FlushError>>;

/// Whatever the program says, the collector is not flooded.
const SHORTEST: Duration = Duration::from_millis(100);
/// What is added to an instant has an end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl MetricsExporter {
    /// Starts the task that exports, to the collector that the settings name.
    ///
    /// # Errors
    ///
    /// [`OtlpError`] when no client can be made of the settings.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(registry: Registry, settings: &Settings) -> Result<Self, OtlpError> {
        Ok(Self::with_client(registry, settings, client::by_settings(&settings.metrics_export.otlp)?))
    }

    /// As [`start`](Self::start), with a client of one's own; interval, timeout, temporality and resource are those of the
    /// settings.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn with_client(registry: Registry, settings: &Settings, client: impl MetricsClient) -> Self {
        let (flushes, asked) = mpsc::unbounded_channel();
        let interval = settings.metrics_export.interval.value.clamp(SHORTEST, LONGEST);
        let counters = Arc::<Counters>::default();
        let task = Task {
            registry,
            form: Arc::new(Form::new(settings)),
            client: Arc::new(client),
            base: None,
            due: Instant::now() + interval,
            interval,
            timeout: settings.metrics_export.otlp.timeout.value,
            counters: Arc::clone(&counters),
        };
        tokio::spawn(task.run(asked));
        Self { flushes, counters }
    }

    /// Exports now, after the export that is under way.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when the collector did not take it or the deadline passed first.
    pub async fn flush(&self, deadline: Duration) -> Result<(), FlushError> {
        let exported = timeout(deadline, self.export()).await;
        exported.unwrap_or_else(|_| Err(FlushError::new("the deadline passed")))
    }

    async fn export(&self) -> Result<(), FlushError> {
        let (answer, answered) = oneshot::channel();
        let gone = || FlushError::new("the runtime of the exporter is gone");
        self.flushes.send(answer).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// How many requests were exported and failed.
    pub fn stats(&self) -> MetricsStats {
        MetricsStats {
            exported: self.counters.exported.load(Relaxed),
            failed: self.counters.failed.load(Relaxed),
            partial: self.counters.partial.load(Relaxed),
            rejected_points: self.counters.rejected_points.load(Relaxed),
        }
    }
}

impl Flush for MetricsExporter {
    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        Box::pin(self.export())
    }
}

impl fmt::Debug for MetricsExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MetricsExporter").field(&self.stats()).finish()
    }
}

struct Task {
    registry: Registry,
    form: Arc<Form>,
    client: Arc<dyn MetricsClient>,
    /// What the collector has, when deltas are asked for. It moves when an export has arrived and never before.
    base: Option<Arc<Snapshot>>,
    due: Instant,
    interval: Duration,
    timeout: Duration,
    counters: Arc<Counters>,
}

impl Task {
    async fn run(mut self, mut flushes: mpsc::UnboundedReceiver<Asked>) {
        loop {
            match timeout_at(self.due, flushes.recv()).await {
                Ok(Some(answer)) => {
                    let exported = self.export().await;
                    let _ = answer.send(exported.map_err(FlushError::new));
                }
                Ok(None) => {
                    // Nobody is left to be told.
                    let _ = self.export().await;
                    return;
                }
                Err(_due) => {
                    // The next export makes up for this one.
                    let _ = self.export().await;
                    self.due = (self.due + self.interval).max(Instant::now());
                }
            }
        }
    }

    async fn export(&mut self) -> Result<(), String> {
        let exported = attempt(self.timeout, self.attempt()).await;
        match exported {
            Ok((snapshot, answer)) => {
                if let Some(answer) = answer {
                    self.counters.note(&answer);
                }
                self.base = self.form.is_delta().then(|| Arc::new(snapshot));
                Ok(())
            }
            Err(reason) => {
                self.counters.failed.fetch_add(1, Relaxed);
                Err(reason)
            }
        }
    }

    /// Reads the registry and sends what there is; no answer when there was nothing.
    fn attempt(
        &self,
    ) -> impl Future<Output = Result<(Snapshot, Option<ExportMetricsServiceResponse>), String>> + Send + use<> {
        let (registry, form, client) = (self.registry.clone(), Arc::clone(&self.form), Arc::clone(&self.client));
        let base = self.base.clone();
        async move {
            let snapshot = registry.snapshot();
            let Some(request) = form.request(&snapshot, base.as_deref()) else {
                return Ok((snapshot, None));
            };
            let answer = client.export(request).await.map_err(|error| told(&*error))?;
            Ok((snapshot, Some(answer)))
        }
    }
}

impl Counters {
    fn note(&self, answer: &ExportMetricsServiceResponse) {
        self.exported.fetch_add(1, Relaxed);
        // A message without rejected points is a warning.
        let rejected = answer.partial_success.as_ref().map_or(0, |partial| partial.rejected_data_points);
        if let Some(rejected) = u64::try_from(rejected).ok().filter(|rejected| *rejected > 0) {
            self.partial.fetch_add(1, Relaxed);
            self.rejected_points.fetch_add(rejected, Relaxed);
        }
    }
}

/// An error and its causes in one line.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
