//! When a place is free again whose processor panicked or hangs, and how often a job may kill its process.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use buttress_benches::print;
use buttress_queue::{DeadFilter, Delivery, Outcome, Worker};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::{BoxError, service_fn};

use crate::bed::{Bed, job};
use crate::child::{Child, LEASE};

/// How long an attempt may take; the lease is longer.
const TIMEOUT: Duration = Duration::from_millis(200);
const MAX_CRASHES: u32 = 3;

pub async fn measure(json: bool) {
    // One line for each panic would be told on the error stream.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for bed in Bed::all() {
        for what in ["panic", "hang"] {
            let back = slot_back(&bed, what).await;
            let limit = LEASE.as_secs_f64() * 1e3;
            print(json, &format!("slot.back_ms.{what}"), bed.engine, back, "ms", Some(limit));
        }
    }
    std::panic::set_hook(told);
    for bed in Bed::durable() {
        let (deaths, buried) = poison(&bed).await;
        print(json, "poison.deaths", bed.engine, f64::from(deaths), "processes", Some(f64::from(MAX_CRASHES + 1)));
        print(json, "poison.left", bed.engine, f64::from(u8::from(!buried)), "jobs", Some(0.0));
    }
}

/// Milliseconds from when the only place was given a job that panics or hangs until it is given the next.
async fn slot_back(bed: &Bed, what: &'static str) -> f64 {
    let queue = bed.queue(what);
    queue.push(job("bad")).await.expect("there is room");
    queue.push(job("good")).await.expect("there is room");
    let (begun, back) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, free) = (begun.clone(), back.clone());
    let service = service_fn(move |delivery: Delivery| {
        let bad = delivery.id.as_str() == "bad";
        if bad {
            told.notify_one()
        } else {
            free.notify_one()
        }
        async move {
            match (bad, what) {
                (true, "panic") => panic!("as it is to"),
                (true, _) => pending().await,
                (false, _) => Ok::<_, BoxError>(Outcome::Ack),
            }
        }
    });
    let mut took = 0.0;
    let shutdown = async {
        begun.notified().await;
        let since = Instant::now();
        back.notified().await;
        took = since.elapsed().as_secs_f64() * 1e3;
    };
    Worker::new(&queue, service).concurrency(1).lease(LEASE).timeout(TIMEOUT).run_until(shutdown).await;
    took
}

/// How many processes a job kills until it is buried, and whether it is.
async fn poison(bed: &Bed) -> (u32, bool) {
    let queue = bed.queue("poison");
    queue.push(job("poison")).await.expect("there is room");
    let mut deaths = 0;
    while deaths <= 2 * MAX_CRASHES {
        let mut child = Child::start("die", bed, "poison", MAX_CRASHES);
        // It says so before it dies, and is alive when it says that there is nothing left.
        if child.hear(1).first().is_some_and(|said| said != "poison") {
            child.kill();
            break;
        }
        deaths += 1;
        child.wait();
    }
    let dead = queue.dead_letters(&DeadFilter::default(), 1).await.expect("it can be asked");
    (deaths, dead.len() == 1)
}
