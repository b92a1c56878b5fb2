//! How a service has done in the last minutes, as people read it: routes, percentiles in milliseconds, Apdex.

use std::time::Duration;

use serde::Serialize;

use super::buckets::nanos;
use super::requests::{Ended, Requests, RouteSeries};
use crate::classify::Outcome;
use crate::clock::Instant;
use crate::window::Distribution;

/// The requests of one side; of [`Registry::performance`](super::Registry::performance).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Performance {
    /// Requests that have ended since the start.
    pub total_requests: u64,
    /// Those among them that failed or panicked.
    pub total_errors: u64,
    /// Those among them whose callers went away.
    pub total_cancelled: u64,
    /// Requests under way.
    pub active_requests: u64,
    /// The last minutes.
    pub window: Latency,
    /// Each route, the one with the most requests in the window first.
    pub routes: Vec<RoutePerformance>,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoutePerformance {
    /// The template, or gRPC's service and method; `None` for requests that no route matched.
    pub route: Option<String>,
    /// Requests that have ended since the start, by how they ended: `complete`, `dropped_in_body`, ...
    pub endings: std::collections::BTreeMap<&'static str, u64>,
    /// The last minutes.
    pub window: Latency,
}

/// What the latencies of the window were. Streams are not among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// How much time it tells of.
    pub seconds: f64,
    /// Requests.
    pub requests: u64,
    /// Requests a second.
    pub rate: f64,
    /// The part of them that failed or panicked, 0 to 1.
    pub error_rate: f64,
    /// Mean; `None` when there was no request.
    pub avg_ms: Option<f64>,
    /// Median.
    pub p50_ms: Option<f64>,
    /// 90 % took no longer.
    pub p90_ms: Option<f64>,
    /// 95 % took no longer.
    pub p95_ms: Option<f64>,
    /// 99 % took no longer.
    pub p99_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
    /// Apdex for the target of the registry.
    pub apdex: Option<f64>,
    /// All of it in microseconds as an HdrHistogram, V2 with DEFLATE in base64, to be merged with that of other instances;
    /// `None` when there was no request.
    #[cfg(feature = "hdr-v2")]
    pub hdr_v2: Option<String>,
}

pub(super) fn of(requests: &Requests, apdex_target: Duration, now: Instant) -> Performance {
    let mut all: Option<Distribution> = None;
    let ended = requests.ended();
    let mut this = Performance { active_requests: requests.active_count(&ended), ..Performance::default() };
    for route in requests.routes() {
        let seen = route.window.read(now);
        for (_, outcome, count) in ended.of(route) {
            this.total_requests += count;
            match outcome {
                Outcome::Error | Outcome::Panicked | Outcome::TimedOut => this.total_errors += count,
                Outcome::Cancelled => this.total_cancelled += count,
                Outcome::Ok => {}
            }
        }
        this.routes.push(of_route(route, &ended, &seen, apdex_target));
        match &mut all {
            Some(all) => all.merge(&seen),
            None => all = Some(seen),
        }
    }
    this.window = all.map(|all| latency(&all, apdex_target)).unwrap_or_default();
    this.routes.sort_by(|one, other| {
        other.window.requests.cmp(&one.window.requests).then_with(|| one.route.cmp(&other.route))
    });
    this
}

fn of_route(route: &RouteSeries, ended: &Ended, seen: &Distribution, apdex_target: Duration) -> RoutePerformance {
    let mut endings = std::collections::BTreeMap::new();
    for (ending, _, count) in ended.of(route) {
        *endings.entry(ending.as_str()).or_default() += count;
    }
    let template = route.template.as_ref().map(|template| template.to_string());
    RoutePerformance { route: template, endings, window: latency(seen, apdex_target) }
}

fn latency(seen: &Distribution, apdex_target: Duration) -> Latency {
    let millis = |micros: u64| micros as f64 / 1e3;
    let quantile = |quantile| seen.quantile(quantile).map(millis);
    Latency {
        seconds: seen.covers().as_secs_f64(),
        requests: seen.count(),
        rate: seen.rate(),
        error_rate: seen.error_ratio(),
        avg_ms: seen.mean().map(|micros| micros / 1e3),
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p95_ms: quantile(0.95),
        p99_ms: quantile(0.99),
        max_ms: seen.max().map(millis),
        apdex: seen.apdex(nanos(apdex_target) / 1000),
        #[cfg(feature = "hdr-v2")]
        hdr_v2: (seen.count() > 0).then(|| seen.to_hdr_v2()),
    }
}
