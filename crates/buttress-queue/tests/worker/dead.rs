use std::time::Duration;

use buttress_queue::{DeadFilter, Delivery, Job, JobState, Outcome, Worker};
use tokio::time::{Instant, sleep};

use crate::support::{Running, counting, found, id, queue, settled};

#[tokio::test(start_paused = true)]
async fn dead_letters_are_replayed_no_faster_than_asked() {
    let queue = queue();
    let (service, _) = counting(async |_, _| Ok(Outcome::bury("not yet")));
    let running = Running::start(Worker::new(&queue, service));
    for number in 0..100 {
        queue.push(Job::new(if number < 50 { "a" } else { "b" }, &number).unwrap()).await.unwrap();
    }
    settled().await;
    running.stop().await;
    assert_eq!(queue.contents().await.unwrap().dead, 100);
    let begun = Instant::now();
    assert_eq!(queue.replay(&DeadFilter::default().kind("a"), 20).await.unwrap(), 50);
    let took = begun.elapsed();
    assert!((2300..=2600).contains(&took.as_millis()), "{took:?}");
    assert_eq!(queue.discard(&DeadFilter::default().reason_contains("not yet")).await.unwrap(), 50);
    let contents = queue.contents().await.unwrap();
    assert_eq!((contents.dead, contents.depths[0].waiting), (0, 50));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_chosen_by_what_is_known_of_them() {
    let queue = queue();
    let (service, _) = counting(async |delivery: Delivery, _| Ok(Outcome::bury(format!("no {}", delivery.kind))));
    let running = Running::start(Worker::new(&queue, service));
    for (name, kind, key) in [("one", "a", "x"), ("two", "a", "y"), ("three", "b", "y"), ("four", "b", "x")] {
        queue.push(Job::new(kind, &1).unwrap().key(key).id(id(name))).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    running.stop().await;
    let all = DeadFilter::default;
    let names = async |filter: DeadFilter| {
        let letters = queue.inspect_dead_letters(&filter, 9).await.unwrap();
        letters.iter().map(|letter| letter.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    let third = queue.dead_letters(&all().ids([id("three")]), 1).await.unwrap()[0].buried;
    assert_eq!(names(all().kind("a")).await, "one two");
    assert_eq!(names(all().key("y")).await, "two three");
    assert_eq!(names(all().kind("b").key("y")).await, "three");
    assert_eq!(names(all().reason_contains("no b")).await, "three four");
    assert_eq!(names(all().buried_before(third)).await, "one two");
    assert_eq!(names(all().ids([id("four"), id("nobody")])).await, "four");
    assert_eq!(queue.replay(&all().ids([id("two"), id("nobody")]), 10).await.unwrap(), 1);
    assert_eq!(found(&queue, "two").await.state, JobState::Waiting);
    assert_eq!(queue.discard(&all().kind("b")).await.unwrap(), 2);
    assert_eq!(names(all()).await, "one");
}
