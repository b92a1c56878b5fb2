//! Our layers around the processor of somebody else's queue: a worker of apalis, whose processor is a tower service too.
//!
//! Its requests are tasks and no `http::Request`, so the layers that look at HTTP cannot stand there. A circuit can, and so
//! can an operation, which is a span and its metrics.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::TaskSink;
use apalis_core::backend::memory::MemoryStorage;
use apalis_core::error::WorkerError;
use apalis_core::worker::builder::WorkerBuilder;
use buttress::circuit_breaker::{Circuit, CircuitConfig, State};
use buttress::context;
use buttress::metrics::export::Exposition;
use buttress::settings::Settings;
use buttress::{Telemetry, trace::SpanKind};
use buttress_queue::CircuitLayer;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, Service};

/// So many tasks, in apalis' own memory.
async fn tasks(count: u32) -> MemoryStorage<u32> {
    let mut storage = MemoryStorage::new();
    for task in 0..count {
        storage.push(task).await.unwrap();
    }
    storage
}

/// What a worker does for so long.
async fn after(time: Duration) -> Result<(), WorkerError> {
    sleep(time).await;
    Ok(())
}

type Processed = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Counts what it is given, and fails or not.
fn counting(fails: bool) -> (impl FnMut(u32) -> Processed + Clone + Send + 'static, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let process = move |_: u32| -> Processed {
        counted.fetch_add(1, SeqCst);
        Box::pin(async move { if fails { Err("the mail server is away".into()) } else { Ok(()) } })
    };
    (process, calls)
}

#[tokio::test(start_paused = true)]
async fn while_a_circuit_is_open_its_worker_takes_no_task() {
    let circuit = Circuit::new("mail", CircuitConfig::default());
    circuit.force_open("it moves", None);
    let (process, calls) = counting(false);
    let worker =
        WorkerBuilder::new("mail").backend(tasks(5).await).layer(CircuitLayer::any(circuit.clone())).build(process);
    let running = tokio::spawn(worker.run_until(after(Duration::from_secs(200))));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(calls.load(SeqCst), 0);
    circuit.release("it has moved");
    // Closed again, it lets a growing share pass.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(calls.load(SeqCst), 5, "what nobody took was there still");
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn tasks_that_fail_open_the_circuit_and_the_rest_stays_where_it_is() {
    let circuit = Circuit::new("mail", CircuitConfig::default());
    let (process, calls) = counting(true);
    // What one task's failure does to another is seen when they come one after the other.
    let worker = WorkerBuilder::new("mail")
        .backend(tasks(1_000).await)
        .layer(CircuitLayer::any(circuit.clone()))
        .layer(tower::limit::ConcurrencyLimitLayer::new(1))
        .build(process);
    worker.run_until(after(Duration::from_millis(500))).await.unwrap();
    let seen = circuit.snapshot(Instant::now());
    assert_eq!(seen.state, State::Open);
    assert!((1..100).contains(&calls.load(SeqCst)), "{} calls", calls.load(SeqCst));
}

/// A span and a duration for each call, whatever its request is.
#[derive(Clone)]
struct Observed(Telemetry);

#[derive(Clone)]
struct ObservedService<S>(S, Telemetry);

impl<S> Layer<S> for Observed {
    type Service = ObservedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ObservedService(inner, self.0.clone())
    }
}

impl<S, R> Service<R> for ObservedService<S>
where
    S: Service<R, Error: std::fmt::Display + 'static>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let operation = self.1.operation("process mail").kind(SpanKind::Consumer).in_own_trace();
        Box::pin(operation.run(self.0.call(request)))
    }
}

#[tokio::test(start_paused = true)]
async fn each_task_has_a_trace_and_is_among_the_metrics() {
    let telemetry = Telemetry::new(Settings::read("test", |_| None).unwrap());
    let process = async |task: u32| -> Result<(), BoxError> {
        context::current().ok_or("no context")?;
        if task == 2 { Err("no such customer".into()) } else { Ok(()) }
    };
    let worker = WorkerBuilder::new("mail").backend(tasks(3).await).layer(Observed(telemetry.clone())).build(process);
    worker.run_until(after(Duration::from_secs(1))).await.unwrap();

    let mut spans = telemetry.latest_spans(16);
    spans.sort_by_key(|span| span.trace_id.to_string());
    spans.dedup_by_key(|span| span.trace_id);
    assert_eq!(spans.len(), 3, "a trace for each");
    assert!(spans.iter().all(|span| span.name == "process mail" && span.kind == SpanKind::Consumer));
    assert_eq!(spans.iter().filter(|span| span.error_type.is_some()).count(), 1);
    let page = Exposition::new(&telemetry.metrics().snapshot()).text();
    let count = |outcome: &str| {
        let line = page.lines().find(|line| {
            line.starts_with("buttress_operation_duration_seconds_count")
                && line.contains("process mail")
                && line.contains(outcome)
        });
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {outcome} in {page}")).to_owned()
    };
    assert_eq!((count("\"ok\""), count("\"error\"")), ("2".into(), "1".into()));
}
