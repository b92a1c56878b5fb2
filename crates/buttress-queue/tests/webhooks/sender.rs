use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use buttress_queue::webhook::{priority_of, verify};
use buttress_queue::{DeadFilter, JobState, Priority, Worker};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::sleep;
use tower::{BoxError, ServiceExt, service_fn};

use crate::support::{self, Running, found, id, queue};
use crate::world::{SECRET, World, secret, sender, to, unix_seconds};

#[tokio::test(start_paused = true)]
async fn a_webhook_is_posted_signed_with_its_id() {
    let (queue, world) = (queue(), World::default());
    let running = Running::start(Worker::new(&queue, sender(world.client(), &["acme"])));
    queue.push(to("acme", "msg_1")).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let (request, body) = world.last();
    assert_eq!((request.uri().path(), &body[..]), ("/in", &br#"{"order":17}"#[..]));
    let verified =
        verify(&[secret(SECRET)], request.headers(), &body, unix_seconds(), Duration::from_secs(300)).unwrap();
    assert_eq!(verified.id, id("msg_1"));
    assert_eq!(found(&queue, "msg_1").await.state, JobState::Done);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_gone_is_disabled() {
    let (queue, world) = (queue(), World::default());
    world.answer("acme.example.com", 410, None);
    let sender = sender(world.client(), &["acme"]);
    let endpoints = sender.endpoints().clone();
    let running = Running::start(Worker::new(&queue, sender));
    for name in ["msg_1", "msg_2"] {
        queue.push(to("acme", name)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(endpoints.disabled("acme").as_deref(), Some("it answered 410 Gone"));
    assert_eq!((world.came(), queue.contents().await.unwrap().dead), (1, 2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_says_when_is_asked_then_and_no_attempt_is_used() {
    for status in [429, 502, 503, 504] {
        let (queue, world) = (queue(), World::default());
        world.answer("acme.example.com", status, Some("100"));
        let running = Running::start(Worker::new(&queue, sender(world.client(), &["acme"])));
        queue.push(to("acme", "msg_1")).await.unwrap();
        sleep(Duration::from_secs(99)).await;
        assert_eq!((world.came(), found(&queue, "msg_1").await.attempts), (1, 0), "{status}");
        sleep(Duration::from_secs(2)).await;
        assert_eq!(found(&queue, "msg_1").await.state, JobState::Done, "{status}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn other_answers_and_silence_are_failed_attempts() {
    let hanging = service_fn(async |_: Request<Full<Bytes>>| {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let queue = queue();
    let running = Running::start(Worker::new(&queue, sender(hanging, &["acme"])).max_attempts(1));
    queue.push(to("acme", "msg_1")).await.unwrap();
    sleep(Duration::from_secs(16)).await;
    let [letter] = &queue.dead_letters(&DeadFilter::default(), 9).await.unwrap()[..] else { panic!() };
    assert_eq!(letter.reason.as_str(), "given up after 1 attempts: acme did not answer within 15s");
    running.stop().await;

    let world = World::default();
    world.answer("acme.example.com", 500, None);
    world.answer("acme.example.com", 302, None);
    let running = Running::start(Worker::new(&queue, sender(world.client(), &["acme"])).backoff(support::second()));
    queue.push(to("acme", "msg_2")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let seen = found(&queue, "msg_2").await;
    assert_eq!((seen.state, seen.attempts), (JobState::Done, 2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_destination_holds_up_nobody_else() {
    let queue = queue();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let client = service_fn(move |request: Request<Full<Bytes>>| {
        let dead = request.uri().host() == Some("dead.example.com");
        counted.fetch_add(usize::from(dead), SeqCst);
        async move {
            if dead {
                return Err(BoxError::from("connection refused"));
            }
            sleep(Duration::from_millis(5)).await;
            Ok(Response::new(Full::<Bytes>::default()))
        }
    });
    let sender = sender(client, &["dead", "alive"]);
    let running = Running::start(Worker::new(&queue, sender.clone()).concurrency(4));
    for number in 0..1000 {
        queue.push(to("dead", &format!("dead-{number}"))).await.unwrap();
        queue.push(to("alive", &format!("alive-{number}"))).await.unwrap();
    }
    // A thousand calls of 5 ms over four places, and what the dead one takes of them.
    sleep(Duration::from_secs(2)).await;
    for number in 0..1000 {
        assert_eq!(found(&queue, &format!("alive-{number}")).await.state, JobState::Done);
    }
    assert!(calls.load(SeqCst) < 100, "{} calls of who is dead", calls.load(SeqCst));
    assert!(found(&queue, "dead-999").await.attempts == 0, "an open circuit uses no attempt");
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_never_answers_has_no_more_calls_than_it_may() {
    let queue = queue();
    let client = service_fn(async |request: Request<Full<Bytes>>| {
        if request.uri().host() == Some("silent.example.com") {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_millis(5)).await;
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let sender = sender(client, &["silent", "alive"]).at_once(2);
    let running = Running::start(Worker::new(&queue, sender).concurrency(4));
    for number in 0..100 {
        queue.push(to("silent", &format!("silent-{number}"))).await.unwrap();
        queue.push(to("alive", &format!("alive-{number}"))).await.unwrap();
    }
    sleep(Duration::from_secs(5)).await;
    for number in 0..100 {
        assert_eq!(found(&queue, &format!("alive-{number}")).await.state, JobState::Done);
    }
    let silent = found(&queue, "silent-99").await;
    assert_eq!((silent.state, silent.attempts), (JobState::Delayed, 0), "who waits uses no attempt");
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_for_who_never_answers_are_not_asked_about_all_the_time() {
    let queue = queue();
    let client = service_fn(async |_: Request<Full<Bytes>>| {
        std::future::pending::<()>().await;
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let sender = sender(client, &["silent"]).at_once(2);
    let (asked, times) = support::counting(move |delivery, _| sender.clone().oneshot(delivery));
    let running = Running::start(Worker::new(&queue, asked).concurrency(4));
    for number in 0..1000 {
        queue.push(to("silent", &format!("silent-{number}"))).await.unwrap();
    }
    sleep(Duration::from_secs(14)).await;
    assert!(times.load(SeqCst) < 5_000, "{} of 56,000, were each asked about four times a second", times.load(SeqCst));
    running.kill().await;
}

#[test]
fn payments_are_sent_before_subscriptions_and_these_before_the_rest() {
    assert_eq!(priority_of("payment.captured"), Priority::Critical);
    assert_eq!(priority_of("subscription.renewed"), Priority::High);
    assert_eq!(priority_of("user.created"), Priority::Normal);
}
