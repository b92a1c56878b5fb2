//! The ways in which this crate records.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;

use buttress::context::{Context, TraceContext, TraceFlags};
use buttress::metrics::{LabelValue, Registry, RequestMetrics, RequestMetricsLayer, RouteMetrics};
use buttress::observe::{Observe, Probe, Route};
use buttress_benches::finish;
use buttress_benches::subject::{Body, Subject};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, service_fn};

use crate::exchange::{Shape, with_end};
use crate::workload::{METHODS, Plain, Record, STATUSES, WORKLOAD, sets};

const HEADERS: [(&str, &str); 6] = [
    ("host", "shop.example:8080"),
    ("user-agent", "bench/1.0"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("content-type", "application/json"),
];

/// What the observer of the layer does for an exchange, without the service, the future and the body around it.
pub struct Observer {
    name: &'static str,
    observer: RequestMetrics,
    shape: Shape,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    StartAndEnd,
    /// With headers, and the head shown.
    Whole,
}

impl Observer {
    /// The duration of a request without headers: in flight, series, bucket, sum, window, ending, whether there is a
    /// trace.
    pub fn record() -> Self {
        Self::new("buttress.observer", Part::StartAndEnd, None)
    }

    /// The first half of [`record`](Self::record): what the beginning of a request costs; nothing is recorded at its end.
    pub fn start_only() -> Self {
        Self::new("buttress.start", Part::Start, None)
    }

    /// As [`record`](Self::record), each request in a trace that is sampled.
    pub fn sampled() -> Self {
        let mut trace = TraceContext::random();
        trace.flags = TraceFlags::SAMPLED;
        Self::new("buttress.sampled", Part::StartAndEnd, Some(Context::from_trace(trace)))
    }

    /// Everything: headers looked at, first byte, body time and body size recorded as well.
    pub fn exchange() -> Self {
        Self::new("buttress.exchange", Part::Whole, None)
    }

    fn new(name: &'static str, part: Part, context: Option<Context>) -> Self {
        Self {
            name,
            observer: RequestMetricsLayer::server(&Registry::new()).observer(),
            shape: Shape { has_head: part == Part::Whole, context },
            part,
        }
    }
}

impl Subject for Observer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn enter(&self, body: &mut Body<'_>) {
        let (mut requests, mut answers) = (requests(self.part == Part::Whole), STATUSES.map(answer));
        let (events, statuses) = (WORKLOAD.rotated(), STATUSES.map(|status| StatusCode::from_u16(status).ok()));
        with_end(&self.shape, &mut |exchange, mut end| {
            body(&mut |times| {
                for event in events.iter().cycle().take(times).map(black_box) {
                    let mut probe = self.observer.start(&mut requests[event.request()], exchange);
                    if self.part == Part::Whole {
                        probe.head(&mut answers[event.status()], exchange);
                    }
                    if self.part != Part::Start {
                        end.status = statuses[event.status()];
                        end.at = end.exchange.started + event.took();
                        probe.end(black_box(&end));
                    }
                }
            });
        });
    }
}

fn requests(has_headers: bool) -> Vec<Request<Full<Bytes>>> {
    let all = WORKLOAD.routes.iter().flat_map(|route| METHODS.map(|method| (method, route)));
    let request = |(method, route): (&'static str, _)| {
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("the method is one");
        request.extensions_mut().insert(Route::from(std::sync::Arc::clone(route)));
        if has_headers {
            for (name, value) in HEADERS {
                request.headers_mut().insert(name, HeaderValue::from_static(value));
            }
        }
        request
    };
    all.map(request).collect()
}

fn answer(status: u16) -> Response<()> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(()).expect("status and header are accepted ones")
}

/// A whole service, watched or not.
pub struct Whole<S> {
    name: &'static str,
    service: S,
}

/// A service that answers at once, and the same in [`RequestMetricsLayer`].
pub fn layers() -> [Box<dyn Subject>; 2] {
    let answer =
        async |_: Request<Full<Bytes>>| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))));
    let layer = RequestMetricsLayer::server(&Registry::new());
    [
        Box::new(Whole { name: "bare", service: service_fn(answer) }),
        Box::new(Whole { name: "buttress.layer", service: layer.layer(service_fn(answer)) }),
    ]
}

impl<S, B> Subject for Whole<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone + Sync,
    B: BodyExt<Data = Bytes>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn enter(&self, body: &mut Body<'_>) {
        let (mut service, requests, events) = (self.service.clone(), requests(true), WORKLOAD.rotated());
        body(&mut |times| {
            for event in events.iter().cycle().take(times).map(black_box) {
                let Ok(response) = finish(service.call(requests[event.request()].clone()));
                let _ = black_box(finish(pin!(response.into_body()).frame()));
            }
        });
    }
}

/// What the convention asks to be recorded of a request, by a server that knows its route: in flight, series found by
/// method, route and status, bucket, sum, window, ending, whether there is a sampled trace. No clock.
pub fn route() -> Box<dyn Subject> {
    let registry = Registry::new();
    let routes: Vec<_> = WORKLOAD.routes.iter().map(|route| RouteMetrics::server(&registry, route)).collect();
    let methods = METHODS.map(|method| Method::from_bytes(method.as_bytes()).expect("the method is one"));
    let started = tokio::time::Instant::now();
    let record = move |record: Record<'_>| {
        let method = &methods[record.set / STATUSES.len() % METHODS.len()];
        let route = &routes[record.set / STATUSES.len() / METHODS.len()];
        let status = StatusCode::from_u16(record.status).expect("the status is one");
        route.start_at(method, started).end_after(status, record.took);
    };
    Box::new(Plain { name: "buttress", record, settle: || {} })
}

/// The convenience path: a family that is kept, labels that are looked up.
pub fn family() -> Box<dyn Subject> {
    let took = Registry::new().timer("http.server.request.duration");
    let record = move |record: Record<'_>| {
        let labels = [
            ("http.request.method", LabelValue::Text(record.method)),
            ("http.route", LabelValue::Text(record.route)),
            ("http.response.status_code", LabelValue::from(record.status)),
        ];
        took.with(labels).record(record.took);
    };
    Box::new(Plain { name: "buttress.family", record, settle: || {} })
}

/// Handles that were resolved before.
pub fn handles() -> Box<dyn Subject> {
    let took = Registry::new().timer("http.server.request.duration");
    let handles: Vec<_> = sets()
        .map(|(method, route, status)| {
            took.with([
                ("http.request.method", LabelValue::Text(method)),
                ("http.route", LabelValue::Text(route)),
                ("http.response.status_code", LabelValue::from(status)),
            ])
        })
        .collect();
    let record = move |record: Record<'_>| handles[record.set].record(record.took);
    Box::new(Plain { name: "buttress", record, settle: || {} })
}
