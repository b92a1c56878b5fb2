//! Real processes that are killed, several of them on one file, and a disk that is full.
#![cfg(all(feature = "sqlite", unix))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod child;
mod disk;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use buttress_queue::engine::{Engine, Entry};
use buttress_queue::{EngineConfig, Envelope, JobId, JobState, Sqlite};
use child::{CONCURRENCY, Child, LEASE, now};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path, EngineConfig::default()).unwrap()
}

fn entry(name: impl Into<String>) -> Entry {
    let name = name.into();
    let data = serde_json::value::to_raw_value(&"x".repeat(500)).unwrap();
    let now = now();
    Entry::new(Envelope::new(JobId::new(name).unwrap(), "test", now, data), now)
}

fn is_sound(path: &Path) -> bool {
    let file = rusqlite::Connection::open(path).unwrap();
    let answer: String = file.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    answer == "ok"
}

/// How often each job was worked on, by what the workers wrote down before they said that it is done.
fn runs(log: &Path) -> HashMap<String, usize> {
    let mut runs = HashMap::new();
    for name in fs::read_to_string(log).unwrap().lines() {
        *runs.entry(name.to_owned()).or_default() += 1;
    }
    runs
}

async fn fill(queue: &Sqlite, jobs: usize) {
    for at in (0..jobs).step_by(1_000) {
        let entries = (at..jobs.min(at + 1_000)).map(|at| entry(format!("job-{at}"))).collect();
        queue.push(entries, now()).await.unwrap();
    }
}

#[tokio::test]
async fn no_job_is_lost_when_the_worker_is_killed_two_hundred_times() {
    const JOBS: usize = 10_000;
    const KILLS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("queue.db"), folder.path().join("log"));
    let queue = open(&path);
    fill(&queue, JOBS).await;
    let mut random = SmallRng::seed_from_u64(17);
    for _ in 0..KILLS {
        let mut worker = Child::worker(&path, &log);
        // In the middle of whatever it does then.
        worker.listen(random.random_range(1..100));
        worker.kill();
    }
    Child::worker(&path, &log).wait();
    let contents = queue.contents(now()).await.unwrap();
    assert!(contents.depths.is_empty(), "{contents:?}");
    let runs = runs(&log);
    assert_eq!(runs.len(), JOBS, "each was worked on");
    let repeats: usize = runs.values().map(|runs| runs - 1).sum();
    assert!(repeats <= KILLS * CONCURRENCY, "{repeats} repeats");
    for at in (0..JOBS).step_by(97) {
        let found = queue.find(&JobId::new(format!("job-{at}")).unwrap(), now()).await.unwrap();
        assert_eq!(found.unwrap().state, JobState::Done);
    }
    queue.close().await.unwrap();
    assert!(is_sound(&path));
}

#[tokio::test]
async fn what_a_killed_worker_had_comes_to_another_process_when_its_lease_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("queue.db"), folder.path().join("log"));
    let queue = open(&path);
    fill(&queue, CONCURRENCY).await;
    let mut worker = Child::hanging(&path, &log);
    worker.listen(CONCURRENCY);
    worker.kill();
    let mut recovered = HashSet::new();
    let recover = async {
        while recovered.len() < CONCURRENCY {
            queue.ready(now()).await;
            for claimed in queue.claim(CONCURRENCY, Duration::from_secs(60), now()).await.unwrap() {
                assert_eq!(claimed.crashes, 1);
                recovered.insert(claimed.lease.id);
            }
        }
    };
    tokio::time::timeout(20 * LEASE, recover).await.expect("all come back");
}

#[tokio::test]
async fn whatever_was_acknowledged_is_there_when_the_producer_is_killed_a_hundred_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let mut random = SmallRng::seed_from_u64(17);
    let mut acknowledged = Vec::new();
    for kill in 0..100 {
        let mut producer = Child::producer(&path, kill);
        acknowledged.extend(producer.listen(random.random_range(1..60)));
        acknowledged.extend(producer.kill());
    }
    assert!(is_sound(&path));
    let queue = open(&path);
    assert!(acknowledged.len() >= 100);
    for name in acknowledged {
        let found = queue.find(&JobId::new(&*name).unwrap(), now()).await.unwrap();
        assert_eq!(found.expect("it was acknowledged").state, JobState::Waiting, "{name}");
    }
}

#[tokio::test]
async fn workers_of_four_processes_do_each_job_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("queue.db"), folder.path().join("log"));
    let queue = open(&path);
    fill(&queue, 1_000).await;
    let workers: Vec<_> = (0..4).map(|_| Child::patient_worker(&path, &log)).collect();
    workers.into_iter().for_each(Child::wait);
    let runs = runs(&log);
    assert_eq!(runs.len(), 1_000);
    assert!(runs.values().all(|&runs| runs == 1));
    assert!(queue.contents(now()).await.unwrap().depths.is_empty());
}
