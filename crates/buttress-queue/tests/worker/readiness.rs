use std::future::pending;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use buttress::circuit_breaker::{CallResult, Circuit, CircuitConfig};
use buttress_queue::{CircuitLayer, Delivery, JobState, Outcome, Worker};
use tokio::time::{Instant, sleep};
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
