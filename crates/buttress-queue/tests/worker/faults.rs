use std::future::pending;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use buttress_queue::{DeadFilter, Delivery, JobState, Outcome, Worker};
use tokio::time::sleep;
use tower::BoxError;

use crate::support::{Running, counting, found, job, queue, second, settled};

#[tokio::test(start_paused = true)]
async fn a_processor_that_panics_frees_its_place() {
    let queue = queue();
    let (service, calls) = counting(async |_, call| {
        assert!(call != 1, "boom");
        Ok(Outcome::Ack)
    });
    let running = Running::start(Worker::new(&queue, service).concurrency(1).backoff(second()));
    queue.push(job("one")).await.unwrap();
    queue.push(job("other")).await.unwrap();
    settled().await;
    assert_eq!(found(&queue, "other").await.state, JobState::Done, "the only place went on");
    sleep(Duration::from_secs(2)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.attempts, seen.crashes, calls.load(SeqCst)), (JobState::Done, 1, 0, 3));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_in_its_call_frees_its_place_as_well() {
    #[derive(Clone)]
    struct Panics;
    impl tower::Service<Delivery> for Panics {
        type Response = Outcome;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Outcome, BoxError>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, delivery: Delivery) -> Self::Future {
            assert!(delivery.attempt > 1, "boom");
            std::future::ready(Ok(Outcome::Ack))
        }
    }
    let queue = queue();
    let running = Running::start(Worker::new(&queue, Panics).concurrency(1).backoff(second()));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(found(&queue, "one").await.state, JobState::Done);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_hangs_is_given_up_within_the_timeout() {
    let queue = queue();
    let (service, _) = counting(async |_, call| {
        if call == 1 {
            pending::<()>().await;
        }
        Ok(Outcome::Ack)
    });
    let worker = Worker::new(&queue, service).concurrency(1).timeout(Duration::from_secs(10)).backoff(second());
    let running = Running::start(worker);
    queue.push(job("one")).await.unwrap();
    queue.push(job("other")).await.unwrap();
    sleep(Duration::from_millis(9900)).await;
    assert_eq!(found(&queue, "other").await.state, JobState::Waiting);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(found(&queue, "other").await.state, JobState::Done);
    assert_eq!(found(&queue, "one").await.attempts, 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_kills_its_process_is_buried() {
    let queue = queue();
    queue.push(job("one")).await.unwrap();
    for _ in 0..3 {
        let (service, _) = counting(async |_, _| pending().await);
        let running = Running::start(Worker::new(&queue, service).max_crashes(2));
        settled().await;
        assert_eq!(found(&queue, "one").await.state, JobState::Active);
        running.kill().await;
        sleep(Duration::from_secs(31)).await;
    }
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service).max_crashes(2));
    settled().await;
    assert_eq!(calls.load(SeqCst), 0);
    let [letter] = &queue.dead_letters(&DeadFilter::default(), 9).await.unwrap()[..] else { panic!() };
    assert_eq!((letter.crashes, letter.attempts), (3, 0));
    assert!(letter.reason.as_str().contains("never heard of again"), "{}", letter.reason);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_job_keeps_its_lease() {
    let queue = queue();
    let (service, calls) = counting(async |_, _| {
        sleep(Duration::from_secs(120)).await;
        Ok(Outcome::Ack)
    });
    let worker = Worker::new(&queue, service).timeout(Duration::from_secs(300)).lease(Duration::from_secs(9));
    let (one, other) = (Running::start(worker.clone()), Running::start(worker));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(121)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.crashes, calls.load(SeqCst)), (JobState::Done, 0, 1));
    one.stop().await;
    other.stop().await;
}
