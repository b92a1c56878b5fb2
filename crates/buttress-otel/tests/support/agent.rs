//! A collector of somebody else's: the `rotel` agent (PyPI), which passes on what it gets to a collector of ours.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Beyond it the agent will not come up any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[allow(clippy::disallowed_methods, reason = "whether the test may be skipped is no setting of the library")]
fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// The agent on `PATH`: the package has it under this name.
fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("rotel-agent")).find(|file| file.is_file())
}

async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) http: String,
    pub(crate) grpc: String,
    pub(crate) child: Child,
}

/// Starts the agent; `None`, and a word about it, when there is none and that is no defect.
pub(crate) async fn start(passes_on_to: &str, more: &[&str]) -> Option<Agent> {
    let Some(agent) = on_path() else {
        assert!(!in_ci(), "rotel-agent has to be on PATH where CI is set");
        println!("skipped: rotel-agent is not on PATH");
        return None;
    };
    let (http, grpc) = (free_address().await, free_address().await);
    let child = Command::new(agent)
        .args(["start", "--otlp-http-endpoint", &http, "--otlp-grpc-endpoint", &grpc])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", passes_on_to])
        .args(["--batch-timeout", "100ms"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the agent starts");
    for address in [&http, &grpc] {
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                // Another process: there is nothing to wait on but its port.
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, listens).await.expect("the agent listens");
    }
    Some(Agent { http: format!("http://{http}"), grpc: format!("http://{grpc}"), child })
}
