use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use buttress::signal::Signal;
use buttress_queue::{DeadFilter, Delivery, Job, JobState, Outcome, Pushed, Router, Worker};
use tokio::time::sleep;
use tower::BoxError;

use crate::support::{Running, counting, found, id, job, queue, second, settled};

#[tokio::test(start_paused = true)]
async fn a_job_is_done_once() {
    let queue = queue();
    assert_eq!(queue.push(job("one")).await.unwrap(), Pushed::New(id("one")));
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service));
    settled().await;
    let again = queue.push(job("one")).await.unwrap();
    assert_eq!(again, Pushed::Duplicate { id: id("one"), state: JobState::Done });
    settled().await;
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(running.stop().await.finished, 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_too_often_is_buried_with_its_reason() {
    let queue = queue();
    let mut signals = queue.signals().subscribe();
    let (service, calls) = counting(async |_, _| Err::<Outcome, BoxError>("no such customer".into()));
    let running = Running::start(Worker::new(&queue, service).max_attempts(3).backoff(second()));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(calls.load(SeqCst), 3);
    let [letter] = &queue.dead_letters(&DeadFilter::default(), 9).await.unwrap()[..] else { panic!() };
    assert_eq!((letter.reason.as_str(), letter.attempts), ("given up after 3 attempts: no such customer", 3));
    let Some(Signal::JobDeadLettered { id, kind, .. }) = signals.next().await else { panic!() };
    assert_eq!((&*id, &*kind), ("one", "test"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_wait_for_the_backoff_or_for_what_the_outcome_says() {
    let queue = queue();
    let (service, calls) = counting(async |_, call| match call {
        1 => Ok(Outcome::retry("later")),
        2 => Ok(Outcome::retry_after(Duration::from_secs(60), "much later")),
        _ => Ok(Outcome::Ack),
    });
    let running = Running::start(Worker::new(&queue, service).backoff(second()));
    queue.push(job("one")).await.unwrap();
    for (after, expected) in [(500, 1), (1000, 2), (59_000, 2), (2000, 3)] {
        sleep(Duration::from_millis(after)).await;
        assert_eq!(calls.load(SeqCst), expected);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deferral_uses_no_attempt() {
    let queue = queue();
    let (service, calls) = counting(async |_, call| match call {
        1..=20 => Ok(Outcome::defer(Duration::from_secs(5), "429")),
        _ => Ok(Outcome::Ack),
    });
    let running = Running::start(Worker::new(&queue, service).max_attempts(2));
    queue.push(job("one")).await.unwrap();
    sleep(Duration::from_secs(101)).await;
    let seen = found(&queue, "one").await;
    assert_eq!((calls.load(SeqCst), seen.state, seen.attempts, seen.crashes), (21, JobState::Done, 0, 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_an_unknown_type_and_of_unreadable_data_dead_letters_are_made() {
    let queue = queue();
    let router = Router::new().on("known", async |number: Delivery<u32>| {
        assert_eq!(number.data, 7);
        Ok::<_, BoxError>(Outcome::Ack)
    });
    let running = Running::start(Worker::new(&queue, router));
    for (kind, data) in [("known", "7"), ("known", "\"seven\""), ("unknown", "7")] {
        queue.push(Job::raw(kind, serde_json::value::RawValue::from_string(data.into()).unwrap())).await.unwrap();
    }
    settled().await;
    let mut reasons: Vec<_> = queue
        .dead_letters(&DeadFilter::default(), 9)
        .await
        .unwrap()
        .into_iter()
        .map(|letter| letter.reason.to_string())
        .collect();
    reasons.sort();
    assert!(reasons[0].starts_with("its data cannot be read"), "{reasons:?}");
    assert_eq!(reasons[1..], ["no processor knows the type \"unknown\""]);
    running.stop().await;
}
