//! What it costs to push, claim and settle jobs of 512 bytes, engine by engine.
//!
//! Times are those of one job, wall time over many, the median of five rounds. A file is written to the temporary folder:
//! `disk.sync` says how fast that is, and every other figure of a file stands or falls with it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use buttress_benches::print;
use buttress_queue::engine::{Engine, Entry, Settlement};
use buttress_queue::{EngineConfig, Envelope, JobId, Memory, Sqlite};
use serde_json::value::RawValue;

const ROUNDS: usize = 5;
const LEASE: Duration = Duration::from_secs(600);

type Queue = Arc<dyn Engine>;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn entry() -> Entry {
    let data = RawValue::from_string(format!("\"{}\"", "x".repeat(510))).expect("it is JSON");
    let now = now();
    Entry::new(Envelope::new(JobId::random(), "bench", now, data), now)
}

fn entries(jobs: usize) -> Vec<Entry> {
    (0..jobs).map(|_| entry()).collect()
}

/// So many tasks that push one job after the other. Microseconds of a job, and how long each waited.
async fn push(queue: &Queue, tasks: usize, each: usize) -> (f64, Vec<Duration>) {
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move {
                let mut waited = Vec::with_capacity(each);
                for entry in entries(each) {
                    let start = Instant::now();
                    queue.push(vec![entry], now()).await.expect("there is room");
                    waited.push(start.elapsed());
                }
                waited
            })
        })
        .collect();
    let mut waited = Vec::new();
    for task in tasks {
        waited.extend(task.await.expect("it does not panic"));
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / waited.len() as f64;
    waited.sort();
    (micros, waited)
}

/// So many workers that claim so many at once and settle each for itself, until nothing is left. Microseconds of a job.
async fn claim_and_settle(queue: &Queue, workers: usize, at_once: usize, jobs: usize) -> f64 {
    let start = Instant::now();
    let workers: Vec<_> = (0..workers).map(|_| tokio::spawn(work(Arc::clone(queue), at_once))).collect();
    let mut done = 0;
    for worker in workers {
        done += worker.await.expect("it does not panic");
    }
    assert_eq!(done, jobs);
    start.elapsed().as_secs_f64() * 1e6 / done as f64
}

async fn work(queue: Queue, at_once: usize) -> usize {
    let mut done = 0;
    loop {
        let claimed = queue.claim(at_once, LEASE, now()).await.expect("it can be claimed from");
        if claimed.is_empty() {
            return done;
        }
        done += claimed.len();
        let settled: Vec<_> = claimed
            .into_iter()
            .map(|claimed| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move {
                    queue.settle(&claimed.lease, Settlement::Done, now()).await.expect("it is ours");
                })
            })
            .collect();
        for settled in settled {
            settled.await.expect("it does not panic");
        }
    }
}

/// Milliseconds until the first of so many that are due is claimed, and until it is told what there is.
async fn first_of(queue: &Queue, jobs: usize) -> (f64, f64) {
    for _ in 0..jobs / 1_000 {
        queue.push(entries(1_000), now()).await.expect("there is room");
    }
    let start = Instant::now();
    let first = queue.claim(1, LEASE, now()).await.expect("it can be claimed from");
    assert_eq!(first.len(), 1);
    let claimed = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let contents = queue.contents(now()).await.expect("it can be asked");
    assert_eq!(contents.depths[0].waiting as usize, jobs - 1);
    (claimed, start.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds to write a page so that it stays written.
fn sync(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("sync")).expect("a file");
    let mut waited: Vec<_> = (0..200)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("it is written");
            start.elapsed()
        })
        .collect();
    waited.sort();
    at(&waited, 0.5)
}

/// Milliseconds.
fn at(sorted: &[Duration], quantile: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * quantile) as usize].as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// At most so many microseconds a job: 10,000 in a second, and 1,000 when one waits for the other.
struct Limits {
    grouped: Option<f64>,
    grouped_p99: Option<f64>,
    single: Option<f64>,
    claim_ack: Option<f64>,
    first: Option<f64>,
    told: Option<f64>,
}

async fn engine(json: bool, name: &str, make: impl Fn() -> Queue, jobs: usize, limits: Limits) {
    let (mut grouped, mut p99, mut single, mut batch, mut claim_ack) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let queue = make();
        let (micros, waited) = push(&queue, 128, jobs / 128).await;
        grouped.push(micros);
        p99.push(at(&waited, 0.99));
        claim_ack.push(claim_and_settle(&queue, 4, 64, jobs / 128 * 128).await);
        single.push(push(&queue, 1, jobs / 20).await.0);
        let start = Instant::now();
        for _ in 0..jobs / 100 {
            queue.push(entries(100), now()).await.expect("there is room");
        }
        batch.push(start.elapsed().as_secs_f64() * 1e6 / jobs as f64);
        queue.close().await.expect("it closes");
    }
    let (first, told) = first_of(&make(), 100_000).await;
    let line =
        |figure: &str, value, unit, limit| print(json, &format!("{name}.{figure}"), "buttress", value, unit, limit);
    line("push.grouped", median(grouped), "us", limits.grouped);
    line("push.grouped.p99", median(p99), "ms", limits.grouped_p99);
    line("push.single", median(single), "us", limits.single);
    line("push.batch", median(batch), "us", None);
    line("claim_ack", median(claim_ack), "us", limits.claim_ack);
    line("claim.first_of_100k", first, "ms", limits.first);
    line("contents.of_100k", told, "ms", limits.told);
}

/// Of the engines that keep jobs in this process.
pub async fn measure(json: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    print(json, "disk.sync", "disk", sync(folder.path()), "ms", None);
    let none =
        Limits { grouped: None, grouped_p99: None, single: None, claim_ack: None, first: Some(100.0), told: None };
    engine(json, "memory", || Arc::new(Memory::new(EngineConfig::default())), 50_000, none).await;
    let files = std::sync::atomic::AtomicUsize::new(0);
    let sqlite = || -> Queue {
        let nth = files.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.path().join(format!("queue-{nth}.db"));
        Arc::new(Sqlite::open(path, EngineConfig::default()).expect("a queue"))
    };
    let limits = Limits {
        grouped: Some(100.0),
        grouped_p99: Some(50.0),
        single: Some(1_000.0),
        claim_ack: Some(100.0),
        first: Some(100.0),
        told: Some(10.0),
    };
    engine(json, "sqlite", sqlite, 10_000, limits).await;
    print(json, "disk.sync", "disk, again", sync(folder.path()), "ms", None);
}
