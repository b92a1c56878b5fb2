//! What comes first, what comes once, and what comes when its time has come.

use std::collections::HashMap;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_benches::{print, print_least};
use buttress_queue::{Delivery, Outcome, Priority, Queue, Worker};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, service_fn};

use crate::bed::{Bed, job, push_all, until_empty};

const IN_FLIGHT: usize = 16;
const JOBS: usize = 10_000;
const DUE: usize = 100_000;
/// Whoever has not done it by then will not.
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn measure(json: bool) {
    for bed in Bed::all() {
        let engine = bed.engine;
        let inversions = inversions(&bed.queue("priorities")).await;
        print(json, "priorities.inversions", engine, inversions as f64, "jobs", Some(0.0));
        let (runs, duplicates) = one_id(&bed.queue("dedup")).await;
        print(json, "dedup.runs", engine, runs as f64, "runs", Some(1.0));
        print_least(json, "dedup.duplicates", engine, duplicates as f64, "pushes", Some(999.0));
        let Due { first, all, early, left } = due(&bed.queue("due")).await;
        print(json, "due.first_claim_ms", engine, first, "ms", Some(100.0));
        print(json, "due.all_s", engine, all, "s", None);
        print(json, "due.early", engine, early as f64, "jobs", Some(0.0));
        print(json, "due.left", engine, left as f64, "jobs", Some(0.0));
    }
}

/// Jobs that were begun while more of the more urgent ones were not than can be in flight.
async fn inversions(queue: &Queue) -> usize {
    let priorities = [Priority::High, Priority::Normal, Priority::Low];
    let mut order: Vec<_> = (0..JOBS).map(|at| priorities[at % priorities.len()]).collect();
    order.shuffle(&mut SmallRng::seed_from_u64(17));
    push_all(queue, order.into_iter().enumerate().map(|(at, priority)| job(format!("job-{at}")).priority(priority)))
        .await;
    let begun = Arc::new(Mutex::new(Vec::with_capacity(JOBS)));
    let seen = begun.clone();
    let service = service_fn(move |delivery: Delivery| {
        seen.lock().expect("nobody panics").push(delivery.priority);
        ready(Ok::<_, BoxError>(Outcome::Ack))
    });
    Worker::new(queue, service).concurrency(IN_FLIGHT).run_until(until_empty(queue, PATIENCE)).await;
    let begun = begun.lock().expect("nobody panics");
    assert_eq!(begun.len(), JOBS);
    let mut left: HashMap<Priority, usize> = HashMap::new();
    begun.iter().for_each(|&priority| *left.entry(priority).or_default() += 1);
    let mut inversions = 0;
    for &priority in begun.iter() {
        let more_urgent: usize = left.iter().filter(|&(&other, _)| other < priority).map(|(_, jobs)| jobs).sum();
        inversions += usize::from(more_urgent >= IN_FLIGHT);
        *left.entry(priority).or_default() -= 1;
    }
    inversions
}

/// How often a job is done that eight tasks push a thousand times, and how many of the pushes were told that it is known.
async fn one_id(queue: &Queue) -> (usize, usize) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let service = service_fn(move |_: Delivery| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(Ok::<_, BoxError>(Outcome::Ack))
    });
    let mut duplicates = 0;
    let pushes = async {
        let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(push_the_same(queue.clone()))).collect();
        for task in tasks {
            duplicates += task.await.expect("it does not panic");
        }
        until_empty(queue, PATIENCE).await;
    };
    Worker::new(queue, service).concurrency(IN_FLIGHT).run_until(pushes).await;
    (runs.load(Ordering::Relaxed), duplicates)
}

async fn push_the_same(queue: Queue) -> usize {
    let mut duplicates = 0;
    for _ in 0..125 {
        duplicates += usize::from(queue.push(job("same")).await.expect("there is room").is_duplicate());
    }
    duplicates
}

struct Due {
    /// Milliseconds from when the first was due until one was begun.
    first: f64,
    /// Seconds until all were done.
    all: f64,
    /// How many came before the first was due.
    early: usize,
    /// How many never came.
    left: usize,
}

/// As many jobs as are due in one second, while a worker waits for them.
async fn due(queue: &Queue) -> Due {
    // They have to be pushed before.
    let begin = Instant::now() + Duration::from_secs(30);
    let jobs = (0..DUE).map(|at| {
        let due = begin + Duration::from_secs(1) * at as u32 / DUE as u32;
        job(format!("job-{at}")).delay(due - Instant::now())
    });
    push_all(queue, jobs).await;
    assert!(Instant::now() < begin, "they were pushed in time");
    let first = Arc::new(Mutex::new(None));
    let (done, early) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, counted, too_early) = (first.clone(), done.clone(), early.clone());
    let service = service_fn(move |_: Delivery| {
        // A millisecond is what times of jobs are kept in.
        let before = Instant::now() + Duration::from_millis(1) < begin;
        too_early.fetch_add(usize::from(before), Ordering::Relaxed);
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            *seen.lock().expect("nobody panics") = Some(Instant::now());
        }
        ready(Ok::<_, BoxError>(Outcome::Ack))
    });
    let mut all = 0.0;
    let work = async {
        sleep_until(begin).await;
        while done.load(Ordering::Relaxed) < DUE && begin.elapsed() < PATIENCE {
            sleep(Duration::from_millis(5)).await;
        }
        all = begin.elapsed().as_secs_f64();
    };
    Worker::new(queue, service).concurrency(IN_FLIGHT).run_until(work).await;
    let first = first.lock().expect("nobody panics").expect("one was begun");
    let left = DUE.saturating_sub(done.load(Ordering::Relaxed));
    let first = first.saturating_duration_since(begin).as_secs_f64() * 1e3;
    Due { first, all, early: early.load(Ordering::Relaxed), left }
}
