//! Webhooks to ten destinations of which one is dead: what the other nine notice of it.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_benches::print;
use buttress_queue::webhook::{Endpoint, Secret, Sender, Webhook};
use buttress_queue::{EngineConfig, JobId, Memory, Queue, Worker};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, service_fn};

const DESTINATIONS: usize = 10;
const EVENTS: usize = 1_000;
const ROUNDS: usize = 5;
/// Between two events of a destination.
const EVERY: Duration = Duration::from_millis(5);
/// How long a destination takes to answer.
const ANSWER: Duration = Duration::from_millis(5);
/// How long the sender waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);
const CONCURRENCY: usize = 64;
/// How many of these one destination may have.
const AT_ONCE: usize = 8;

/// What the first destination does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Refuses,
    Hangs,
    /// Nobody sends it anything.
    IsNotThere,
}

pub async fn measure(json: bool) {
    for (first, subject) in [(First::Refuses, "it refuses"), (First::Hangs, "it never answers")] {
        let (mut ratios, mut alone, mut beside) = (vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let (without, with) = (p99(First::IsNotThere).await, p99(first).await);
            ratios.push(with / without);
            alone.push(without);
            beside.push(with);
        }
        print(json, "destination.p99.without", subject, median(alone), "ms", None);
        print(json, "destination.p99.with", subject, median(beside), "ms", None);
        print(json, "destination.p99_ratio", subject, median(ratios), "times", Some(1.2));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds from when an event was due to be pushed until one of the other nine has answered it.
async fn p99(first: First) -> f64 {
    let queue = Queue::new("webhooks", Memory::new(EngineConfig::default()));
    let begin = Instant::now() + Duration::from_millis(100);
    let took: Arc<Mutex<HashMap<String, Duration>>> = Arc::default();
    let answered = took.clone();
    let client = service_fn(move |request: Request<Full<Bytes>>| {
        let answered = answered.clone();
        async move {
            if request.uri().host() == Some("to-0.example.com") {
                match first {
                    First::Hangs => pending().await,
                    _ => return Err(BoxError::from("connection refused")),
                }
            }
            sleep(ANSWER).await;
            let id = request.headers()["webhook-id"].to_str().expect("it is ASCII").to_owned();
            let nth: u32 = id.rsplit('-').next().and_then(|nth| nth.parse().ok()).expect("it ends in a number");
            answered.lock().expect("nobody panics").insert(id, (begin + EVERY * nth).elapsed());
            Ok(Response::new(Full::<Bytes>::default()))
        }
    });
    let sender = Sender::new("webhooks", client).timeout(TIMEOUT).at_once(AT_ONCE);
    for at in 0..DESTINATIONS {
        let url = format!("https://to-{at}.example.com/in").parse().expect("it is a URL");
        let secret = Secret::parse("whsec_YnV0dHJlc3MtYmVuY2htYXJrLXNlY3JldA==").expect("it is a secret");
        sender.endpoints().set(format!("to-{at}"), Endpoint::new(url, secret).expect("it is right"));
    }
    let from = usize::from(first == First::IsNotThere);
    let events = async {
        for nth in 0..EVENTS {
            sleep_until(begin + EVERY * nth as u32).await;
            let jobs = (from..DESTINATIONS).map(|at| {
                let webhook = Webhook::new(format!("to-{at}"), "user.created", &nth).expect("it is JSON");
                let id = JobId::new(format!("{at}-{nth}")).expect("it is an id");
                webhook.into_job().expect("it is JSON").id(id)
            });
            for pushed in queue.push_all(jobs).await {
                pushed.expect("there is room");
            }
        }
        while took.lock().expect("nobody panics").len() < (DESTINATIONS - 1) * EVENTS {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let worker = Worker::new(&queue, sender).concurrency(CONCURRENCY).drain(Duration::from_millis(100));
    worker.run_until(events).await;
    let mut took: Vec<_> = took.lock().expect("nobody panics").values().copied().collect();
    took.sort();
    took[took.len() * 99 / 100].as_secs_f64() * 1e3
}
