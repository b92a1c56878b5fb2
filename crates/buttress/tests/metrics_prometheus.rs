//! The pages that Prometheus reads, letter by letter, and what must hold of them whatever is counted.
#![cfg(feature = "metrics")]

use std::time::Duration;

use buttress::context::{Context, TraceContext};
use buttress::metrics::export::Exposition;
use buttress::metrics::{Buckets, Point, Registry, Snapshot};
use proptest::prelude::*;

/// A counter, a gauge and a histogram, with an exemplar at a known time.
fn shop() -> Snapshot {
    let registry = Registry::new();
    let placed = registry.counter("orders.placed").unit("{order}").description("Orders \"accepted\"\nby a\\b");
    placed.with([("tenant", "a\"b\\c\nd")]).add(3);
    placed.with([("tenant", "acme")]).add(1_000_000);
    registry.gauge("queue.fill").unit("1").description("How full").with(()).set(0.25);
    registry.up_down_counter("queue.length").description("How long").with([("shard", 2)]).add(-4);
    let charge = registry.timer("charge.duration").description("Charging takes");
    let buckets = Buckets::durations([5, 250, 10_000].map(Duration::from_millis)).expect("they rise");
    let charge = charge.buckets(buckets).with([("card.kind", "debit")]);
    let trace = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("well formed");
    Context::from_trace(trace).enter(|| charge.record(Duration::from_millis(250)));
    charge.record(Duration::from_millis(5));
    charge.record(Duration::from_secs(11));
    let mut snapshot = registry.snapshot();
    let charge = snapshot.families.iter_mut().find(|family| &*family.name == "charge.duration").expect("it is counted");
    let Point::Histogram(point) = &mut charge.series[0].point else { unreachable!("a timer has buckets") };
    point.exemplars[1].as_mut().expect("the trace is sampled").unix_nanos = 1_700_000_000_012_999_999;
    snapshot
}

#[test]
fn the_text_page_is_this_one() {
    let page = Exposition::new(&shop()).resource(&[("service.name".to_owned(), "shop".to_owned())]).text();
    let expected = r##"
# HELP charge_duration_seconds Charging takes
# TYPE charge_duration_seconds histogram
charge_duration_seconds_bucket{card_kind="debit",le="0.005"} 1
charge_duration_seconds_bucket{card_kind="debit",le="0.25"} 2
charge_duration_seconds_bucket{card_kind="debit",le="10"} 2
charge_duration_seconds_bucket{card_kind="debit",le="+Inf"} 3
charge_duration_seconds_sum{card_kind="debit"} 11.255
charge_duration_seconds_count{card_kind="debit"} 3
# HELP orders_placed_total Orders "accepted"\nby a\\b
# TYPE orders_placed_total counter
orders_placed_total{tenant="a\"b\\c\nd"} 3
orders_placed_total{tenant="acme"} 1000000
# HELP queue_fill_ratio How full
# TYPE queue_fill_ratio gauge
queue_fill_ratio 0.25
# HELP queue_length How long
# TYPE queue_length gauge
queue_length{shard="2"} -4
# HELP target_info Target metadata
# TYPE target_info gauge
target_info{service_name="shop"} 1
"##;
    assert_eq!(page, expected.trim_start());
}

#[test]
fn the_open_metrics_page_is_this_one() {
    let page = Exposition::new(&shop()).resource(&[("service.name".to_owned(), "shop".to_owned())]).open_metrics();
    let expected = r##"
# TYPE charge_duration_seconds histogram
# UNIT charge_duration_seconds seconds
# HELP charge_duration_seconds Charging takes
charge_duration_seconds_bucket{card_kind="debit",le="0.005"} 1
charge_duration_seconds_bucket{card_kind="debit",le="0.25"} 2 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736",span_id="00f067aa0ba902b7"} 0.25 1700000000.012
charge_duration_seconds_bucket{card_kind="debit",le="10.0"} 2
charge_duration_seconds_bucket{card_kind="debit",le="+Inf"} 3
charge_duration_seconds_sum{card_kind="debit"} 11.255
charge_duration_seconds_count{card_kind="debit"} 3
# TYPE orders_placed counter
# HELP orders_placed Orders \"accepted\"\nby a\\b
orders_placed_total{tenant="a\"b\\c\nd"} 3
orders_placed_total{tenant="acme"} 1000000
# TYPE queue_fill_ratio gauge
# UNIT queue_fill_ratio ratio
# HELP queue_fill_ratio How full
queue_fill_ratio 0.25
# TYPE queue_length gauge
# HELP queue_length How long
queue_length{shard="2"} -4
# TYPE target info
# HELP target Target metadata
target_info{service_name="shop"} 1
# EOF
"##;
    assert_eq!(page, expected.trim_start());
}

#[test]
fn a_registry_in_which_nothing_was_counted_gives_a_page_all_the_same() {
    let snapshot = Registry::new().snapshot();
    assert_eq!(Exposition::new(&snapshot).text(), "");
    assert_eq!(Exposition::new(&snapshot).open_metrics(), "# EOF\n");
}

#[test]
fn metrics_that_become_one_name_are_one_when_they_are_of_one_kind() {
    let registry = Registry::new();
    registry.counter("jobs.done").description("First").with([("queue", "mail")]).add(1);
    registry.counter("jobs_done").description("Second").with([("queue", "mail")]).add(20);
    registry.counter("jobs_done").with([("queue", "print")]).add(300);
    let snapshot = registry.snapshot();
    let expected = "# HELP jobs_done_total First\n# TYPE jobs_done_total counter\n\
                    jobs_done_total{queue=\"mail\"} 1\njobs_done_total{queue=\"print\"} 300\n";
    assert_eq!(Exposition::new(&snapshot).text(), expected);
    assert!(Exposition::new(&snapshot).left_out().is_empty());
}

#[test]
fn of_two_kinds_with_one_name_the_later_is_left_out_and_counted() {
    let registry = Registry::new();
    registry.histogram("batch").with(()).record(1);
    registry.gauge("batch.sum").with(()).set(7.0);
    registry.counter("jobs.done").with(()).add(1);
    registry.gauge("jobs_done").with(()).set(2.0);
    registry.gauge("target.info").with(()).set(3.0);
    let snapshot = registry.snapshot();
    assert_eq!(Exposition::new(&snapshot).left_out(), ["batch.sum", "jobs_done"]);
    let resource = [("service.name".to_owned(), "shop".to_owned())];
    let exposition = Exposition::new(&snapshot).resource(&resource);
    assert_eq!(exposition.left_out(), ["batch.sum", "jobs_done", "target.info"]);
    let page = exposition.text();
    assert!(page.contains("\nbuttress_metrics_left_out 3\n"), "{page}");
    assert!(
        !page.contains("jobs_done 2") && !page.contains("batch_sum 7") && !page.contains("target_info 3"),
        "{page}"
    );
}

#[test]
fn a_gauge_that_is_called_as_the_sample_of_a_histogram_has_no_kind_where_its_lint_would_complain() {
    let registry = Registry::new();
    registry.up_down_counter("process.thread.count").unit("{thread}").with(()).add(7);
    registry.counter("orders.count").with(()).add(1);
    let snapshot = registry.snapshot();
    let text = "# TYPE orders_count_total counter\norders_count_total 1\n\
                # TYPE process_thread_count untyped\nprocess_thread_count 7\n";
    assert_eq!(Exposition::new(&snapshot).text(), text);
    let open_metrics = "# TYPE orders_count counter\norders_count_total 1\n\
                        # TYPE process_thread_count gauge\nprocess_thread_count 7\n# EOF\n";
    assert_eq!(Exposition::new(&snapshot).open_metrics(), open_metrics);
}

#[test]
fn every_ending_of_a_sample_of_histograms_takes_a_gauge_its_kind_and_no_other_ending_does() {
    let registry = Registry::new();
    for name in ["memory.bucket", "memory.count", "memory.sum", "memory.sums", "sum"] {
        registry.gauge(name).with(()).set(1.0);
    }
    let page = Exposition::new(&registry.snapshot()).text();
    let kinds: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(
        kinds,
        ["memory_bucket untyped", "memory_count untyped", "memory_sum untyped", "memory_sums gauge", "sum gauge"]
    );
}

#[test]
fn histograms_beside_each_other_keep_their_own_bounds() {
    let registry = Registry::new();
    for (name, bounds) in [("a", [1, 2]), ("b", [1, 2]), ("c", [3, 4]), ("d", [1, 2])] {
        let buckets = Buckets::values(bounds).expect("they rise");
        let family = registry.histogram(name).buckets(buckets);
        for series in 0..2 {
            family.with([("series", series)]).record(2);
        }
    }
    let page = Exposition::new(&registry.snapshot()).text();
    let told = |name: &str| -> Vec<String> {
        let bucket = format!("{name}_bucket{{series=\"1\",le=");
        page.lines().filter_map(|line| line.strip_prefix(&bucket)).map(str::to_owned).collect()
    };
    for name in ["a", "b", "d"] {
        assert_eq!(told(name), ["\"1\"} 0", "\"2\"} 1", "\"+Inf\"} 1"], "{name}");
    }
    assert_eq!(told("c"), ["\"3\"} 1", "\"4\"} 1", "\"+Inf\"} 1"]);
}

#[test]
fn a_name_that_is_nothing_but_its_unit_has_no_unit_in_open_metrics() {
    let registry = Registry::new();
    registry.gauge("seconds").unit("s").with(()).set(1.5);
    let page = Exposition::new(&registry.snapshot()).open_metrics();
    assert_eq!(page, "# TYPE seconds gauge\nseconds 1.5\n# EOF\n");
}

#[test]
fn keys_that_become_one_label_have_their_values_joined() {
    let registry = Registry::new();
    registry.counter("hits").with([("user_agent", "z"), ("user.agent", "a")]).add(1);
    assert!(Exposition::new(&registry.snapshot()).text().ends_with("hits_total{user_agent=\"a;z\"} 1\n"));
}

/// Label names and values of a line, by the grammar of the format and nothing else.
fn labels_of(line: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = line.split_once('{').expect("there are labels").1;
    while !rest.starts_with('}') {
        let (name, after) = rest.split_once("=\"").expect("a name and a value");
        let mut value = String::new();
        let mut letters = after.chars();
        loop {
            match letters.next().expect("the value ends") {
                '"' => break,
                '\\' => match letters.next().expect("something is escaped") {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                letter => value.push(letter),
            }
        }
        labels.push((name.to_owned(), value));
        rest = letters.as_str();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

proptest! {
    #[test]
    fn a_label_is_read_back_as_it_was_whatever_it_is(value in "(?s).{1,20}", help in "(?s).{0,20}") {
        let registry = Registry::new();
        registry.counter("hits").description(help).with([("key", value.as_str())]).add(1);
        let snapshot = registry.snapshot();
        for page in [Exposition::new(&snapshot).text(), Exposition::new(&snapshot).open_metrics()] {
            let samples: Vec<&str> = page.split('\n').filter(|line| line.starts_with("hits_total")).collect();
            prop_assert_eq!(samples.len(), 1);
            prop_assert_eq!(labels_of(samples[0]), [("key".to_owned(), value.clone())]);
            prop_assert!(page.ends_with('\n') && !page.contains("\n\n"));
        }
    }

    #[test]
    fn whatever_is_counted_no_line_is_there_twice(
        counted in prop::collection::vec(("[a.b_]{1,3}", "(s|By|)", 0..4_u8, "[xy.]{1,2}", "[a-c\"\\\\\n]{0,2}"), 1..20),
    ) {
        let registry = Registry::new();
        for (name, unit, kind, key, value) in counted {
            let labels = [(key.as_str(), value.as_str())];
            match kind {
                0 => registry.counter(&name).unit(unit).with(labels).add(1),
                1 => registry.gauge(&name).unit(unit).with(labels).set(1.5),
                2 => registry.up_down_counter(&name).unit(unit).with(labels).add(-1),
                _ => registry.histogram(&name).unit(unit).with(labels).record(70),
            }
        }
        let snapshot = registry.snapshot();
        for page in [Exposition::new(&snapshot).text(), Exposition::new(&snapshot).open_metrics()] {
            let mut named: Vec<&str> =
                page.lines().map(|line| line.rsplit_once(' ').expect("a number, a kind, or EOF").0).collect();
            named.sort_unstable();
            let all = named.len();
            named.dedup();
            prop_assert_eq!(named.len(), all, "{}", page);
        }
    }
}
