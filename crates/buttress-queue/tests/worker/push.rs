use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use buttress_queue::{Bound, Bounds, EngineConfig, Job, Memory, OnFull, Outcome, PushError, Pushed, Queue, Worker};
use tokio::time::sleep;
use uuid::Uuid;

use crate::support::{Running, counting, id, job, queue, settled};

#[tokio::test(start_paused = true)]
async fn a_push_waits_for_room_when_told_to() {
    let bounds = Bounds::new(Bound { jobs: 1, bytes: u64::MAX }).on_full(OnFull::Wait);
    let queue = Queue::new("small", Memory::new(EngineConfig::default().bounds(bounds)));
    queue.push(job("one")).await.unwrap();
    let pushing = tokio::spawn({
        let queue = queue.clone();
        async move { queue.push(job("two")).await }
    });
    sleep(Duration::from_secs(5)).await;
    assert!(!pushing.is_finished());
    let (service, _) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service));
    assert_eq!(pushing.await.unwrap().unwrap(), Pushed::New(id("two")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_id_pushed_a_thousand_times_by_eight_is_done_once() {
    let queue = queue();
    let (service, calls) = counting(async |_, _| Ok(Outcome::Ack));
    let running = Running::start(Worker::new(&queue, service));
    let pushers = (0..8).map(|_| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut new = 0;
            for _ in 0..125 {
                new += usize::from(!queue.push(job("same")).await.unwrap().is_duplicate());
            }
            new
        })
    });
    let mut new = 0;
    for pusher in pushers.collect::<Vec<_>>() {
        new += pusher.await.unwrap();
    }
    settled().await;
    assert_eq!((new, calls.load(SeqCst)), (1, 1));
    running.stop().await;
}

#[tokio::test]
async fn what_has_no_id_is_given_one_in_the_order_of_time() {
    let queue = queue();
    let mut ids = Vec::new();
    for nth in 0..3 {
        let pushed = queue.push(Job::new("test", &nth).unwrap()).await.unwrap();
        ids.push(pushed.id().as_str().parse::<Uuid>().unwrap());
    }
    assert!(ids.iter().all(|id| id.get_version_num() == 7) && ids.is_sorted(), "{ids:?}");
}

#[tokio::test]
async fn what_is_no_type_or_too_large_is_refused_and_the_rest_is_pushed() {
    let queue = queue().largest(10);
    let of = |kind: &str, data: &str| Job::new(kind, data).unwrap();
    let jobs = [of("", "x"), of("a\nb", "x"), of(&"k".repeat(201), "x"), of("large", &"x".repeat(9)), of("good", "x")];
    let answers = queue.push_all(jobs).await;
    assert!(answers[..3].iter().all(|answer| matches!(answer, Err(PushError::Kind(_)))), "{answers:?}");
    assert!(matches!(answers[3], Err(PushError::TooLarge { bytes: 11, most: 10 })), "{answers:?}");
    assert!(matches!(answers[4], Ok(Pushed::New(_))), "{answers:?}");
}
