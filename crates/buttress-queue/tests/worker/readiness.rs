use std::future::pending;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use buttress::Telemetry;
use buttress::circuit_breaker::{CallResult, Circuit, CircuitConfig};
use buttress::retry::{RetryBudget, RetryPolicy};
use buttress::settings::Settings;
use buttress::trace::{OperationLayer, SpanKind};
use buttress_queue::{CircuitLayer, Delivery, JobState, Outcome, Worker};
use tokio::time::{Instant, sleep};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder, service_fn};

use crate::support::{Running, counting, found, job, queue, second, settled};

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_leaves_the_job_to_others() {
    let queue = queue();
    let busy = ServiceBuilder::new().concurrency_limit(1).service(service_fn(async |_: Delivery| {
        pending::<()>().await;
        Ok::<_, BoxError>(Outcome::Ack)
    }));
    let running = Running::start(Worker::new(&queue, busy).concurrency(8));
    queue.push(job("first")).await.unwrap();
    queue.push(job("second")).await.unwrap();
    settled().await;
    assert_eq!(found(&queue, "first").await.state, JobState::Active);
    assert_eq!(found(&queue, "second").await.state, JobState::Waiting);
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_that_is_used_up_leaves_the_jobs_to_others() {
    let queue = queue();
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let limited = ServiceBuilder::new()
        // Tower's limit cannot be cloned; its buffer can, and holds one.
        .buffer(1)
        .rate_limit(10, Duration::from_secs(1))
        .service(service);
    let running = Running::start(Worker::new(&queue, limited).concurrency(8));
    for nth in 0..100 {
        queue.push(job(&format!("job-{nth}"))).await.unwrap();
    }
    sleep(Duration::from_millis(3_500)).await;
    assert_eq!(calls.load(SeqCst), 40);
    let depth = queue.contents().await.unwrap().depths.remove(0);
    assert!(depth.active <= 2 && depth.waiting >= 58, "{depth:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_stops_the_claims() {
    let queue = queue();
    let circuit = Circuit::new("mail", CircuitConfig::default());
    circuit.force_open("it moves", None);
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let guarded = ServiceBuilder::new().layer(CircuitLayer::new(circuit.clone())).service(service);
    let running = Running::start(Worker::new(&queue, guarded));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((found(&queue, "one").await.state, calls.load(SeqCst)), (JobState::Waiting, 0));
    circuit.release("it has moved");
    // Closed again, it lets a growing share pass.
    sleep(Duration::from_secs(60)).await;
    assert_eq!((found(&queue, "one").await.state, calls.load(SeqCst)), (JobState::Done, 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_circuit_farther_in_defers_and_uses_no_attempt() {
    let queue = queue();
    let circuit = Circuit::new("mail", CircuitConfig::default());
    circuit.force_open("it moves", Some(Duration::from_secs(300)));
    let (service, calls) = counting(move |_, _| {
        let circuit = circuit.clone();
        async move {
            circuit.admit(Instant::now())?.report(CallResult::Ok, Instant::now());
            Ok(Outcome::Ack)
        }
    });
    let running = Running::start(Worker::new(&queue, service).max_attempts(2).backoff(second()));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(200)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.attempts), (JobState::Delayed, 0), "{} calls", calls.load(SeqCst));
    sleep(Duration::from_secs(400)).await;
    assert_eq!(found(&queue, "one").await.state, JobState::Done);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_layers_for_any_request_stand_around_a_processor() {
    let telemetry = Telemetry::new(Settings::read("test", |_| None).unwrap());
    let queue = queue().telemetry(&telemetry);
    let circuit = Circuit::new("mail", CircuitConfig::default());
    let budget = RetryBudget::new();
    let (service, calls) = counting(async |_, call| if call < 3 { Err("busy".into()) } else { Ok(Outcome::Ack) });
    let processor = ServiceBuilder::new()
        // Outside of the repeats: a place that waits for a job would hold a permit that they wait for.
        .concurrency_limit(1)
        // What is over in a moment needs no attempt of the job's.
        .layer(RetryLayer::new(RetryPolicy::new().budget(budget.clone()).any_request()))
        // Sees every try.
        .layer(CircuitLayer::new(circuit.clone()))
        .layer(OperationLayer::new(telemetry.operation("send mail").kind(SpanKind::Client)))
        .service(service);
    let running = Running::start(Worker::new(&queue, processor).concurrency(8));
    queue.push(job("one")).await.unwrap();
    queue.push(job("other")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    for name in ["one", "other"] {
        let seen = found(&queue, name).await;
        assert_eq!((seen.state, seen.attempts), (JobState::Done, 0), "{name}");
    }
    assert_eq!((calls.load(SeqCst), budget.counts().withdrawn), (4, 2));
    let counts = circuit.snapshot(Instant::now()).counts;
    assert_eq!((counts.ok, counts.failed), (2, 2));
    let spans = telemetry.latest_spans(64);
    let sent: Vec<_> = spans.iter().filter(|span| span.name == "send mail").collect();
    assert_eq!((sent.len(), sent.iter().filter(|span| span.error_type.is_some()).count()), (4, 2));
    for sent in sent {
        let attempt = spans.iter().find(|span| Some(span.span_id) == sent.parent_span_id).unwrap();
        assert_eq!(attempt.kind, SpanKind::Consumer, "each is below the attempt of its job");
    }
    circuit.force_open("it moves", None);
    queue.push(job("third")).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((found(&queue, "third").await.state, calls.load(SeqCst)), (JobState::Waiting, 4));
    running.stop().await;
}
