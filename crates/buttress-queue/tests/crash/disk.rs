//! A disk that is full.

use std::fs;
use std::path::Path;
use std::process::Command;

use buttress_queue::engine::{Claimed, Engine, Settlement};
use buttress_queue::{EngineError, Sqlite};
use tempfile::TempDir;

use crate::child::now;
use crate::{LEASE, entry, is_sound, open};

/// A file system of 3 MB, as long as it is in scope.
struct Disk(TempDir);

impl Disk {
    /// None where nothing may be mounted.
    fn small() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "none"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // As soon as the last thread has let go of it.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

/// Pushes until there is no room; the names of what was taken.
async fn push_until_full(queue: &Sqlite, prefix: &str) -> Vec<String> {
    let mut pushed = Vec::new();
    loop {
        let name = format!("{prefix}-{}", pushed.len());
        match queue.push(vec![entry(&name)], now()).await {
            Ok(_) => pushed.push(name),
            Err(EngineError::StorageFull) => return pushed,
            Err(error) => panic!("{error:?}"),
        }
        assert!(pushed.len() < 10_000, "3 MB hold no more");
    }
}

async fn claim(queue: &Sqlite) -> Vec<Claimed> {
    queue.claim(20, 60 * LEASE, now()).await.unwrap()
}

/// Works on everything; the names.
async fn drain(queue: &Sqlite) -> Vec<String> {
    let mut done = Vec::new();
    loop {
        let claimed = claim(queue).await;
        if claimed.is_empty() {
            return done;
        }
        for claimed in claimed {
            queue.settle(&claimed.lease, Settlement::Done, now()).await.unwrap();
            done.push(claimed.lease.id.to_string());
        }
    }
}

/// Pushes one until it is taken.
async fn push_again(queue: &Sqlite, name: &str) {
    let again = async {
        while let Err(error) = queue.push(vec![entry(name)], now()).await {
            assert!(matches!(error, EngineError::StorageFull), "{error:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(20 * LEASE, again).await.expect("there is room again");
}

#[tokio::test]
async fn a_full_disk_takes_no_push_and_lets_every_job_out_again() {
    let Some(disk) = Disk::small() else {
        eprintln!("skipped: nothing may be mounted here");
        return;
    };
    let path = disk.path().join("queue.db");
    let queue = open(&path);
    for round in 0..3 {
        let pushed = push_until_full(&queue, &format!("round-{round}")).await;
        assert!(pushed.len() > 200, "{} is not what 3 MB hold", pushed.len());
        assert_eq!(drain(&queue).await, pushed, "whatever was acknowledged, and nothing else");
        push_again(&queue, &format!("again-{round}")).await;
        assert_eq!(drain(&queue).await.len(), 1);
    }
    queue.close().await.unwrap();
    assert!(is_sound(&path));
}

#[tokio::test]
async fn jobs_go_out_while_somebody_else_fills_the_disk() {
    let Some(disk) = Disk::small() else {
        eprintln!("skipped: nothing may be mounted here");
        return;
    };
    let path = disk.path().join("queue.db");
    let queue = open(&path);
    let names: Vec<String> = (0..300).map(|at| format!("job-{at}")).collect();
    for name in &names {
        queue.push(vec![entry(name)], now()).await.unwrap();
    }
    let theirs = disk.path().join("theirs");
    let _ = fs::write(&theirs, vec![1; 4 << 20]);
    assert!(!push_until_full(&queue, "more").await.iter().any(|name| names.contains(name)));
    let mut done = drain(&queue).await;
    done.truncate(names.len());
    assert_eq!(done, names);
    fs::remove_file(&theirs).unwrap();
    push_again(&queue, "again").await;
    queue.close().await.unwrap();
    assert!(is_sound(&path));
}
