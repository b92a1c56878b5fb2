//! Webhooks to ten destinations of which one is dead: what the other nine notice of it.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_benches::print;
use buttress_queue::webhook::{Endpoint, Secret, Sender, Webhook};
use buttress_queue::{JobId, Queue, Worker};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, service_fn};

use crate::bed::Bed;

const DESTINATIONS: usize = 10;
const EVENTS: usize = 1_000;
const ROUNDS: usize = 3;
/// Between two events of a destination.
const EVERY: Duration = Duration::from_millis(20);
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
    for bed in Bed::all() {
        for (first, what) in [(First::Refuses, "refuses"), (First::Hangs, "hangs")] {
            let mut rounds = Vec::new();
            for round in 0..ROUNDS {
                let queue = |which| bed.queue(&format!("{first:?}-{round}-{which}"));
                // At once, so that whatever else is done on the machine hits both.
                let (without, with) = (queue("without"), queue("with"));
                let (without, with) = tokio::join!(p99(&without, First::IsNotThere), p99(&with, first));
                rounds.push((with / without, without, with));
            }
            rounds.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
            let (ratio, without, with) = rounds[ROUNDS / 2];
            let line = |figure: &str, value, unit, limit| {
                print(json, &format!("destination.{what}.{figure}"), bed.engine, value, unit, limit);
            };
            line("p99.without", without, "ms", None);
            line("p99.with", with, "ms", None);
            line("p99_ratio", ratio, "times", Some(1.2));
        }
    }
}

/// Milliseconds that 99 of 100 events take at most, from when one was due to be pushed until one of the other nine has answered
/// it.
async fn p99(queue: &Queue, first: First) -> f64 {
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
    let worker = Worker::new(queue, sender).concurrency(CONCURRENCY).drain(Duration::from_millis(100));
    worker.run_until(events).await;
    let mut took: Vec<_> = took.lock().expect("nobody panics").values().copied().collect();
    took.sort();
    took[took.len() * 99 / 100].as_secs_f64() * 1e3
}
