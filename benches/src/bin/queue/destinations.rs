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
/// Events of a destination before the next takes its turn.
const SLICE: usize = 200;
const ROUNDS: usize = 3;
/// Between two events of a destination.
const EVERY: Duration = Duration::from_millis(10);
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
        // The quietest of some rounds: what else is done on the machine can only add to it.
        let mut least = [f64::INFINITY; 3];
        for round in 0..ROUNDS {
            for (least, p99) in least.iter_mut().zip(in_slices(&bed, round).await) {
                *least = least.min(p99);
            }
        }
        let [without, refuses, hangs] = least;
        let line = |figure: &str, value, unit, limit| {
            print(json, &format!("destination.{figure}"), bed.engine, value, unit, limit);
        };
        line("without.p99", without, "ms", None);
        for (what, with) in [("refuses", refuses), ("hangs", hangs)] {
            line(&format!("{what}.p99"), with, "ms", None);
            line(&format!("{what}.p99_ratio"), with / without, "times", Some(1.2));
        }
    }
}

/// The 99th percentiles in milliseconds: of nine destinations, beside one that refuses, beside one that hangs. They take
/// turns after a few seconds, so that they find the machine alike.
async fn in_slices(bed: &Bed, round: usize) -> [f64; 3] {
    let mut took = [const { Vec::new() }; 3];
    for slice in 0..EVENTS / SLICE {
        for (took, first) in took.iter_mut().zip([First::IsNotThere, First::Refuses, First::Hangs]) {
            let queue = bed.queue(&format!("{first:?}-{round}-{slice}"));
            took.extend(latencies(&queue, first).await);
        }
    }
    took.map(|mut took| {
        took.sort();
        took[took.len() * 99 / 100].as_secs_f64() * 1e3
    })
}

/// From when an event was due to be pushed until one of the other nine has answered it.
async fn latencies(queue: &Queue, first: First) -> Vec<Duration> {
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
        for nth in 0..SLICE {
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
        while took.lock().expect("nobody panics").len() < (DESTINATIONS - 1) * SLICE {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let worker = Worker::new(queue, sender).concurrency(CONCURRENCY).drain(Duration::from_millis(100));
    worker.run_until(events).await;
    std::mem::take(&mut *took.lock().expect("nobody panics")).into_values().collect()
}
