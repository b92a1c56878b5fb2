//! A collector of somebody else's: the `rotel` agent (PyPI), which passes our spans on to a collector of ours.
#![cfg(feature = "otlp-http")]

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use buttress::Telemetry;
use buttress::settings::Settings;
use support::collector::http_collector;
use support::serve;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Beyond it the agent will not come up any more.
const PATIENCE: Duration = Duration::from_secs(60);

#[allow(clippy::disallowed_methods, reason = "whether the test may be skipped is no setting of the library")]
fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// The agent on `PATH`: the package has it under this name.
fn agent() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("rotel-agent")).find(|file| file.is_file())
}

async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

async fn start(agent: PathBuf, receives: &str, passes_on_to: &str) -> Child {
    let child = Command::new(agent)
        .args(["start", "--otlp-http-endpoint", receives, "--otlp-grpc-endpoint", &free_address().await])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", passes_on_to])
        .args(["--batch-timeout", "100ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the agent starts");
    let listens = async {
        while TcpStream::connect(receives).await.is_err() {
            // Another process: there is nothing to wait on but its port.
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, listens).await.expect("the agent listens");
    child
}

#[tokio::test]
async fn our_spans_pass_through_an_agent_of_somebody_else() {
    let Some(agent) = agent() else {
        assert!(!in_ci(), "rotel-agent has to be on PATH where CI is set");
        println!("skipped: rotel-agent is not on PATH");
        return;
    };
    let (collector, mut received) = http_collector().await;
    let receives = free_address().await;
    let _agent = start(agent, &receives, &collector).await;
    let settings = Settings::read("storefront", |name| match name {
        "OTEL_TRACES_EXPORTER" => Some("otlp".to_owned()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(format!("http://{receives}")),
        _ => None,
    });
    let telemetry =
        buttress_otel::connect(Telemetry::new(settings.expect("the settings are fine"))).expect("an exporter");
    serve(telemetry.spans(), 3).await;
    telemetry.shutdown(PATIENCE).await.expect("the agent takes them");

    let mut names = Vec::new();
    while names.len() < 3 {
        let got = timeout(PATIENCE, received.recv()).await.expect("the agent passes them on").expect("it listens");
        let scopes = got.request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        names.extend(scopes.flat_map(|scope| &scope.spans).map(|span| span.name.clone()));
    }
    assert_eq!(names, ["GET"; 3]);
}
