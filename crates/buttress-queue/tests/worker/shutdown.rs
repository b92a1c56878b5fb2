use std::future::pending;
use std::time::Duration;

use buttress_queue::{JobState, Outcome, Worker};
use tokio::time::sleep;

use crate::support::{Running, counting, found, job, queue, settled};

#[tokio::test(start_paused = true)]
async fn what_is_under_way_finishes_before_the_worker_ends() {
    let queue = queue();
    let (service, _) = counting(async |_, _| {
        sleep(Duration::from_secs(5)).await;
        Ok(Outcome::Ack)
    });
    let running = Running::start(Worker::new(&queue, service).concurrency(2));
    for name in ["one", "two", "three", "four"] {
        queue.push(job(name)).await.unwrap();
    }
    settled().await;
    let drained = running.stop().await;
    assert_eq!((drained.finished, drained.released), (2, 0));
    for (name, state) in
        [("one", JobState::Done), ("two", JobState::Done), ("three", JobState::Waiting), ("four", JobState::Waiting)]
    {
        let seen = found(&queue, name).await;
        assert_eq!((seen.state, seen.attempts, seen.crashes), (state, 0, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_in_time_is_handed_back_untouched() {
    let queue = queue();
    let (service, _) = counting(async |_, _| pending().await);
    let running = Running::start(Worker::new(&queue, service).drain(Duration::from_secs(3)));
    queue.push(job("one")).await.unwrap();
    settled().await;
    assert_eq!(running.stop().await.released, 1);
    let seen = found(&queue, "one").await;
    assert_eq!((seen.state, seen.attempts, seen.crashes), (JobState::Waiting, 0, 0));
}
