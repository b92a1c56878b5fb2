//! The queue on Redis beside the crate that it stands on: jobs a second that do nothing, and how long an outage lasts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bullmq::options::RedisConnectionOptions;
use buttress_queue::{Delivery, EngineConfig, Job, Outcome, Queue, Redis, RedisConfig, Worker};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tower::service_fn;

const JOBS: usize = 20_000;
const IN_FLIGHT: usize = 32;

/// A Redis that writes down what it is told and brings that to the disk each second.
pub struct Server {
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let folder = std::env::temp_dir().join(format!("buttress-bench-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder for Redis");
        Self { child: run(&folder, port), folder, port }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_again(&mut self) {
        self.child = run(&self.folder, self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(folder: &Path, port: u16) -> Child {
    let child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--port", &port.to_string(), "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is on PATH");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    child
}

/// What is counted down while jobs are done.
#[derive(Clone)]
struct Left(Arc<(AtomicUsize, Notify)>);

impl Left {
    fn new(jobs: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(jobs), Notify::new())))
    }

    fn one(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_one();
        }
    }

    async fn none(&self) {
        self.0.1.notified().await;
    }
}

fn a_second(jobs: usize, since: Instant) -> f64 {
    jobs as f64 / since.elapsed().as_secs_f64()
}

/// Ours: jobs a second that are pushed by so many tasks, and that are done.
pub async fn ours(url: &str, round: usize) -> (f64, f64) {
    let engine = Redis::new(RedisConfig::new(url, format!("ours-{round}")), EngineConfig::default()).expect("it is right");
    let queue = Queue::new("bench", engine);
    let began = Instant::now();
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let queue = queue.clone();
        pushes.spawn(async move {
            for job in 0..JOBS / IN_FLIGHT {
                let job = Job::new("bench", &job).expect("a number is JSON");
                queue.push(job).await.expect("Redis is there");
            }
        });
    }
    pushes.join_all().await;
    let pushed = a_second(JOBS, began);
    let left = Left::new(JOBS);
    let counted = left.clone();
    let service = service_fn(move |_: Delivery| {
        counted.one();
        async { Ok::<_, tower::BoxError>(Outcome::Ack) }
    });
    let began = Instant::now();
    Worker::new(&queue, service).concurrency(IN_FLIGHT).run_until(left.none()).await;
    (pushed, a_second(JOBS, began))
}

/// The crate's own worker, and its own way to add.
pub async fn bare(url: &str, round: usize) -> (f64, f64) {
    let name = format!("bare-{round}");
    let connection = || RedisConnectionOptions::new().url(url);
    let queue = bullmq::Queue::with_options(&name, bullmq::QueueOptions::new().connection(connection())).await;
    let queue = Arc::new(queue.expect("Redis is there"));
    let began = Instant::now();
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let queue = queue.clone();
        pushes.spawn(async move {
            for job in 0..JOBS / IN_FLIGHT {
                // With a priority and an id, as ours have.
                let id = format!("{:?}-{job}", tokio::task::id());
                queue.add("bench", job).priority(5).job_id(id).await.expect("Redis is there");
            }
        });
    }
    pushes.join_all().await;
    let pushed = a_second(JOBS, began);
    let left = Left::new(JOBS);
    let counted = left.clone();
    let began = Instant::now();
    let work = move |_: bullmq::Job, _| {
        counted.one();
        async { Ok(serde_json::Value::Null) }
    };
    let options = bullmq::WorkerOptions::new().connection(connection()).concurrency(IN_FLIGHT);
    let worker = bullmq::Worker::with_options(&name, work, options).await.expect("Redis is there");
    left.none().await;
    let processed = a_second(JOBS, began);
    let _ = worker.close(5_000).await;
    (pushed, processed)
}

/// Redis is killed and started again after three seconds: how long at most a push takes meanwhile, and until a job is done
/// afterwards.
pub async fn outage(rounds: usize) -> Vec<(Duration, Duration)> {
    let mut server = Server::start();
    let engine = Redis::new(RedisConfig::new(server.url(), "outage"), EngineConfig::default()).expect("it is right");
    let queue = Queue::new("outage", engine);
    let done = Arc::new(Notify::new());
    let told = done.clone();
    let service = service_fn(move |_: Delivery| {
        told.notify_one();
        async { Ok::<_, tower::BoxError>(Outcome::Ack) }
    });
    let push = async || queue.push(Job::new("bench", &0).expect("a number is JSON")).await;
    let mut measured = Vec::new();
    let rounds = async {
        for _ in 0..rounds {
            push().await.expect("Redis is there");
            done.notified().await;
            server.kill();
            let (down, mut longest) = (Instant::now(), Duration::ZERO);
            while down.elapsed() < Duration::from_secs(3) {
                let began = Instant::now();
                let _ = push().await;
                longest = longest.max(began.elapsed());
                sleep(Duration::from_millis(20)).await;
            }
            server.start_again();
            let back = Instant::now();
            while push().await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
            done.notified().await;
            measured.push((longest, back.elapsed()));
        }
    };
    Worker::new(&queue, service).concurrency(IN_FLIGHT).run_until(rounds).await;
    measured
}
