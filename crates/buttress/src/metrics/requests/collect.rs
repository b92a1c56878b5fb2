//! From the series of requests to families with the names of OpenTelemetry's conventions.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::instrument::Kind;
use super::super::labels::Label;
use super::super::measure::Measure;
use super::super::series::HistogramSeries;
use super::super::snapshot::{FamilySnapshot, Overflowed, Point, SeriesSnapshot};
use super::{Beginning, Ended, Failure, Interned, Key, Requests, Scheme, Side};
use crate::observe::peer;

/// The names of one side.
struct Names {
    duration: &'static str,
    active: &'static str,
    body_size: &'static str,
    request_body_size: &'static str,
    rpc_duration: &'static str,
    requests: &'static str,
    first_byte: &'static str,
    body: &'static str,
}

const SERVER: Names = Names {
    duration: "http.server.request.duration",
    active: "http.server.active_requests",
    body_size: "http.server.response.body.size",
    request_body_size: "http.server.request.body.size",
    rpc_duration: "rpc.server.call.duration",
    requests: "buttress.http.server.requests",
    first_byte: "buttress.http.server.time_to_first_byte",
    body: "buttress.http.server.response.body.duration",
};

const CLIENT: Names = Names {
    duration: "http.client.request.duration",
    active: "http.client.active_requests",
    body_size: "http.client.response.body.size",
    request_body_size: "http.client.request.body.size",
    rpc_duration: "rpc.client.call.duration",
    requests: "buttress.http.client.requests",
    first_byte: "buttress.http.client.time_to_first_byte",
    body: "buttress.http.client.response.body.duration",
};

impl Side {
    fn names(self) -> &'static Names {
        match self {
            Self::Server => &SERVER,
            Self::Client => &CLIENT,
        }
    }
}

impl Requests {
    /// The attributes of the conventions.
    pub(super) fn labels(&self, key: &Key) -> Arc<[Label]> {
        let mut labels = self.route_labels(key, Some(key.scheme));
        let mut push = |name: &'static str, value: Option<String>| {
            labels.extend(value.map(|value| Label::new(name, value)));
        };
        let error = match key.failure {
            Failure::Named(name) => self.errors.text(name).map(|name| name.to_string()),
            _ => key.status_text(),
        };
        push("error.type", error);
        if key.is_grpc {
            push("rpc.status_code", key.grpc_code.map(|code| code.as_str().to_owned()));
        } else {
            push("url.scheme", Some(key.scheme.as_str().to_owned()));
            push("network.protocol.version", key.version_text().map(str::to_owned));
            let status = key.status.map(|status| Label::new("http.response.status_code", i64::from(status.as_u16())));
            labels.extend(status);
        }
        labels.into()
    }

    pub(super) fn request_labels(&self, key: &Key) -> Arc<[Label]> {
        let mut labels = self.route_labels(key, Some(key.scheme));
        if !key.is_grpc {
            labels.push(Label::new("url.scheme", key.scheme.as_str()));
        }
        labels.into()
    }

    pub(super) fn method_labels(&self, key: &Key) -> Arc<[Label]> {
        self.route_labels(key, None).into()
    }

    /// Of a request that has begun.
    pub(super) fn beginning_labels(&self, began: Beginning) -> Arc<[Label]> {
        let method = Label::new("http.request.method", self.method_text(began.method));
        let scheme = Label::new("url.scheme", began.scheme.as_str());
        [method, scheme].into_iter().chain(self.host_labels(began.host, Some(began.scheme))).collect()
    }

    fn route_labels(&self, key: &Key, scheme: Option<Scheme>) -> Vec<Label> {
        let mut labels = Vec::new();
        let route = self.template(key).map(|route| route.to_string());
        if key.is_grpc {
            labels.push(Label::new("rpc.system.name", "grpc"));
            labels.push(Label::new("rpc.method", route.unwrap_or_else(|| "_OTHER".to_owned())));
        } else {
            labels.push(Label::new("http.request.method", self.method_text(key.method)));
            labels.extend(route.map(|route| Label::new("http.route", route)));
        }
        labels.extend(self.host_labels(key.host, scheme));
        labels
    }

    /// A client that names no port means that of the scheme. Those that are not told apart have any.
    fn host_labels(&self, host: Interned, scheme: Option<Scheme>) -> Vec<Label> {
        let is_other = host == Interned::OTHER;
        let Some(host) = self.hosts.text(host) else {
            return Vec::new();
        };
        let (address, port) = peer::split_port(&host);
        let scheme = scheme.filter(|_| self.side == Side::Client && !is_other);
        let usual = || peer::default_port(scheme?.as_str());
        let port = port.or_else(usual).map(|port| Label::new("server.port", i64::from(port)));
        [Label::new("server.address", address.to_owned())].into_iter().chain(port).collect()
    }
}

pub(super) fn families(requests: &Requests) -> Vec<FamilySnapshot> {
    let names = requests.side.names();
    // Once, so that what is under way and what has ended make up what began.
    let ended = requests.ended();
    let mut families = vec![
        exchanges(requests, names.duration, false),
        exchanges(requests, names.rpc_duration, true),
        body_sizes(requests, names.body_size),
        request_body_sizes(requests, names.request_body_size),
        active(requests, &ended, names.active),
        endings(requests, &ended, names.requests),
    ];
    let first_byte = "Time until the head of the answer";
    families.push(by_method(requests, names.first_byte, first_byte, |series| &series.first_byte));
    families.push(by_method(requests, names.body, "Time from the head of the answer to its last byte", |series| {
        &series.body
    }));
    families.retain(|family| !family.series.is_empty());
    families
}

pub(super) fn overflowed(requests: &Requests) -> Vec<Overflowed> {
    let Names { duration, active, .. } = *requests.side.names();
    let of_hosts = Overflowed::of(&active.into(), "", &requests.hosts_overflow);
    let name = duration.into();
    [
        ("http.route", &requests.routes.overflow),
        ("rpc.method", &requests.rpc_methods.overflow),
        ("server.address", &requests.hosts.overflow),
        ("error.type", &requests.errors.overflow),
        ("http.request.method", &requests.unknown_methods),
        ("", &requests.overflow),
    ]
    .into_iter()
    .filter_map(|(label, overflow)| Overflowed::of(&name, label, overflow))
    .chain(of_hosts)
    .collect()
}

fn exchanges(requests: &Requests, name: &'static str, is_grpc: bool) -> FamilySnapshot {
    let bounds = Measure::Time.bounds(&requests.config.duration_buckets);
    let series = requests
        .exchange_series()
        .filter(|series| series.by_method.route.is_grpc == is_grpc)
        .filter_map(|series| histogram(&series.labels, &series.duration, &bounds, Measure::Time));
    let series = if is_grpc { merged(series) } else { series.collect() };
    let what = match (requests.side, is_grpc) {
        (Side::Server, false) => "Duration of HTTP server requests",
        (Side::Client, false) => "Duration of HTTP client requests",
        (Side::Server, true) => "Duration of RPC server calls",
        (Side::Client, true) => "Duration of RPC client calls",
    };
    family(name, what, "s", Kind::Histogram, series)
}

fn body_sizes(requests: &Requests, name: &'static str) -> FamilySnapshot {
    let bounds = Measure::Plain.bounds(&requests.config.size_buckets);
    let series = requests
        .exchange_series()
        .filter(|series| !series.by_method.route.is_grpc)
        .filter_map(|series| histogram(&series.labels, &series.body_size, &bounds, Measure::Plain))
        .collect();
    family(name, "Size of the answers' bodies, as they were passed on", "By", Kind::Histogram, series)
}

fn request_body_sizes(requests: &Requests, name: &'static str) -> FamilySnapshot {
    let bounds = Measure::Plain.bounds(&requests.config.size_buckets);
    let series = requests.bodies.iter().map(|(_, series)| series).chain(requests.bodies_beyond.get());
    let series = series.filter_map(|series| histogram(&series.labels, &series.size, &bounds, Measure::Plain)).collect();
    family(name, "Size of the requests' bodies, as they were read", "By", Kind::Histogram, series)
}

fn by_method(
    requests: &Requests,
    name: &'static str,
    description: &'static str,
    of: fn(&super::MethodSeries) -> &HistogramSeries,
) -> FamilySnapshot {
    let bounds = Measure::Time.bounds(&requests.config.duration_buckets);
    let series = requests.by_method.iter().map(|(_, series)| series);
    let series = series.filter_map(|series| histogram(&series.labels, of(series), &bounds, Measure::Time)).collect();
    family(name, description, "s", Kind::Histogram, series)
}

/// Calls of gRPC may differ in what their labels do not tell: HTTP's version and scheme.
fn merged(series: impl Iterator<Item = SeriesSnapshot>) -> Vec<SeriesSnapshot> {
    let (mut merged, mut places) = (Vec::<SeriesSnapshot>::new(), HashMap::new());
    for series in series {
        let place = *places.entry(Arc::clone(&series.labels)).or_insert(merged.len());
        match (merged.get_mut(place).map(|series| &mut series.point), series.point) {
            (Some(Point::Histogram(kept)), Point::Histogram(more)) => kept.merge(more),
            (_, point) => merged.push(SeriesSnapshot { labels: series.labels, point }),
        }
    }
    merged
}

fn active(requests: &Requests, ended: &Ended, name: &'static str) -> FamilySnapshot {
    let of_hosts = requests.active_by_host(ended).map(|(count, active)| (Arc::clone(&count.labels), active));
    let series = requests
        .active(ended)
        .map(|(method, scheme, active)| {
            (requests.beginning_labels(Beginning { method, scheme, host: Interned::NONE }), active)
        })
        .chain(of_hosts)
        .map(|(labels, active)| SeriesSnapshot { labels, point: Point::Int(active as i64) })
        .collect();
    family(name, "Requests under way, until the last byte of the answer", "{request}", Kind::UpDownCounter, series)
}

fn endings(requests: &Requests, ended: &Ended, name: &'static str) -> FamilySnapshot {
    let mut series = Vec::new();
    for route in requests.routes() {
        let key = if route.is_grpc { "rpc.method" } else { "http.route" };
        let label = route.template.as_ref().map(|template| Label::new(key, template.to_string()));
        for (ending, outcome, count) in ended.of(route) {
            let mut labels = Vec::from_iter(label.clone());
            labels.push(Label::new("buttress.ending", ending.as_str()));
            labels.push(Label::new("buttress.outcome", outcome.as_str()));
            series.push(SeriesSnapshot { labels: labels.into(), point: Point::Int(count as i64) });
        }
    }
    family(name, "Requests by how they ended", "{request}", Kind::Counter, series)
}

fn histogram<T: Default>(
    labels: &Arc<[Label]>,
    series: &HistogramSeries<T>,
    bounds: &Arc<[f64]>,
    measure: Measure,
) -> Option<SeriesSnapshot> {
    let point = series.point(bounds, measure);
    // Streams have an exchange, but no latency.
    (point.count() > 0).then(|| SeriesSnapshot { labels: Arc::clone(labels), point: Point::Histogram(point) })
}

fn family(
    name: &'static str,
    description: &'static str,
    unit: &'static str,
    kind: Kind,
    series: Vec<SeriesSnapshot>,
) -> FamilySnapshot {
    FamilySnapshot { name: name.into(), description: description.into(), unit: unit.into(), kind, series }
}
