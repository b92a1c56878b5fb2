//! Programs of others read our pages: `promtool`, Python's `prometheus_client` and a Prometheus server, from `PATH`.
#![cfg(feature = "metrics")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use buttress::context::{Context, TraceContext};
use buttress::metrics::export::Exposition;
use buttress::metrics::{MetricsConfig, MetricsEndpoint, Registry};
use serde_json::Value;
use support::TRACE_ID;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Beyond it a program will not answer any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Label values that have broken somebody's parser before.
const AWKWARD: [&str; 8] = ["plain", "a\"b", "a\\", "\\n", "a\nb", "{le=\"1\"} 5 # {}", "\r\t\u{1f}", "naïve 🦀 ,=;"];

#[allow(clippy::disallowed_methods, reason = "whether a test may be skipped is no setting of the library")]
fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

fn skip(missing: &str) {
    assert!(!in_ci(), "{missing} has to be there where CI is set");
    println!("skipped: {missing} is not there");
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Something of every kind, each described as lints want it, and a trace among the durations.
fn counted(config: MetricsConfig) -> Registry {
    let registry = Registry::with_config(config);
    let placed = registry.counter("orders.placed").description("Orders that were \"accepted\"\nby a\\b");
    AWKWARD.iter().for_each(|tenant| placed.with([("tenant.id", *tenant)]).add(1_000_000));
    registry.time_counter("process.cpu.time").description("Time on processors").with([("cpu.mode", "user")]);
    registry.gauge("queue.fill").unit("1").description("How full the queue is").with(()).set(f64::NAN);
    registry.gauge("queue.oldest").unit("s").description("How old the oldest job is").with(()).set(1.5e9);
    registry.up_down_counter("queue.waiting").unit("{job}").description("Jobs that wait").with([("shard", 2)]).add(-4);
    let sizes = registry.histogram("upload.size").unit("By").description("What is uploaded");
    AWKWARD.iter().for_each(|le| sizes.with([("le", *le)]).record(10_000_000));
    // Its name is the one of a sample above, so that a page with both would be refused.
    registry.gauge("upload.size.bytes.sum").description("What somebody else adds up").with(()).set(1.0);
    let charge =
        registry.timer("charge.duration").description("How long charging takes").with([("card.kind", "debit")]);
    let trace = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let trace = TraceContext::parse(trace.as_bytes()).expect("well formed");
    for millis in [0, 3, 84, 84, 84, 85, 600, 20_000] {
        Context::from_trace(trace).enter(|| charge.record(Duration::from_millis(millis)));
    }
    registry
}

fn resource() -> [(String, String); 2] {
    [("service.name", "shop"), ("service.version", "1.2\"3")].map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// Hands the page to a program, and gives back whether that was content, and what it said.
async fn read_by(program: &Path, arguments: &[&str], page: &str) -> (Option<i32>, String) {
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

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_text_page() {
    let Some(promtool) = on_path("promtool") else {
        return skip("promtool");
    };
    let snapshot = counted(MetricsConfig::default()).snapshot();
    let page = Exposition::new(&snapshot).resource(&resource()).text();
    let (code, said) = read_by(&promtool, &["check", "metrics"], &page).await;
    // 1 would be a page that cannot be read, 3 one that offends a lint.
    assert_eq!((code, &*said), (Some(0), ""), "{page}");
}

/// Says as JSON what the strict parser read: each sample by its family, type and unit, and the exemplars.
const STRICT: &str = r#"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
page = sys.stdin.buffer.read().decode()
print(json.dumps([
    {"family": f.name, "type": f.type, "unit": f.unit, "help": f.documentation, "name": s.name, "labels": s.labels,
     "value": str(s.value), "exemplar": s.exemplar and [s.exemplar.labels, s.exemplar.value]}
    for f in read(page) for s in f.samples]))
"#;

#[tokio::test]
async fn the_strict_parser_of_python_reads_what_was_counted() {
    let Some(python) = on_path("python3") else {
        return skip("python3");
    };
    if read_by(&python, &["-c", "import prometheus_client"], "").await.0 != Some(0) {
        return skip("prometheus_client for Python");
    }
    let snapshot = counted(MetricsConfig::default()).snapshot();
    let page = Exposition::new(&snapshot).resource(&resource()).open_metrics();
    let (code, said) = read_by(&python, &["-c", STRICT], &page).await;
    assert_eq!(code, Some(0), "{said}\n{page}");
    let samples: Vec<Value> = serde_json::from_str(&said).expect("it prints JSON");
    let of = |name: &str| -> Vec<&Value> { samples.iter().filter(|sample| sample["name"] == name).collect() };

    let placed = of("orders_placed_total");
    assert_eq!(placed[0]["help"], "Orders that were \"accepted\"\nby a\\b");
    let mut tenants: Vec<&str> = placed.iter().filter_map(|sample| sample["labels"]["tenant_id"].as_str()).collect();
    let mut expected = AWKWARD;
    tenants.sort_unstable();
    expected.sort_unstable();
    assert_eq!(tenants, expected);

    let charge = of("charge_duration_seconds_bucket");
    assert_eq!((&charge[0]["type"], &charge[0]["unit"]), (&"histogram".into(), &"seconds".into()));
    let traced = charge.iter().filter(|sample| sample["exemplar"][0]["trace_id"] == TRACE_ID).count();
    // 0 and 3 ms share a bucket, so do the four around 84 ms; 600 ms and 20 s have one each.
    assert_eq!(traced, 4, "{charge:?}");
    assert_eq!(of("target_info")[0]["labels"]["service_version"], "1.2\"3");
    assert_eq!(of("buttress_metrics_left_out")[0]["value"], "1");
    assert_eq!(samples.len(), AWKWARD.len() * (1 + 11 + 2) + 4 + (15 + 2) + 2);
}

/// A server that scrapes us five times a second until it is dropped.
struct Prometheus {
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
    async fn start(program: &Path, name: &str, scraped: &[&str], features: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the server");
        let settings = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: shop, static_configs: [{{targets: {scraped:?}}}]}}]\n"
        );
        std::fs::write(folder.join("prometheus.yml"), settings).expect("the folder is ours");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        drop(listener);
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
    async fn ask(&self, query: &str) -> Value {
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
fn number(result: &Value) -> f64 {
    result[0]["value"][1].as_str().and_then(|number| number.parse().ok()).expect("the value of a sample")
}

async fn serve(registry: &Registry) -> String {
    let endpoint = MetricsEndpoint::new(registry).resource(resource());
    let router = axum::Router::new().fallback_service(endpoint);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Exemplars of a selector in the last hour.
fn exemplars(selector: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    format!("query_exemplars?query={selector}&start={}&end={}", now - 3600, now + 3600)
}

#[tokio::test]
async fn a_prometheus_scrapes_open_metrics_and_finds_our_trace() {
    let Some(program) = on_path("prometheus") else {
        return skip("prometheus");
    };
    let scraped = serve(&counted(MetricsConfig::default())).await;
    let server = Prometheus::start(&program, "open-metrics", &[&scraped], "exemplar-storage").await;

    assert_eq!(number(&server.ask("query?query=up").await), 1.0);
    let found = server.ask(&exemplars("charge_duration_seconds_bucket")).await;
    assert_eq!(found[0]["exemplars"][0]["labels"]["trace_id"], TRACE_ID);
    let median = server.ask("query?query=histogram_quantile(0.5,charge_duration_seconds_bucket)").await;
    assert!((0.075..=0.1).contains(&number(&median)), "{median}");
    assert_eq!(number(&server.ask("query?query=count(orders_placed_total==1e6)").await), AWKWARD.len() as f64);
    let target = server.ask("query?query=target_info").await;
    assert_eq!(target[0]["metric"]["service_name"], "shop");
}

#[cfg(feature = "native-histograms")]
#[tokio::test]
async fn a_prometheus_takes_native_histograms() {
    let Some(program) = on_path("prometheus") else {
        return skip("prometheus");
    };
    let scraped = serve(&counted(MetricsConfig::default().native_histograms(true))).await;
    // It asks for the protobuf format here, too, and gets buckets as ever.
    let without = serve(&counted(MetricsConfig::default())).await;
    let server =
        Prometheus::start(&program, "native", &[&scraped, &without], "exemplar-storage,native-histograms").await;

    assert_eq!(number(&server.ask("query?query=count(up==1)==2").await), 2.0);
    assert_eq!(number(&server.ask("query?query=histogram_count(charge_duration_seconds)").await), 8.0);
    let sum = number(&server.ask("query?query=histogram_sum(charge_duration_seconds)").await);
    assert!((sum - 20.94).abs() < 1e-9, "{sum}");
    // 84 and 85 ms lie between 2^(-29/8) and 2^(-28/8) seconds.
    let median = number(&server.ask("query?query=histogram_quantile(0.5,charge_duration_seconds)").await);
    assert!((0.081..=0.0885).contains(&median), "{median}");
    let found = server.ask(&exemplars("charge_duration_seconds")).await;
    assert_eq!(found[0]["exemplars"][0]["labels"]["trace_id"], TRACE_ID);
    let count = number(&server.ask("query?query=charge_duration_seconds_bucket{le='0.1'}").await);
    assert_eq!(count, 6.0);
    assert_eq!(number(&server.ask("query?query=count(orders_placed_total==1e6)").await), 2.0 * AWKWARD.len() as f64);
}
