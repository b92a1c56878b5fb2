//! Programs of others read our pages: `promtool`, Python's `prometheus_client` and a Prometheus server, from `PATH`.

use std::time::Duration;

use buttress::context::{Context, TraceContext};
use buttress::metrics::export::Exposition;
use buttress::metrics::{MetricsConfig, MetricsEndpoint, Registry};
use buttress_tests::peers::{Prometheus, STRICT, exemplars, number, on_path, python_with, read_by};
use serde_json::Value;
use tokio::net::TcpListener;

const TEMPORARY: &str = env!("CARGO_TARGET_TMPDIR");
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Label values that have broken somebody's parser before.
const AWKWARD: [&str; 8] = ["plain", "a\"b", "a\\", "\\n", "a\nb", "{le=\"1\"} 5 # {}", "\r\t\u{1f}", "naïve 🦀 ,=;"];

/// Something of every kind, each described as lints want it, and a trace among the durations.
fn counted(config: MetricsConfig) -> Registry {
    let registry = Registry::with_config(config);
    let placed = registry.counter("orders.placed").description("Orders that were \"accepted\"\nby a\\b");
    AWKWARD.iter().for_each(|tenant| placed.with([("tenant.id", *tenant)]).add(1_000_000));
    registry.time_counter("process.cpu.time").description("Time on processors").with([("cpu.mode", "user")]);
    registry.gauge("queue.fill").unit("1").description("How full the queue is").with(()).set(f64::NAN);
    registry.gauge("queue.oldest").unit("s").description("How old the oldest job is").with(()).set(1.5e9);
    registry.up_down_counter("queue.waiting").unit("{job}").description("Jobs that wait").with([("shard", 2)]).add(-4);
    // OpenTelemetry's name, with an ending that histograms have.
    registry.up_down_counter("process.thread.count").unit("{thread}").description("Threads").with(()).add(7);
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

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_text_page() {
    let Some(promtool) = on_path("promtool") else { return };
    let snapshot = counted(MetricsConfig::default()).snapshot();
    let page = Exposition::new(&snapshot).resource(&resource()).text();
    let (code, said) = read_by(&promtool, &["check", "metrics"], &page).await;
    // 1 would be a page that cannot be read, 3 one that offends a lint.
    assert_eq!((code, &*said), (Some(0), ""), "{page}");
}

#[tokio::test]
async fn the_strict_parser_of_python_reads_what_was_counted() {
    let Some(python) = python_with("prometheus_client").await else { return };
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
    assert_eq!(
        (&of("process_thread_count")[0]["type"], &of("process_thread_count")[0]["value"]),
        (&"gauge".into(), &"7".into())
    );
    assert_eq!(samples.len(), AWKWARD.len() * (1 + 11 + 2) + 5 + (15 + 2) + 2);
}

async fn serve(registry: &Registry) -> String {
    let endpoint = MetricsEndpoint::new(registry).resource(resource());
    let router = axum::Router::new().fallback_service(endpoint);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn a_prometheus_scrapes_open_metrics_and_finds_our_trace() {
    let Some(program) = on_path("prometheus") else { return };
    let scraped = serve(&counted(MetricsConfig::default())).await;
    let server = Prometheus::start(&program, TEMPORARY, "open-metrics", &[&scraped], "exemplar-storage").await;

    assert_eq!(number(&server.ask("query?query=up").await), 1.0);
    let found = server.ask(&exemplars("charge_duration_seconds_bucket")).await;
    assert_eq!(found[0]["exemplars"][0]["labels"]["trace_id"], TRACE_ID);
    let median = server.ask("query?query=histogram_quantile(0.5,charge_duration_seconds_bucket)").await;
    assert!((0.075..=0.1).contains(&number(&median)), "{median}");
    assert_eq!(number(&server.ask("query?query=count(orders_placed_total==1e6)").await), AWKWARD.len() as f64);
    let target = server.ask("query?query=target_info").await;
    assert_eq!(target[0]["metric"]["service_name"], "shop");
}

#[tokio::test]
async fn a_prometheus_takes_native_histograms() {
    let Some(program) = on_path("prometheus") else { return };
    let scraped = serve(&counted(MetricsConfig::default().native_histograms(true))).await;
    // It asks for the protobuf format here, too, and gets buckets as ever.
    let without = serve(&counted(MetricsConfig::default())).await;
    let server =
        Prometheus::start(&program, TEMPORARY, "native", &[&scraped, &without], "exemplar-storage,native-histograms")
            .await;

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
