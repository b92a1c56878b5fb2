//! The metrics of the running shop, as a Prometheus, promtool and a strict parser see them.

use std::process::Stdio;

use buttress_tests::peers::{PATIENCE, Prometheus, STRICT, exemplars, number, on_path, python_with, read_by};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// A shop under load, open until it is dropped.
struct Shop {
    address: String,
    _child: Child,
    // A shop that cannot speak any more would end.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Shop {
    async fn open() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
        command.env_clear().env("PORT", "0").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = timeout(PATIENCE, stdout.next_line()).await.expect("speaks in time").expect("reads");
        let first = first.expect("says where it is");
        let url = first.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        Self { address: url.expect("an URL").to_owned(), _child: child, _stdout: stdout }
    }

    async fn get(&self, path: &str, accept: &str) -> String {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request = Request::get(format!("http://{}{path}", self.address)).header("accept", accept);
        let request = request.body(Full::default()).expect("a request");
        let answer = timeout(PATIENCE, client.request(request)).await.expect("in time").expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        String::from_utf8(answer.into_body().collect().await.expect("a body").to_bytes().into()).expect("text")
    }
}

#[tokio::test]
async fn a_prometheus_that_scrapes_the_shop_finds_one_of_its_traces() {
    let Some(program) = on_path("prometheus") else { return };
    let shop = Shop::open().await;
    let folder = env!("CARGO_TARGET_TMPDIR");
    let prometheus = Prometheus::start(&program, folder, "shop", &[&shop.address], "exemplar-storage").await;

    let requests = "query?query=sum(http_server_request_duration_seconds_count{http_route='/orders'})>0";
    assert!(number(&prometheus.ask(requests).await) > 0.0);
    let found = prometheus.ask(&exemplars("http_server_request_duration_seconds_bucket")).await;
    let labels = &found[0]["exemplars"][0]["labels"];
    let trace = labels["trace_id"].as_str().expect("a trace id");
    let spans = shop.get(&format!("/debug/traces/{trace}"), "*/*").await;
    let spans: Value = serde_json::from_str(&spans).expect("JSON");
    let spans = spans.as_array().expect("spans");
    assert!(spans.iter().any(|span| span["spanId"] == labels["span_id"]), "{labels} in {spans:#?}");
    let quantile = "query?query=histogram_quantile(0.95,sum(http_server_request_duration_seconds_bucket)by(le))>0";
    assert!(number(&prometheus.ask(quantile).await) > 0.0);
    assert_eq!(prometheus.ask("query?query=target_info").await[0]["metric"]["service_name"], "storefront");
}

#[tokio::test]
async fn promtool_has_nothing_to_say_to_the_pages_of_the_shop() {
    let Some(promtool) = on_path("promtool") else { return };
    let shop = Shop::open().await;
    for path in ["/metrics", "/inventory/metrics", "/payments/metrics"] {
        let page = shop.get(path, "text/plain").await;
        let (code, said) = read_by(&promtool, &["check", "metrics"], &page).await;
        assert_eq!((code, &*said), (Some(0), ""), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_strict_parser_of_python_reads_the_page_of_the_shop() {
    let Some(python) = python_with("prometheus_client").await else { return };
    let shop = Shop::open().await;
    // The first tick is a thread's, which may not have come yet.
    let page = loop {
        let page = shop.get("/metrics", "application/openmetrics-text;version=1.0.0").await;
        if page.contains("process_cpu_time_seconds") {
            break page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let (code, said) = read_by(&python, &["-c", STRICT], &page).await;
    assert_eq!(code, Some(0), "{said}");
    let samples: Vec<Value> = serde_json::from_str(&said).expect("JSON");
    assert!(samples.iter().any(|sample| sample["family"] == "process_cpu_time_seconds"), "{page}");
}

#[tokio::test]
async fn the_summary_of_the_shop_counts_its_requests() {
    let shop = Shop::open().await;
    let page: Value = serde_json::from_str(&shop.get("/diagnostics/metrics", "*/*").await).expect("JSON");
    assert_eq!(page["event_loop"]["monitoring_active"], true, "{page}");
    let routes = shop.get("/payments/diagnostics/performance", "*/*").await;
    let routes: Value = serde_json::from_str(&routes).expect("JSON");
    assert!(routes["server"]["routes"].is_array(), "{routes}");
}
