//! What the figures are taken on: engines, a Redis of one's own, and the helpers that all of them share.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress_queue::{EngineConfig, Job, JobId, Memory, Queue, Redis, RedisConfig, Sqlite};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long a question to Redis may take where nothing is said about how long: beside other jobs it takes what it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the queues of an engine are.
pub struct Bed {
    /// `memory`, `sqlite` or `redis`.
    pub engine: &'static str,
    folder: TempDir,
    server: Option<Server>,
}

impl Bed {
    /// Of those that keep jobs beyond their process.
    pub fn durable() -> impl Iterator<Item = Self> {
        ["sqlite", "redis"].into_iter().filter_map(Self::of)
    }

    /// Of every engine.
    pub fn all() -> impl Iterator<Item = Self> {
        ["memory", "sqlite", "redis"].into_iter().filter_map(Self::of)
    }

    fn of(engine: &'static str) -> Option<Self> {
        let server = if engine == "redis" { Some(Server::start()?) } else { None };
        Some(Self { engine, folder: tempfile::tempdir().expect("a temporary folder"), server })
    }

    /// Where another process finds the queue of this name.
    pub fn place(&self, name: &str) -> String {
        match &self.server {
            Some(server) => server.url(),
            None => self.folder.path().join(format!("{name}.db")).to_str().expect("it is UTF-8").to_owned(),
        }
    }

    /// The queue of this name.
    pub fn queue(&self, name: &str) -> Queue {
        open(self.engine, &self.place(name), name)
    }
}

/// The queue of this name in that engine, there.
pub fn open(engine: &str, place: &str, name: &str) -> Queue {
    let config = EngineConfig::default();
    match engine {
        "memory" => Queue::new(name, Memory::new(config)),
        "sqlite" => Queue::new(name, Sqlite::open(Path::new(place), config).expect("a queue")),
        _ => {
            let redis = RedisConfig::new(place, name).patience(PATIENCE);
            Queue::new(name, Redis::new(redis, config).expect("it is right"))
        }
    }
}

/// A small job of this id.
pub fn job(id: impl Into<String>) -> Job {
    let id = JobId::new(id.into()).expect("it is an id");
    Job::new("bench", "x").expect("it is JSON").id(id)
}

/// Pushes all of these, many at once.
pub async fn push_all(queue: &Queue, jobs: impl IntoIterator<Item = Job>) {
    let mut jobs = jobs.into_iter().peekable();
    while jobs.peek().is_some() {
        for pushed in queue.push_all(jobs.by_ref().take(1_000)).await {
            pushed.expect("there is room");
        }
    }
}

/// Until nothing is left to be done, or for so long.
pub async fn until_empty(queue: &Queue, limit: Duration) {
    let since = Instant::now();
    while since.elapsed() < limit && !queue.contents().await.is_ok_and(|contents| contents.depths.is_empty()) {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A Redis that writes down what it is told and brings that to the disk each second.
pub struct Server {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Server {
    /// `None`, and a word about it, when there is none on `PATH`.
    pub fn start() -> Option<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let folder = tempfile::tempdir().expect("a temporary folder");
        match run(folder.path(), port) {
            Ok(child) => Some(Self { child, folder, port }),
            Err(error) => {
                eprintln!("left out what needs a Redis: redis-server: {error}");
                None
            }
        }
    }

    /// Where to connect.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// With what it had written down.
    pub fn start_again(&mut self) {
        self.child = run(self.folder.path(), self.port).expect("it has been started before");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts one, and waits until it can be connected to.
fn run(folder: &Path, port: u16) -> std::io::Result<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--port", &port.to_string(), "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()?;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(std::io::Error::other(status.to_string()));
        }
        std::thread::yield_now();
    }
    Ok(child)
}
