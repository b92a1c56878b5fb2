//! Webhooks: signed as the specification says, delivered with patience, verified on receipt.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buttress_queue::webhook::{
    Endpoint, EndpointError, Receiver, Secret, SecretError, Sender, VerifyError, Webhook, sign, verify,
};
use buttress_queue::{
    DeadFilter, Delivery, EngineConfig, Handed, Job, JobState, Memory, Outcome, Priority, PushError, Pushed, Queue,
    Worker,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::json;
use support::{Running, found, id, queue};
use tokio::time::sleep;
use tower::{BoxError, Service, ServiceExt, service_fn};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    let pairs = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
}

#[test]
fn the_library_of_the_specification_believes_us_and_we_believe_it() {
    let (payload, now) = (br#"{"type":"order.created"}"#, unix_seconds());
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    let ours = headers("msg_1", &now.to_string(), &sign(&[secret(SECRET)], &id("msg_1"), now, payload));
    theirs.verify(payload, &ours).unwrap();
    let signature = theirs.sign("msg_2", now as i64, payload).unwrap();
    let theirs = headers("msg_2", &now.to_string(), &signature);
    let verified = verify(&[secret(SECRET)], &theirs, payload, now, Duration::from_secs(300)).unwrap();
    assert_eq!((verified.id, verified.timestamp), (id("msg_2"), now));
}

#[test]
fn while_a_secret_is_changed_both_are_good() {
    let (old, new) = (secret(SECRET), secret(OTHER));
    let both = headers("msg_1", "1000", &sign(&[old.clone(), new.clone()], &id("msg_1"), 1000, b"{}"));
    for known in [vec![old.clone()], vec![new.clone()], vec![new, old]] {
        verify(&known, &both, b"{}", 1000, Duration::ZERO).unwrap();
    }
}

#[test]
fn what_is_missing_malformed_old_or_changed_is_not_believed() {
    let known = [secret(SECRET)];
    let good = sign(&known, &id("msg_1"), 1000, b"{}");
    let check = |headers: HeaderMap, payload: &[u8], now| {
        verify(&known, &headers, payload, now, Duration::from_secs(300)).unwrap_err()
    };
    assert_eq!(check(HeaderMap::new(), b"{}", 1000), VerifyError::Missing("webhook-id"));
    assert_eq!(check(headers("msg_1", "+1000", &good), b"{}", 1000), VerifyError::Malformed("webhook-timestamp"));
    assert_eq!(check(headers("msg_1", "1000", &good), b"{}", 1301), VerifyError::Stale { timestamp: 1000 });
    assert_eq!(check(headers("msg_1", "1000", &good), b"{}", 699), VerifyError::Stale { timestamp: 1000 });
    assert_eq!(check(headers("msg_1", "1000", &good), b"{ }", 1000), VerifyError::Signature);
    assert_eq!(check(headers("msg_2", "1000", &good), b"{}", 1000), VerifyError::Signature);
    assert_eq!(check(headers("msg_1", "1001", &good), b"{}", 1000), VerifyError::Signature);
    assert_eq!(check(headers("msg_1", "1000", "v1,AAAA v2,x v1a,y"), b"{}", 1000), VerifyError::Signature);
    let other = sign(&[secret(OTHER)], &id("msg_1"), 1000, b"{}");
    assert_eq!(check(headers("msg_1", "1000", &other), b"{}", 1000), VerifyError::Signature);
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(id in "\\PC{0,40}", time in "\\PC{0,24}", signature in "\\PC{0,80}", payload: Vec<u8>) {
        let mut headers = HeaderMap::new();
        for (name, value) in [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        prop_assert!(verify(&[secret(SECRET)], &headers, &payload, 1000, Duration::MAX).is_err());
    }
}

#[test]
fn a_secret_is_as_the_specification_says_and_is_not_told() {
    assert_eq!(Secret::parse("MfKQ").unwrap_err(), SecretError::Prefix);
    assert_eq!(Secret::parse("whsec_%").unwrap_err(), SecretError::Base64);
    assert_eq!(Secret::parse("whsec_MfKQ").unwrap_err(), SecretError::Length(3));
    assert_eq!(format!("{:?}", secret(SECRET)), "Secret(..)");
}

#[test]
fn a_destination_has_an_absolute_url_without_a_user() {
    let new = |url: &str| Endpoint::new(url.parse().unwrap(), secret(SECRET)).err();
    assert_eq!(new("/in"), Some(EndpointError::Relative));
    assert_eq!(new("ftp://example.com/in"), Some(EndpointError::Scheme));
    assert_eq!(new("https://bob:pw@example.com/in"), Some(EndpointError::Userinfo));
    assert_eq!(new("https://example.com/in"), None);
}

/// Answers each destination's requests by its host, and keeps what came.
#[derive(Clone, Default)]
struct World {
    answers: Arc<Mutex<HashMap<String, Answers>>>,
    came: Arc<Mutex<Vec<Came>>>,
}

type Answers = Vec<Response<Full<Bytes>>>;
type Came = (Request<()>, Bytes);

impl World {
    fn answer(&self, host: &str, status: u16, retry_after: Option<&str>) {
        let mut answer = Response::builder().status(status);
        if let Some(after) = retry_after {
            answer = answer.header("retry-after", after);
        }
        let answer = answer.body(Full::default()).unwrap();
        self.answers.lock().unwrap().entry(host.into()).or_default().push(answer);
    }

    fn client(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + use<>
    {
        let world = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let world = world.clone();
            async move {
                let host = request.uri().host().unwrap().to_owned();
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                world.came.lock().unwrap().push((Request::from_parts(head, ()), body));
                let mut answers = world.answers.lock().unwrap();
                let left = answers.get_mut(&host).filter(|answers| !answers.is_empty());
                Ok(left.map_or_else(Response::default, |answers| answers.remove(0)))
            }
        })
    }

    fn came(&self) -> usize {
        self.came.lock().unwrap().len()
    }
}

fn to(destination: &str, name: &str) -> Job {
    Webhook::new(destination, "order.created", &json!({ "order": 17 })).unwrap().into_job().unwrap().id(id(name))
}

fn sender<S>(client: S, destinations: &[&str]) -> Sender<S> {
    let sender = Sender::new("webhooks", client);
    for destination in destinations {
        let url = format!("https://{destination}.example.com/in").parse().unwrap();
        sender.endpoints().set(*destination, Endpoint::new(url, secret(SECRET)).unwrap());
    }
    sender
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_posted_signed_with_its_id() {
    let (queue, world) = (queue(), World::default());
    let running = Running::start(Worker::new(&queue, sender(world.client(), &["acme"])));
    queue.push(to("acme", "msg_1")).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let (request, body) = world.came.lock().unwrap().pop().unwrap();
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
async fn nothing_is_sent_into_ones_own_network_nor_to_who_is_unknown_nor_what_is_too_large() {
    let (queue, world) = (queue(), World::default());
    let sender = sender(world.client(), &["acme"]).largest(100);
    let own = "http://169.254.169.254/latest".parse().unwrap();
    sender.endpoints().set("metadata", Endpoint::new(own, secret(SECRET)).unwrap());
    let running = Running::start(Worker::new(&queue, sender));
    queue.push(to("metadata", "msg_1")).await.unwrap();
    queue.push(to("nobody", "msg_2")).await.unwrap();
    let large = Webhook::new("acme", "order.created", &"x".repeat(100)).unwrap().into_job().unwrap();
    queue.push(large).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((world.came(), queue.contents().await.unwrap().dead), (0, 3));
    running.stop().await;
}

#[test]
fn payments_are_sent_before_subscriptions_and_these_before_the_rest() {
    use buttress_queue::webhook::priority_of;
    assert_eq!(priority_of("payment.captured"), Priority::Critical);
    assert_eq!(priority_of("subscription.renewed"), Priority::High);
    assert_eq!(priority_of("user.created"), Priority::Normal);
}

async fn post(receiver: &Receiver, headers: HeaderMap, body: &'static str) -> Response<Full<Bytes>> {
    let mut request = Request::post("/").body(Full::<Bytes>::from(body)).unwrap();
    *request.headers_mut() = headers;
    receiver.clone().oneshot(request).await.unwrap()
}

fn signed(name: &str, body: &str) -> HeaderMap {
    let now = unix_seconds();
    headers(name, &now.to_string(), &sign(&[secret(SECRET)], &id(name), now, body.as_bytes()))
}

#[tokio::test]
async fn what_is_signed_is_enqueued_once_under_its_own_id() {
    let inbox = queue();
    let receiver = Receiver::new(&inbox, secret(SECRET));
    let body = r#"{"type":"payment.captured","data":{"order":17}}"#;
    assert_eq!(post(&receiver, signed("msg_1", body), body).await.status(), StatusCode::ACCEPTED);
    assert_eq!(post(&receiver, signed("msg_1", body), body).await.status(), StatusCode::OK);
    let contents = inbox.contents().await.unwrap();
    let [depth] = &contents.depths[..] else { panic!() };
    assert_eq!((&*depth.kind, depth.priority, depth.waiting), ("payment.captured", Priority::Critical, 1));
    assert_eq!(found(&inbox, "msg_1").await.state, JobState::Waiting);
}

#[tokio::test]
async fn what_is_not_signed_or_no_json_or_too_large_is_refused() {
    let inbox = queue();
    let receiver = Receiver::new(&inbox, secret(SECRET)).largest(20);
    let refused = post(&receiver, HeaderMap::new(), "{}").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(post(&receiver, signed("msg_1", "no json"), "no json").await.status(), StatusCode::BAD_REQUEST);
    let large = "\"123456789012345678901234567890\"";
    assert_eq!(post(&receiver, signed("msg_1", large), large).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let get = Request::get("/").body(Full::<Bytes>::default()).unwrap();
    let refused = receiver.oneshot(get).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
    );
    assert!(inbox.contents().await.unwrap().depths.is_empty());
}

#[tokio::test]
async fn an_inbox_that_is_full_asks_to_come_again() {
    use buttress_queue::{Bound, Bounds};
    let full = EngineConfig::default().bounds(Bounds::new(Bound { jobs: 0, bytes: 0 }));
    let receiver = Receiver::new(&Queue::new("inbox", Memory::new(full)), secret(SECRET));
    let refused = post(&receiver, signed("msg_1", "{}"), "{}").await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_down_is_gone_around_and_its_copy_is_dropped() {
    use buttress_queue::{Bound, Bounds, OnFull};
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
