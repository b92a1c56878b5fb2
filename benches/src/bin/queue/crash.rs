//! Workers and producers that are killed.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_benches::print;
use buttress_queue::{Delivery, JobId, JobState, Outcome, Queue, Worker};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};
use tower::{BoxError, service_fn};

use crate::bed::{Bed, job, push_all, until_empty};
use crate::child::{CONCURRENCY, Child, LEASE};

const JOBS: usize = 10_000;
const WORKERS: usize = 200;
const PRODUCERS: usize = 100;
/// How often it is looked how long the jobs of a dead worker take to come back.
const RECOVERIES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn measure(json: bool) {
    for bed in Bed::durable() {
        let engine = bed.engine;
        let (lost, repeats) = workers(&bed).await;
        print(json, "crash.worker.lost", engine, lost as f64, "jobs", Some(0.0));
        print(json, "crash.worker.repeats", engine, repeats as f64, "runs", Some((WORKERS * CONCURRENCY) as f64));
        let recovered = recovered(&bed).await.as_secs_f64();
        let limit = (LEASE + Duration::from_secs(1)).as_secs_f64();
        print(json, "crash.worker.recovered_s", engine, recovered, "s", Some(limit));
        let (acknowledged, missing) = producers(&bed).await;
        print(json, "crash.producer.acknowledged", engine, acknowledged as f64, "jobs", None);
        print(json, "crash.producer.missing", engine, missing as f64, "jobs", Some(0.0));
        if engine == "sqlite" {
            let broken = ["workers", "producers"].iter().filter(|name| !is_sound(&bed.place(name))).count();
            print(json, "crash.broken", engine, broken as f64, "files", Some(0.0));
        }
    }
}

/// How many jobs of workers that are killed are lost, and how many runs there were too many.
async fn workers(bed: &Bed) -> (usize, usize) {
    let queue = bed.queue("workers");
    push_all(&queue, (0..JOBS).map(|at| job(format!("job-{at}")))).await;
    let mut random = SmallRng::seed_from_u64(17);
    let mut runs: HashMap<String, usize> = HashMap::new();
    for _ in 0..WORKERS {
        let mut worker = Child::start("work", bed, "workers", 0);
        // In the middle of whatever it does then.
        let mut ran = worker.hear(random.random_range(1..90));
        ran.extend(worker.kill());
        for id in ran {
            *runs.entry(id).or_default() += 1;
        }
    }
    for id in finish(&queue).await {
        *runs.entry(id).or_default() += 1;
    }
    let mut done = 0;
    for at in 0..JOBS {
        let id = JobId::new(format!("job-{at}")).expect("it is an id");
        let found = queue.find(&id).await.expect("it can be asked");
        let is_done = found.is_some_and(|found| found.state == JobState::Done);
        done += usize::from(is_done && runs.contains_key(id.as_str()));
    }
    queue.close().await.expect("it closes");
    (JOBS - done, runs.values().map(|runs| runs - 1).sum())
}

/// Works on what is left; the ids.
async fn finish(queue: &Queue) -> Vec<String> {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let told = ran.clone();
    let service = service_fn(move |delivery: Delivery| {
        told.lock().expect("nobody panics").push(delivery.id.to_string());
        ready(Ok::<_, BoxError>(Outcome::Ack))
    });
    let worker = Worker::new(queue, service).concurrency(CONCURRENCY).lease(LEASE).max_crashes(u32::MAX);
    worker.run_until(until_empty(queue, PATIENCE)).await;
    std::mem::take(&mut ran.lock().expect("nobody panics"))
}

/// The longest that it takes from the death of a worker until somebody else has begun all that it had.
async fn recovered(bed: &Bed) -> Duration {
    let queue = bed.queue("recovered");
    let mut longest = Duration::ZERO;
    for round in 0..RECOVERIES {
        let ids: Vec<_> = (0..CONCURRENCY).map(|at| format!("{round}-{at}")).collect();
        push_all(&queue, ids.iter().map(|id| job(id.as_str()))).await;
        let mut worker = Child::start("hang", bed, "recovered", 0);
        let had: HashSet<_> = worker.hear(CONCURRENCY).into_iter().collect();
        assert_eq!(had.len(), CONCURRENCY, "it has all of them");
        // Between two renewals: the lease has begun before.
        sleep(LEASE / 2).await;
        worker.kill();
        let since = Instant::now();
        finish(&queue).await;
        longest = longest.max(since.elapsed());
    }
    longest
}

/// How many pushes of producers that are killed were acknowledged, and how many of their jobs are not there.
async fn producers(bed: &Bed) -> (usize, usize) {
    let mut random = SmallRng::seed_from_u64(17);
    let mut acknowledged = Vec::new();
    for nth in 0..PRODUCERS {
        let mut producer = Child::start("push", bed, "producers", nth);
        acknowledged.extend(producer.hear(random.random_range(1..60)));
        acknowledged.extend(producer.kill());
    }
    let queue = bed.queue("producers");
    let mut missing = 0;
    for id in &acknowledged {
        let id = JobId::new(id.as_str()).expect("it was one when it was pushed");
        let found = queue.find(&id).await.expect("it can be asked");
        missing += usize::from(found.is_none_or(|found| found.state != JobState::Waiting));
    }
    queue.close().await.expect("it closes");
    (acknowledged.len(), missing)
}

/// What SQLite says of its file.
pub fn is_sound(path: &str) -> bool {
    let file = rusqlite::Connection::open(path).expect("it is there");
    file.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0)).is_ok_and(|answer| answer == "ok")
}
