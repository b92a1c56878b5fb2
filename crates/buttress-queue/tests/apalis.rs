//! Our layers around the processor of somebody else's queue: a worker of apalis, whose processor is a tower service too.
//!
//! Its requests are tasks and no `http::Request`, so the layers that look at HTTP cannot stand there. Those for any request
//! can: a circuit, repeats within a budget, and an operation, which is a span and its metrics.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apalis_core::backend::TaskSink;
use apalis_core::backend::memory::MemoryStorage;
use apalis_core::error::WorkerError;
use apalis_core::worker::builder::WorkerBuilder;
use buttress::Telemetry;
use buttress::circuit_breaker::{Circuit, CircuitConfig, State};
use buttress::context;
use buttress::metrics::export::Exposition;
use buttress::retry::{NotRetryable, RetryBudget, RetryPolicy};
use buttress::settings::Settings;
use buttress::trace::{OperationLayer, SpanKind, SpanRecord};
use buttress_queue::CircuitLayer;
use tokio::time::{Instant, sleep};
use tower::BoxError;
use tower::limit::ConcurrencyLimitLayer;
use tower::retry::RetryLayer;

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
        .layer(ConcurrencyLimitLayer::new(1))
        .build(process);
    worker.run_until(after(Duration::from_millis(500))).await.unwrap();
    let seen = circuit.snapshot(Instant::now());
    assert_eq!(seen.state, State::Open);
    assert!((1..100).contains(&calls.load(SeqCst)), "{} calls", calls.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn each_task_has_a_trace_and_is_among_the_metrics() {
    let telemetry = Telemetry::new(Settings::read("test", |_| None).unwrap());
    let process = async |task: u32| -> Result<(), BoxError> {
        context::current().ok_or("no context")?;
        if task == 2 { Err("no such customer".into()) } else { Ok(()) }
    };
    let operation = telemetry.operation("process mail").kind(SpanKind::Consumer).in_own_trace();
    let worker =
        WorkerBuilder::new("mail").backend(tasks(3).await).layer(OperationLayer::new(operation)).build(process);
    worker.run_until(after(Duration::from_secs(1))).await.unwrap();

    let mut spans = telemetry.latest_spans(16);
    spans.sort_by_key(|span| span.trace_id.to_string());
    spans.dedup_by_key(|span| span.trace_id);
    assert_eq!(spans.len(), 3, "a trace for each");
    assert!(spans.iter().all(|span| span.name == "process mail" && span.kind == SpanKind::Consumer));
    assert_eq!(spans.iter().filter(|span| span.error_type.is_some()).count(), 1);
    assert_eq!(counted(&telemetry, "process mail", ["ok", "error"]), [2, 1]);
}

/// How many runs of an operation ended so, of whichever kind the error was.
fn counted<const N: usize>(telemetry: &Telemetry, operation: &str, outcomes: [&str; N]) -> [u64; N] {
    let page = Exposition::new(&telemetry.metrics().snapshot()).text();
    outcomes.map(|outcome| {
        let lines = page.lines().filter(|line| line.starts_with("buttress_operation_duration_seconds_count"));
        let of = lines.filter(|line| line.contains(operation) && line.contains(&format!("\"{outcome}\"")));
        of.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    })
}

/// Fails the first time that it is given a task, and then sends it, a second later; some tasks cannot be sent at all.
#[derive(Clone, Default)]
struct Mailer {
    calls: Arc<Mutex<HashMap<u32, usize>>>,
    sending: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// What can never be sent.
const NOBODY: u32 = 3;

impl Mailer {
    async fn send(self, task: u32) -> Result<(), BoxError> {
        let call = {
            let mut calls = self.calls.lock().unwrap();
            let calls = calls.entry(task).or_default();
            *calls += 1;
            *calls
        };
        self.most.fetch_max(self.sending.fetch_add(1, SeqCst) + 1, SeqCst);
        sleep(Duration::from_secs(1)).await;
        self.sending.fetch_sub(1, SeqCst);
        match call {
            _ if task == NOBODY => Err(NotRetryable::new("no such customer").into()),
            1 => Err("the mail server is busy".into()),
            _ => Ok(()),
        }
    }

    fn calls(&self, task: u32) -> usize {
        self.calls.lock().unwrap().get(&task).copied().unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn all_layers_for_any_request_stand_around_one_processor() {
    let telemetry = Telemetry::new(Settings::read("test", |_| None).unwrap());
    // Half of the calls fail, and that is how it is to be here.
    let circuit = Circuit::new("mail", CircuitConfig::default().minimum_calls(100).consecutive_failures(None));
    let budget = RetryBudget::of(0.0, 1000.0).unwrap();
    let mailer = Mailer::default();
    let sends = mailer.clone();
    let worker = WorkerBuilder::new("mail")
        .backend(tasks(8).await)
        // Outside of the repeats: a place that waits for a task would hold a permit that they wait for.
        .layer(ConcurrencyLimitLayer::new(2))
        // One for each task, with all that is tried for it.
        .layer(OperationLayer::new(telemetry.operation("process mail").kind(SpanKind::Consumer).in_own_trace()))
        .layer(RetryLayer::new(RetryPolicy::new().attempts(2).budget(budget.clone()).any_request()))
        // Sees every attempt.
        .layer(CircuitLayer::any(circuit.clone()))
        .layer(OperationLayer::new(telemetry.operation("send mail").kind(SpanKind::Client)))
        .build(move |task: u32| sends.clone().send(task));
    worker.run_until(after(Duration::from_secs(60))).await.unwrap();

    let calls: Vec<_> = (0..8).map(|task| mailer.calls(task)).collect();
    assert_eq!(calls, [2, 2, 2, 1, 2, 2, 2, 2], "each was repeated once, but the one that must not be");
    assert_eq!(mailer.most.load(SeqCst), 2);
    assert_eq!(budget.counts().withdrawn, 7);
    let counts = circuit.snapshot(Instant::now()).counts;
    assert_eq!((counts.ok, counts.failed, counts.ignored), (7, 7, 1), "that nobody was asked says nothing of anybody");
    assert_eq!(counted(&telemetry, "process mail", ["ok", "error"]), [7, 1]);
    assert_eq!(counted(&telemetry, "send mail", ["ok", "error"]), [7, 8]);
    let spans = telemetry.latest_spans(64);
    let named =
        |name: &str| -> Vec<&SpanRecord> { spans.iter().map(AsRef::as_ref).filter(|span| span.name == name).collect() };
    for attempt in named("send mail") {
        let whole = named("process mail").into_iter().find(|span| span.trace_id == attempt.trace_id).unwrap();
        assert_eq!(attempt.parent_span_id, Some(whole.span_id));
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_and_a_circuit_keep_a_server_that_is_down_from_a_storm() {
    let circuit = Circuit::new("mail", CircuitConfig::default());
    let (process, calls) = counting(true);
    let budget = RetryBudget::new();
    let worker = WorkerBuilder::new("mail")
        .backend(tasks(1_000).await)
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(RetryLayer::new(RetryPolicy::new().budget(budget.clone()).any_request()))
        .layer(CircuitLayer::any(circuit.clone()))
        .build(process);
    worker.run_until(after(Duration::from_millis(500))).await.unwrap();
    assert_eq!(circuit.snapshot(Instant::now()).state, State::Open);
    let (calls, repeats) = (calls.load(SeqCst), budget.counts().withdrawn);
    assert!((1..100).contains(&calls), "{calls} calls");
    assert!((1..=4).contains(&repeats), "{repeats} repeats");
}
