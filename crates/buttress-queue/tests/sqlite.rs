//! What holds of a queue in a file, and of no other.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

#[path = "engines/subject.rs"]
#[allow(dead_code, reason = "the sentences of all engines need more of it")]
mod subject;

use std::error::Error as _;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use buttress_queue::engine::{Admitted, Engine, Settlement};
use buttress_queue::{EngineConfig, EngineError, HealthLimits, HealthStatus, JobState, Queue, Sqlite};
use rusqlite::Connection;
use subject::{LEASE, T, id, job};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("queue.db")
    }

    fn open(&self) -> Sqlite {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Sqlite, EngineError> {
        Sqlite::open(self.path(), EngineConfig::default())
    }
}

async fn state(queue: &Sqlite, name: &str) -> Option<JobState> {
    queue.find(&id(name), T).await.unwrap().map(|found| found.state)
}

#[tokio::test]
async fn whatever_was_there_is_there_again() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.push(["a", "b", "c", "d"].map(|name| job(name).due(T)).into(), T).await.unwrap();
    let claimed = queue.claim(3, LEASE, T).await.unwrap();
    queue.settle(&claimed[0].lease, Settlement::Done, T).await.unwrap();
    queue.settle(&claimed[1].lease, subject::buried("broken", 2), T).await.unwrap();
    queue.close().await.unwrap();
    let queue = folder.open();
    assert_eq!(state(&queue, "a").await, Some(JobState::Done));
    assert_eq!(queue.dead(None, 9).await.unwrap()[0].reason.as_str(), "broken");
    queue.settle(&claimed[2].lease, Settlement::Release, T).await.unwrap();
    let again = queue.claim(3, LEASE, T).await.unwrap();
    assert_eq!(subject::ids(&again), ["c", "d"]);
    assert!(again.iter().all(|again| claimed.iter().all(|claimed| claimed.lease.token < again.lease.token)));
}

#[tokio::test]
async fn a_queue_that_is_closed_says_so() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.push(vec![job("a").due(T)], T).await.unwrap();
    queue.close().await.unwrap();
    assert!(matches!(queue.claim(1, LEASE, T).await, Err(EngineError::Closed)));
    assert!(matches!(queue.find(&id("a"), T).await, Err(EngineError::Closed)));
    assert!(matches!(queue.close().await, Err(EngineError::Closed)));
    let log = folder.path().with_extension("db-wal");
    assert_eq!(fs::metadata(log).map_or(0, |log| log.len()), 0, "all of it is where it belongs");
}

#[tokio::test]
async fn a_queue_whose_engine_cannot_be_asked_fails_its_health() {
    let folder = Folder::new();
    let queue = Queue::new("work", folder.open());
    assert_eq!(queue.health(HealthLimits::default()).await.status, HealthStatus::Pass);
    queue.close().await.unwrap();
    let health = queue.health(HealthLimits::default()).await;
    assert_eq!((health.status, &health.problems[0][..]), (HealthStatus::Fail, "the queue is closed"));
}

#[tokio::test]
async fn what_is_there_is_told_without_looking_at_every_job() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.push((0..100).map(|at| job(&format!("{at}")).due(T)).collect(), T).await.unwrap();
    let before = queue.contents(T).await.unwrap().depths.remove(0);
    // Behind the back of what counts along: were the jobs looked at, there would be none.
    let file = Connection::open(folder.path()).unwrap();
    file.execute_batch("DELETE FROM jobs").unwrap();
    let after = queue.contents(T).await.unwrap().depths.remove(0);
    assert_eq!((before.bytes, before.waiting), (after.bytes, after.waiting));
}

#[tokio::test]
async fn a_push_that_nobody_waits_for_happens_as_a_whole_or_not() {
    let folder = Folder::new();
    let queue = folder.open();
    for round in 0..20 {
        let entries = (0..10).map(|at| job(&format!("{round}-{at}")).due(T)).collect();
        let mut push = queue.push(entries, T);
        let _ = pin!(&mut push).poll(&mut Context::from_waker(Waker::noop()));
        drop(push);
    }
    // Whatever was asked for is done before this is.
    queue.push(vec![job("last").due(T)], T).await.unwrap();
    for round in 0..20 {
        let first = state(&queue, &format!("{round}-0")).await;
        assert_eq!(state(&queue, &format!("{round}-9")).await, first);
    }
}

#[tokio::test]
async fn what_another_handle_pushes_is_noticed() {
    let folder = Folder::new();
    let (here, there) = (folder.open(), folder.open());
    let mut ready = here.ready(T);
    assert!(tokio::time::timeout(Duration::ZERO, &mut ready).await.is_err());
    there.push(vec![job("a").due(T)], T).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("within a second or so");
    assert_eq!(here.claim(1, LEASE, T).await.unwrap().len(), 1);
    assert!(there.claim(1, LEASE, T).await.unwrap().is_empty());
    let admitted = here.push(vec![job("a").due(T)], T).await.unwrap();
    assert_eq!(admitted, [Admitted::Duplicate(JobState::Active)]);
}

#[tokio::test]
async fn two_handles_share_the_bounds() {
    let folder = Folder::new();
    let open = || {
        let bounds = buttress_queue::Bounds::new(subject::jobs(2));
        Sqlite::open(folder.path(), subject::within(bounds)).unwrap()
    };
    let (here, there) = (open(), open());
    here.push(vec![job("a").due(T)], T).await.unwrap();
    there.push(vec![job("b").due(T)], T).await.unwrap();
    assert!(matches!(here.push(vec![job("c").due(T)], T).await.unwrap()[0], Admitted::Full(_)));
}

#[tokio::test]
async fn a_file_of_another_version_is_left_alone() {
    let folder = Folder::new();
    folder.open().close().await.unwrap();
    Connection::open(folder.path()).unwrap().execute_batch("PRAGMA user_version = 7").unwrap();
    let error = folder.try_open().unwrap_err();
    assert!(matches!(error, EngineError::Failed(_)));
    let why = error.source().unwrap().to_string();
    assert_eq!(why, "the file has version 7 of the queue's schema: this program knows 2");
}

#[test]
fn a_database_of_somebody_else_is_left_alone() {
    let folder = Folder::new();
    Connection::open(folder.path()).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let error = folder.try_open().unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "the file is a database, and not of a queue");
}

#[test]
fn a_file_that_is_no_database_fails() {
    let folder = Folder::new();
    fs::write(folder.path(), "nothing of the kind ".repeat(500)).unwrap();
    assert!(matches!(folder.try_open(), Err(EngineError::Failed(_))));
}

#[test]
fn a_folder_that_is_not_there_cannot_be_reached() {
    let folder = Folder::new();
    let error = Sqlite::open(folder.path().join("queue.db"), EngineConfig::default()).unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_asked_for_is_done_though_the_last_handle_is_dropped() {
    let folder = Folder::new();
    let queue = folder.open();
    let clone = queue.clone();
    drop(queue);
    clone.push(vec![job("a").due(T)], T).await.unwrap();
    drop(clone);
    assert_eq!(state(&folder.open(), "a").await, Some(JobState::Waiting));
}
