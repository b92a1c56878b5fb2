use std::time::Duration;

use buttress_queue::{
    Bound, Bounds, Delivery, EngineConfig, Handed, JobState, Memory, OnFull, Outcome, PushError, Pushed, Queue, Worker,
};
use tokio::time::sleep;
use tower::{BoxError, service_fn};

use crate::support::{Running, found, id, queue};
use crate::world::{World, sender, to};

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_down_is_gone_around_and_its_copy_is_dropped() {
    // Full, and waiting for room: as good as down.
    let bounds = Bounds::new(Bound { jobs: 1, bytes: u64::MAX }).on_full(OnFull::Wait);
    let queue = Queue::new("slow", Memory::new(EngineConfig::default().bounds(bounds)));
    queue.push(to("acme", "first")).await.unwrap();
    let world = World::default();
    let sender = sender(world.client(), &["acme"]);
    let handed = queue.push_or_process(to("acme", "msg_1"), Duration::from_millis(250), sender.clone()).await.unwrap();
    assert_eq!((handed, world.came()), (Handed::Processed(Outcome::Ack), 1));
    let running = Running::start(Worker::new(&queue, sender.clone()));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(queue.push(to("acme", "msg_1")).await.unwrap(), Pushed::New(id("msg_1")), "the copy got in after all");
    sleep(Duration::from_millis(1)).await;
    assert_eq!((world.came(), found(&queue, "msg_1").await.state), (2, JobState::Done), "the first and ours, once");
    let handed = queue.push_or_process(to("acme", "msg_2"), Duration::from_millis(250), sender).await.unwrap();
    assert_eq!(handed, Handed::Pushed(Pushed::New(id("msg_2"))));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_what_it_is_is_not_processed_either() {
    let queue = queue().largest(10);
    let never = service_fn(async |_: Delivery| -> Result<Outcome, BoxError> { unreachable!() });
    let refused = queue.push_or_process(to("acme", "msg_1"), Duration::from_millis(250), never).await.unwrap_err();
    assert!(matches!(refused.downcast_ref(), Some(PushError::TooLarge { .. })), "{refused}");
}
