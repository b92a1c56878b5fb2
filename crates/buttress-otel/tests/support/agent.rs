//! A collector of somebody else's: the `rotel` agent (PyPI), which passes on what it gets to a collector of ours.

use std::process::Stdio;
use std::time::Duration;

use buttress_tests::peers::{free_address, on_path};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

pub(crate) use buttress_tests::peers::PATIENCE;

/// A running agent.
pub(crate) struct Agent {
    pub(crate) http: String,
    pub(crate) grpc: String,
    pub(crate) child: Child,
}

/// Starts the agent; `None`, and a word about it, when there is none and that is no defect.
pub(crate) async fn start(passes_on_to: &str, more: &[&str]) -> Option<Agent> {
    // The package has it under this name.
    let agent = on_path("rotel-agent")?;
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
