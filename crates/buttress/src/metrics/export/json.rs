//! The pages for people and scripts, as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::metrics::source::{RuntimeLag, RuntimeMonitor, StreamKind, cache_totals, stream_totals};
use crate::metrics::{FamilySnapshot, HistogramPoint, Overflowed, Performance, Point, Registry, Snapshot, WindowUsage};

/// The page `/diagnostics/metrics`: a service in thirty numbers.
///
/// Counts are since the start; latencies, rates and the lag are of the sliding window.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    total_requests: u64,
    active_requests: u64,
    requests_per_second: f64,
    error_rate: f64,
    avg_latency_ms: Option<f64>,
    p50_latency_ms: Option<f64>,
    p90_latency_ms: Option<f64>,
    p95_latency_ms: Option<f64>,
    p99_latency_ms: Option<f64>,
    max_latency_ms: Option<f64>,
    apdex: Option<f64>,
    window_seconds: f64,
    /// By upper bound in milliseconds, each with the requests that took no longer.
    #[serde(serialize_with = "as_object")]
    latency_histogram: Vec<(String, u64)>,
    cache: Cache,
    event_loop: EventLoop,
    websocket: Websocket,
    overflowed: Vec<Refused>,
    conflicts: Vec<String>,
    windows: Windows,
}

#[derive(Clone, Debug, Serialize)]
struct Cache {
    hits: u64,
    misses: u64,
    evictions: u64,
    hit_rate: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct EventLoop {
    monitoring_active: bool,
    avg_lag_ms: f64,
    p50_lag_ms: f64,
    p95_lag_ms: f64,
    p99_lag_ms: f64,
    max_lag_ms: f64,
    stalls: u64,
    stuck_workers: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Websocket {
    open_connections_estimate: u64,
    messages_sent: u64,
    messages_received: u64,
}

/// A bounded set that was too small.
#[derive(Clone, Debug, Serialize)]
struct Refused {
    metric: String,
    label: &'static str,
    count: u64,
    top: Vec<(String, u64)>,
}

#[derive(Clone, Debug, Serialize)]
struct Windows {
    bytes: usize,
    budget: usize,
    windows: usize,
    coarsened: bool,
    rounded: usize,
    sharing: usize,
}

/// The page `/diagnostics/performance`: every route, and what the process and its runtime are doing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    server: Performance,
    client: Performance,
    event_loop: EventLoop,
    /// Gauges and counters of the process, the system and the runtime, by name and labels.
    process: BTreeMap<String, f64>,
}

/// How the names of those begin.
const PROCESS: [&str; 6] =
    ["process.", "system.", "container.", "buttress.runtime.", "buttress.process.", "buttress.cgroup."];

impl Summary {
    pub(crate) fn of(registry: &Registry) -> Self {
        let snapshot = registry.snapshot();
        let Performance { total_requests, active_requests, window, .. } = registry.performance();
        let cache = cache_totals(&snapshot);
        let websocket = stream_totals(&snapshot, StreamKind::Websocket);
        Self {
            total_requests,
            active_requests,
            requests_per_second: window.rate,
            error_rate: window.error_rate,
            avg_latency_ms: window.avg_ms,
            p50_latency_ms: window.p50_ms,
            p90_latency_ms: window.p90_ms,
            p95_latency_ms: window.p95_ms,
            p99_latency_ms: window.p99_ms,
            max_latency_ms: window.max_ms,
            apdex: window.apdex,
            window_seconds: window.seconds,
            latency_histogram: latencies(&registry.duration_bounds(), &snapshot),
            cache: Cache {
                hits: cache.hits,
                misses: cache.misses,
                evictions: cache.evictions,
                hit_rate: cache.hit_ratio,
            },
            event_loop: EventLoop::of(registry),
            websocket: Websocket {
                open_connections_estimate: websocket.open,
                messages_sent: websocket.messages_out,
                messages_received: websocket.messages_in,
            },
            overflowed: snapshot.overflowed.iter().map(Refused::of).collect(),
            conflicts: snapshot.conflicts,
            windows: Windows::of(snapshot.windows),
        }
    }
}

impl Report {
    pub(crate) fn of(registry: &Registry) -> Self {
        Self {
            server: registry.performance(),
            client: registry.client_performance(),
            event_loop: EventLoop::of(registry),
            process: numbers(&registry.snapshot(), &PROCESS),
        }
    }
}

impl EventLoop {
    fn of(registry: &Registry) -> Self {
        let lag = RuntimeMonitor::of(registry).map_or_else(RuntimeLag::default, |monitor| monitor.lag());
        // Divided, so that 65 us is told as 0.065 and not as 0.06499999999999999.
        let millis = |duration: Duration| duration.as_micros() as f64 / 1e3;
        Self {
            monitoring_active: lag.monitoring_active,
            avg_lag_ms: millis(lag.average),
            p50_lag_ms: millis(lag.p50),
            p95_lag_ms: millis(lag.p95),
            p99_lag_ms: millis(lag.p99),
            max_lag_ms: millis(lag.max),
            stalls: lag.stalls,
            stuck_workers: lag.stuck_workers,
        }
    }
}

impl Refused {
    fn of(overflowed: &Overflowed) -> Self {
        Self {
            metric: overflowed.metric.to_string(),
            label: overflowed.label,
            count: overflowed.count,
            top: overflowed.top.iter().map(|offender| (offender.value.clone(), offender.count)).collect(),
        }
    }
}

impl Windows {
    fn of(WindowUsage { bytes, budget, windows, coarsened, rounded, sharing }: WindowUsage) -> Self {
        Self { bytes, budget, windows, coarsened, rounded, sharing }
    }
}

/// In their order, which a sorted map would lose: "100" before "25".
fn as_object<S: Serializer>(pairs: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// All served requests, over every label: HTTP and RPC have the same bounds. Every bound is there from the start.
fn latencies(bounds: &[f64], snapshot: &Snapshot) -> Vec<(String, u64)> {
    let names = ["http.server.request.duration", "rpc.server.call.duration"];
    let served = snapshot.families.iter().filter(|family| names.contains(&&*family.name));
    let points: Vec<&HistogramPoint> = served.flat_map(histograms).collect();
    // To the microsecond, so that 0.3 ms is not told as 0.30000000000000004.
    let millis = |bound: &f64| ((bound * 1e6).round() / 1e3).to_string();
    let names = bounds.iter().map(millis).chain(["+Inf".to_owned()]);
    let mut up_to = 0;
    let counts = (0..=bounds.len()).map(|bucket| {
        up_to += points.iter().map(|point| point.counts[bucket]).sum::<u64>();
        up_to
    });
    names.zip(counts).collect()
}

fn histograms(family: &FamilySnapshot) -> impl Iterator<Item = &HistogramPoint> {
    family.series.iter().filter_map(|series| match &series.point {
        Point::Histogram(point) => Some(point),
        _ => None,
    })
}

fn numbers(snapshot: &Snapshot, prefixes: &[&str]) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for family in
        snapshot.families.iter().filter(|family| prefixes.iter().any(|prefix| family.name.starts_with(prefix)))
    {
        for series in &family.series {
            let value = match &series.point {
                Point::Int(number) => *number as f64,
                Point::Float(number) => *number,
                Point::Histogram(_) => continue,
            };
            let labels: Vec<String> =
                series.labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
            let key = if labels.is_empty() {
                family.name.to_string()
            } else {
                format!("{}{{{}}}", family.name, labels.join(","))
            };
            numbers.insert(key, value);
        }
    }
    numbers
}
