//! Batches, bounds and faults of the sink, with exporters that do as they are told.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use buttress::settings::Settings;
use buttress::trace::{SpanSink, Spans};
use buttress_otel::{ExportSink, resource};
use opentelemetry::Value;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData, SpanExporter};
use support::script::{Act, Script};
use support::serve;

const LONG: Duration = Duration::from_secs(60);

fn no_resource() -> Resource {
    Resource::builder_empty().build()
}

/// Remembers the sizes of the batches.
type Scripted = Script<usize>;

impl SpanExporter for Scripted {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let played = self.play(batch.len());
        async { played.await.map_err(OTelSdkError::InternalFailure) }
    }
}

/// Shares a sink with the spans, so that a test can look at its counts.
struct Shared(Arc<ExportSink>);

impl SpanSink for Shared {
    fn export(&self, spans: &[Arc<buttress::trace::SpanRecord>]) {
        self.0.export(spans);
    }

    fn flush(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<(), buttress::trace::FlushError>> + Send + '_>> {
        self.0.flush()
    }
}

fn spans_to(exporter: Scripted) -> (Spans, Arc<ExportSink>) {
    let sink = Arc::new(ExportSink::with_timeout(exporter, no_resource(), Duration::from_secs(10)));
    (Spans::new().with_sink(Shared(Arc::clone(&sink))), sink)
}

#[tokio::test]
async fn a_span_arrives_as_opentelemetry_would_have_made_it() {
    let exporter = InMemorySpanExporter::default();
    let spans = Spans::new().with_sink(ExportSink::new(exporter.clone(), no_resource()));
    serve(&spans, 1).await;
    spans.flush(LONG).await.expect("the exporter takes everything");

    let record = &spans.latest(1)[0];
    let exported = &exporter.get_finished_spans().expect("it holds spans")[0];
    assert_eq!(exported.span_context.trace_id().to_bytes(), record.trace_id.to_bytes());
    assert_eq!(exported.span_context.span_id().to_bytes(), record.span_id.to_bytes());
    assert!(exported.span_context.is_sampled());
    assert_eq!((&*exported.name, &exported.span_kind, &exported.status), ("GET", &SpanKind::Server, &Status::Unset));
    let attribute = |key: &str| exported.attributes.iter().find(|kv| kv.key.as_str() == key).map(|kv| kv.value.clone());
    assert_eq!(attribute("http.response.status_code"), Some(Value::I64(200)));
    assert_eq!(attribute("url.query"), Some("page=2".into()));
    assert_eq!(exported.attributes.len(), record.attributes.len());
    assert_eq!(exported.end_time.duration_since(exported.start_time).expect("in order"), record.duration());
    assert_eq!(exported.instrumentation_scope.name(), "buttress");
}

#[test]
fn the_resource_tells_the_service_and_what_the_settings_add() {
    let settings = Settings::read("shop", |name| {
        (name == "OTEL_RESOURCE_ATTRIBUTES").then(|| "deployment.environment.name=test,team=a%20b".to_owned())
    });
    let resource = resource(&settings.expect("the settings are fine"));
    let get = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(get("service.name").as_deref(), Some("shop"));
    assert_eq!(get("deployment.environment.name").as_deref(), Some("test"));
    assert_eq!(get("team").as_deref(), Some("a b"));
    assert_eq!(get("telemetry.sdk.language").as_deref(), Some("rust"));
}

#[tokio::test]
async fn a_flush_sends_batches_of_at_most_512_spans() {
    let exporter = Scripted::new(&[Act::Take]);
    let (spans, sink) = spans_to(exporter.clone());
    serve(&spans, 1300).await;
    spans.flush(LONG).await.expect("the exporter takes everything");
    assert_eq!(exporter.seen().iter().sum::<usize>(), 1300);
    assert!(exporter.seen().iter().all(|size| *size <= 512));
    assert_eq!((sink.stats().exported, sink.stats().failed, sink.stats().dropped), (1300, 0, 0));
}

#[tokio::test]
async fn a_refused_batch_is_counted_and_told_once_and_the_next_is_tried() {
    let (spans, sink) = spans_to(Scripted::new(&[Act::Refuse, Act::Take]));
    serve(&spans, 3).await;
    let error = spans.flush(LONG).await.expect_err("it was refused");
    assert!(error.to_string().contains("refused"), "{error}");
    serve(&spans, 2).await;
    spans.flush(LONG).await.expect("the second batch was taken");
    assert_eq!((sink.stats().exported, sink.stats().failed), (2, 3));
}

#[tokio::test]
async fn a_panic_of_the_exporter_costs_its_batch_only() {
    let (spans, sink) = spans_to(Scripted::new(&[Act::Panic, Act::Take]));
    serve(&spans, 3).await;
    let error = spans.flush(LONG).await.expect_err("it panicked");
    assert!(error.to_string().contains("panicked"), "{error}");
    serve(&spans, 2).await;
    spans.flush(LONG).await.expect("the second batch was taken");
    assert_eq!((sink.stats().exported, sink.stats().failed), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_its_batch_after_the_timeout() {
    let (spans, sink) = spans_to(Scripted::new(&[Act::Hang, Act::Take]));
    serve(&spans, 3).await;
    let error = spans.flush(LONG).await.expect_err("it hung");
    assert!(error.to_string().contains("longer than 10s"), "{error}");
    serve(&spans, 2).await;
    spans.flush(LONG).await.expect("the second batch was taken");
    assert_eq!((sink.stats().exported, sink.stats().failed), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_while_a_collector_hangs_is_dropped_and_counted() {
    let (spans, sink) = spans_to(Scripted::new(&[Act::Hang]));
    // The queue holds 4096 spans, the batch included that hangs.
    for _ in 0..10 {
        serve(&spans, 600).await;
        spans.flush(Duration::from_millis(300)).await.expect_err("it hangs");
    }
    let stats = sink.stats();
    assert!(stats.dropped >= 6000 - 4096 - stats.failed, "{stats:?}");
    assert_eq!(stats.exported, 0);
}

#[tokio::test(start_paused = true)]
async fn a_flush_gives_up_at_its_deadline() {
    let (spans, _sink) = spans_to(Scripted::new(&[Act::Hang]));
    serve(&spans, 1).await;
    let error = spans.flush(Duration::from_secs(2)).await.expect_err("it hangs");
    assert!(error.to_string().contains("deadline"), "{error}");
}
