//! The metrics of the running shop, as a Prometheus, promtool and a strict parser see them.

mod rig;

use buttress_tests::peers::{Prometheus, STRICT, exemplars, number, on_path, python_with, read_by};
use serde_json::Value;

use rig::Open;

#[tokio::test]
async fn a_prometheus_that_scrapes_the_shop_finds_one_of_its_traces() {
    let Some(program) = on_path("prometheus") else { return };
    let shop = Open::start().await;
    let folder = env!("CARGO_TARGET_TMPDIR");
    let prometheus =
        Prometheus::start(&program, folder, "shop", &[shop.url.trim_start_matches("http://")], "exemplar-storage")
            .await;

    let requests = "query?query=sum(http_server_request_duration_seconds_count{http_route='/orders'})>0";
    assert!(number(&prometheus.ask(requests).await) > 0.0);
    let found = prometheus.ask(&exemplars("http_server_request_duration_seconds_bucket")).await;
    let labels = &found[0]["exemplars"][0]["labels"];
    let trace = labels["trace_id"].as_str().expect("a trace id");
    let spans = shop.text(&format!("/debug/traces/{trace}"), "*/*").await;
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
    let shop = Open::start().await;
    for path in ["/metrics", "/inventory/metrics", "/payments/metrics"] {
        // The numbers of the process come with the first tick, which is a thread's.
        let page = shop.text_once(path, "text/plain", |page| page.contains("\nprocess_thread_count ")).await;
        let (code, said) = read_by(&promtool, &["check", "metrics"], &page).await;
        assert_eq!((code, &*said), (Some(0), ""), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_strict_parser_of_python_reads_the_page_of_the_shop() {
    let Some(python) = python_with("prometheus_client").await else { return };
    let shop = Open::start().await;
    let ticked = |page: &str| page.contains("process_cpu_time_seconds");
    let page = shop.text_once("/metrics", "application/openmetrics-text;version=1.0.0", ticked).await;
    let (code, said) = read_by(&python, &["-c", STRICT], &page).await;
    assert_eq!(code, Some(0), "{said}");
    let samples: Vec<Value> = serde_json::from_str(&said).expect("JSON");
    assert!(samples.iter().any(|sample| sample["family"] == "process_cpu_time_seconds"), "{page}");
}

#[tokio::test]
async fn the_summary_of_the_shop_counts_its_requests() {
    let shop = Open::start().await;
    let page: Value = serde_json::from_str(&shop.text("/diagnostics/metrics", "*/*").await).expect("JSON");
    assert_eq!(page["event_loop"]["monitoring_active"], true, "{page}");
    let routes = shop.text("/payments/diagnostics/performance", "*/*").await;
    let routes: Value = serde_json::from_str(&routes).expect("JSON");
    assert!(routes["server"]["routes"].is_array(), "{routes}");
    // A V2 histogram, deflated and in base64, as HdrHistogram's tools read it; none before the first order was charged.
    let json = |page: &str| serde_json::from_str::<Value>(page).expect("JSON");
    let has_charged = |page: &str| json(page)["server"]["window"]["requests"] != 0;
    let charged = json(&shop.text_once("/payments/diagnostics/performance", "*/*", has_charged).await);
    let histogram = charged["server"]["window"]["hdr_v2"].as_str().unwrap_or_default();
    assert!(histogram.starts_with("HISTF"), "{charged}");
}

#[tokio::test]
async fn the_sizes_of_bodies_are_told_both_ways() {
    let shop = Open::start().await;
    let has_order = |page: &str| page.contains("http_server_request_body_size_bytes_count{");
    let page = shop.text_once("/metrics", "text/plain", has_order).await;
    for name in ["request", "response"] {
        let sum = format!("http_server_{name}_body_size_bytes_sum{{");
        let of_orders = |line: &&str| line.starts_with(&sum) && line.contains("http_route=\"/orders\"");
        let bytes: f64 =
            page.lines().find(of_orders).and_then(|line| line.split(' ').next_back()?.parse().ok()).unwrap();
        assert!(bytes > 0.0, "{page}");
    }
}

#[tokio::test]
async fn circuits_and_retries_of_both_clients_are_among_the_metrics() {
    let shop = Open::start().await;
    let families = ["buttress_circuit_breaker_calls_total{", "buttress_retry_budget_balance{"];
    let has_calls = |page: &str| families.iter().all(|family| page.contains(family));
    let page = shop.text_once("/metrics", "text/plain", has_calls).await;
    let samples = |name: &str, labels: &[&str]| {
        let of_it = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        page.lines().filter(of_it).count()
    };
    for service in ["payments", "inventory"] {
        let circuit = format!("buttress_circuit_breaker_name=\"{service}\"");
        let client = format!("buttress_retry_client=\"{service}\"");
        assert_eq!(samples("buttress_circuit_breaker_state{", &[&circuit]), 1, "{page}");
        assert_eq!(samples("buttress_circuit_breaker_in_state{", &[&circuit, "=\"half_open\""]), 1, "{page}");
        assert_eq!(samples("buttress_circuit_breaker_calls_total{", &[&circuit, "=\"rejected\""]), 1, "{page}");
        assert_eq!(samples("buttress_retry_repeats_total{", &[&client, "=\"status\""]), 1, "{page}");
        assert_eq!(samples("buttress_retry_budget_balance{", &[&client]), 1, "{page}");
    }
}
