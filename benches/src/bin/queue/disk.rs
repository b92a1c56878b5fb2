//! A disk that is full.

use std::future::ready;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_benches::{print, print_least};
use buttress_queue::{Delivery, EngineConfig, Job, Outcome, PushError, Queue, Sqlite, Worker};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tower::{BoxError, service_fn};

use crate::bed::until_empty;
use crate::crash::is_sound;

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// A file system of 3 MB, as long as it is in scope.
struct Disk(TempDir);

impl Disk {
    /// None where nothing may be mounted.
    fn small() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
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

pub async fn measure(json: bool) {
    let Some(disk) = Disk::small() else {
        eprintln!("left out what needs a full disk: nothing may be mounted here");
        return;
    };
    let path = disk.path().join("queue.db");
    let queue = Queue::new("full", Sqlite::open(&path, EngineConfig::default()).expect("a queue"));
    let (mut taken, mut other, mut again) = (0, 0, Duration::ZERO);
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..ROUNDS {
        let (pushed, error) = push_until_refused(&queue).await;
        taken += pushed;
        other += usize::from(!error.is_full());
        let counted = done.clone();
        let service = service_fn(move |_: Delivery| {
            counted.fetch_add(1, Ordering::Relaxed);
            ready(Ok::<_, BoxError>(Outcome::Ack))
        });
        Worker::new(&queue, service).run_until(until_empty(&queue, PATIENCE)).await;
        let since = Instant::now();
        while queue.push(large()).await.is_err() && since.elapsed() < PATIENCE {
            sleep(Duration::from_millis(1)).await;
        }
        again = again.max(since.elapsed());
        taken += 1;
    }
    let waiting: u64 = queue.contents().await.expect("it can be asked").depths.iter().map(|depth| depth.waiting).sum();
    let lost = taken - done.load(Ordering::Relaxed) as i64 - waiting as i64;
    queue.close().await.expect("it closes");
    print_least(json, "full.taken", "sqlite", taken as f64, "jobs", None);
    print(json, "full.other_errors", "sqlite", other as f64, "pushes", Some(0.0));
    print(json, "full.lost", "sqlite", lost as f64, "jobs", Some(0.0));
    print(json, "full.push_again_ms", "sqlite", again.as_secs_f64() * 1e3, "ms", None);
    let broken = u8::from(!is_sound(path.to_str().expect("it is UTF-8")));
    print(json, "full.broken", "sqlite", f64::from(broken), "files", Some(0.0));
}

fn large() -> Job {
    Job::new("bench", &"x".repeat(510)).expect("it is JSON")
}

/// How many jobs were taken until one was not, and what was said of that.
async fn push_until_refused(queue: &Queue) -> (i64, PushError) {
    let mut pushed = 0;
    loop {
        match queue.push(large()).await {
            Ok(_) => pushed += 1,
            Err(error) => return (pushed, error),
        }
        assert!(pushed < 10_000, "3 MB hold no more");
    }
}
