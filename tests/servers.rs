//! Databases of others that tests start for themselves, on a free port, and stop when they are dropped.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::peers::{PATIENCE, free_address, on_path};

/// The user that a server runs as which refuses to run as root. It is on every Linux.
const NOBODY: u32 = 65534;

/// A cluster of PostgreSQL with a database and a superuser `postgres`, no password, and its data in a folder of its own.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    address: String,
    _child: Child,
}

impl Postgres {
    /// Starts one from where Debian puts it, or from `PATH`; `None`, and a word about it, when there is none.
    ///
    /// # Panics
    ///
    /// When it does not start, and when there is none where `CI` is set.
    pub async fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = own_folder("postgres");
        let data = folder.join("data");
        let initdb = run_as_user(&programs.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(&folder)
            .output()
            .await
            .expect("initdb starts");
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let address = free_address().await;
        let port = address.rsplit(':').next().expect("it has a port");
        let child = run_as_user(&programs.join("postgres"))
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-p", port, "-k"])
            .arg(&folder)
            .arg("-D")
            .arg(&data)
            .current_dir(&folder)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("postgres starts");
        answers(&address).await;
        Some(Self { programs, folder, address, _child: child })
    }

    /// Where to connect.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, and yet so that it frees its shared memory.
        let mut stop = run_as_user(&self.programs.join("pg_ctl"));
        let stop = stop.as_std_mut().args(["stop", "-m", "immediate", "-D"]).arg(self.folder.join("data"));
        let _ = stop.current_dir(&self.folder).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A Redis with its data in a folder of its own, if it keeps any.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    folder: Option<PathBuf>,
    address: String,
    child: Child,
}

impl Redis {
    /// Starts one from `PATH` that keeps nothing; `None`, and a word about it, when there is none.
    ///
    /// # Panics
    ///
    /// When it does not start, and when there is none where `CI` is set.
    pub async fn start() -> Option<Self> {
        Self::start_in(None).await
    }

    /// The same, keeping everything that it has answered, so that it can be [killed](Self::kill) and [started
    /// again](Self::start_again).
    ///
    /// # Panics
    ///
    /// As for [`start`](Self::start).
    pub async fn start_durable() -> Option<Self> {
        Self::start_in(Some(own_folder("redis"))).await
    }

    async fn start_in(folder: Option<PathBuf>) -> Option<Self> {
        let program = on_path("redis-server")?;
        let address = free_address().await;
        let child = run_redis(&program, folder.as_deref(), &address);
        answers(&address).await;
        Some(Self { program, folder, address, child })
    }

    /// Its process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as a crash does.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start_again(&mut self) {
        self.child = run_redis(&self.program, self.folder.as_deref(), &self.address);
        answers(&self.address).await;
    }

    /// Where to connect.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn run_redis(program: &Path, folder: Option<&Path>, address: &str) -> Child {
    let mut command = run_as_user(program);
    let port = address.rsplit(':').next().expect("it has a port");
    command.args(["--port", port, "--bind", "127.0.0.1", "--save", ""]);
    match folder {
        // By default what was answered is not even written while a slow disk is being flushed, and so dies with the process.
        Some(folder) => command.args(["--appendonly", "yes", "--appendfsync", "no", "--dir"]).arg(folder),
        None => command.args(["--appendonly", "no"]),
    };
    command.kill_on_drop(true).spawn().expect("redis-server starts")
}

/// The folder with the programs of the newest PostgreSQL.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin")).filter(|folder| folder.join("initdb").is_file()).collect();
    found.sort();
    match found.pop() {
        Some(folder) => Some(folder),
        None => Some(on_path("initdb")?.parent()?.to_owned()),
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A folder that the user of the server may enter, which it might not where the tests are built.
fn own_folder(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("buttress-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the server");
    if is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    folder
}

fn run_as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

async fn answers(address: &str) {
    let connect = async {
        while TcpStream::connect(address).await.is_err() {
            // Another process: there is nothing to wait on but its port.
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, connect).await.expect("it listens");
}
