//! Programs of others that look at ours, from `PATH`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Beyond it a program will not answer any more.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[allow(clippy::disallowed_methods, reason = "whether a test may be skipped is no setting of the library")]
fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Says that a test is skipped because something is missing.
///
/// # Panics
///
/// Where `CI` is set: there a skip is a failure.
pub fn skip(missing: &str) {
    assert!(!in_ci(), "{missing} has to be there where CI is set");
    println!("skipped: {missing} is not there");
}

/// A program on `PATH`; `None`, and a word about it, when there is none.
///
/// # Panics
///
/// When there is none and `CI` is set.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file()));
    if found.is_none() {
        skip(program);
    }
    found
}

/// Python, when it has this module.
pub async fn python_with(module: &str) -> Option<PathBuf> {
    let python = on_path("python3")?;
    let (code, _) = read_by(&python, &["-c", &format!("import {module}")], "").await;
    if code != Some(0) {
        skip(&format!("{module} for Python"));
    }
    (code == Some(0)).then_some(python)
}

/// An address that nobody listens at, and that no other test of this process is given: not even while the server of the one that has
/// it is down. Its port is none of those that the kernel gives to connections.
///
/// # Panics
///
/// When there is none.
pub async fn free_address() -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const PORTS: u32 = 20_000;
    for _ in 0..PORTS {
        // Processes that test at the same time begin at different ones.
        let nth = std::process::id().wrapping_mul(101).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", 10_000 + nth % PORTS);
        if TcpListener::bind(&address).await.is_ok() {
            return address;
        }
    }
    panic!("{PORTS} ports are in use")
}

/// Hands the page to a program, and gives back whether that was content, and what it said.
///
/// # Panics
///
/// When the program does not start, or does not end in a minute.
pub async fn read_by(program: &Path, arguments: &[&str], page: &str) -> (Option<i32>, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("it is piped");
    let feed = async {
        // One that has seen enough may hang up.
        let _ = input.write_all(page.as_bytes()).await;
        drop(input);
    };
    let (_, output) = timeout(PATIENCE, async { tokio::join!(feed, child.wait_with_output()) }).await.expect("it ends");
    let output = output.expect("it can be waited for");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Says as JSON what the strict parser read: each sample by its family, type and unit, and the exemplars.
pub const STRICT: &str = r#"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
page = sys.stdin.buffer.read().decode()
print(json.dumps([
    {"family": f.name, "type": f.type, "unit": f.unit, "help": f.documentation, "name": s.name, "labels": s.labels,
     "value": str(s.value), "exemplar": s.exemplar and [s.exemplar.labels, s.exemplar.value]}
    for f in read(page) for s in f.samples]))
"#;

/// A server that scrapes us five times a second until it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    address: String,
    folder: PathBuf,
    _child: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    /// One that scrapes these addresses, and keeps its data in this folder, with these features switched on.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(program: &Path, within: &str, name: &str, scraped: &[&str], features: &str) -> Self {
        let folder = Path::new(within).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the server");
        let settings = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: shop, static_configs: [{{targets: {scraped:?}}}]}}]\n"
        );
        std::fs::write(folder.join("prometheus.yml"), settings).expect("the folder is ours");
        let address = free_address().await;
        let child = Command::new(program)
            .current_dir(&folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"])
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--enable-feature={features}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        Self { address, folder, _child: child }
    }

    /// The result of a query, as soon as there is one.
    ///
    /// # Panics
    ///
    /// When there is none in a minute.
    pub async fn ask(&self, query: &str) -> Value {
        let ask = async {
            loop {
                match self.answer(query).await.as_ref().and_then(result) {
                    Some(result) => break result.clone(),
                    // Another process that scrapes by its own clock: there is nothing to wait on.
                    None => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        timeout(PATIENCE, ask).await.unwrap_or_else(|_| panic!("the server has no answer to {query}"))
    }

    /// `None` while it does not listen yet.
    async fn answer(&self, query: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        // In HTTP/1.0 an answer ends with its connection.
        let request = format!("GET /api/v1/{query} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// What is not empty of an answer: the exemplars, or the series of a query.
fn result(answer: &Value) -> Option<&Value> {
    let data = &answer["data"];
    [&data["result"], data].into_iter().find(|list| list.get(0).is_some())
}

/// The only number of an answer.
///
/// # Panics
///
/// When it is none.
pub fn number(result: &Value) -> f64 {
    result[0]["value"][1].as_str().and_then(|number| number.parse().ok()).expect("the value of a sample")
}

/// The query for the exemplars of a selector in the last hour.
///
/// # Panics
///
/// Before 1970.
pub fn exemplars(selector: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    format!("query_exemplars?query={selector}&start={}&end={}", now - 3600, now + 3600)
}
