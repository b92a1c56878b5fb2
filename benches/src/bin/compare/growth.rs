//! What a request costs when there are many routes, circuits, members of a header, or requests at once.

use buttress::circuit_breaker::{CircuitBreakerLayer, CircuitConfig, Circuits};
use buttress::metrics::{MetricsConfig, Registry, RequestMetricsLayer};
use buttress::observe::RequestHead;
use buttress::propagate::PropagateLayer;
use buttress_benches::print;
use buttress_benches::subject::Subject;
use http::Response;
use http_body::Body;
use tower::{Layer, Service};

use crate::case::Case;
use crate::child::Child;
use crate::requests::{Ask, Kind, bare, call};
use crate::{floor, is_bare, ours};

const US: &str = "buttress";

/// Those whose requests are answered.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for routes in [1, 10, 100, 1_000, 10_000] {
        grow(&mut cases, "routes", routes, Kind::Routes(routes), metrics);
    }
    for circuits in [1, 10, 100, 1_000, 10_000, 100_000] {
        grow(&mut cases, "circuits", circuits, Kind::Paths(circuits), breakers);
    }
    for length in [0, 64, 128, 256, 512] {
        grow(&mut cases, "tracestate", length, Kind::Tracestate(length), propagate);
    }
    for length in [0, 128, 512, 2_048, 8_192] {
        grow(&mut cases, "baggage", length, Kind::Baggage(length), propagate);
    }
    cases
}

fn grow(cases: &mut Vec<Case>, what: &str, size: usize, kind: Kind, make: fn(&Case) -> Box<dyn Subject>) {
    // As long as the program, which is short.
    let name = |prefix: &str| -> &'static str { format!("{prefix}.{what}.{size}").leak() };
    cases.push(Case::new(name("bare"), "bare", kind, |case| case.calling(bare(case.kind))));
    cases.push(Case::new(name("growth"), US, kind, make));
    #[cfg(feature = "peers")]
    if matches!(kind, Kind::Tracestate(_) | Kind::Baggage(_)) {
        cases.extend(crate::peers::propagating(name("growth"), kind));
    }
}

/// Those whose requests are held by the whole stack.
pub fn in_flight() -> Vec<Case> {
    let mut cases = floor::in_flight();
    cases.push(ours::in_flight());
    #[cfg(feature = "peers")]
    cases.extend(crate::peers::in_flight());
    cases
}

/// Bytes of a request, its future included, over those that it takes without any layer.
pub fn bytes(json: bool) {
    let cases = in_flight();
    for requests in [1, 10, 100, 1_000, 10_000, 100_000] {
        let of = |case: &Case| Child::of(case).ask(&format!("bytes {requests}"));
        let bare = cases.iter().find(|case| is_bare(case)).map(of).expect("there is a bare one");
        for case in cases.iter().filter(|case| !is_bare(case)) {
            print(json, &format!("{}.{requests}.bytes", case.name), case.subject, of(case) - bare, "bytes", None);
        }
    }
}

/// Asked for all once, so that what is made by a first request is there.
fn warm<S, B>(case: &Case, mut service: S) -> Box<dyn Subject>
where
    S: Service<Ask, Response = Response<B>> + Clone + Send + Sync + 'static,
    B: Body + 'static,
{
    for parts in case.kind.requests() {
        call(&mut service, Ask::from_parts(parts, Default::default()));
    }
    case.calling(service)
}

fn metrics(case: &Case) -> Box<dyn Subject> {
    let registry = Registry::with_config(MetricsConfig::default().max_routes(20_000).max_series(100_000));
    warm(case, RequestMetricsLayer::server(&registry).layer(bare(case.kind)))
}

/// A circuit for each path.
fn breakers(case: &Case) -> Box<dyn Subject> {
    let circuits = Circuits::new("backends", CircuitConfig::default()).max_circuits(200_000);
    let layer = CircuitBreakerLayer::keyed(circuits, |head: &RequestHead<'_>| head.uri.path().to_owned().into());
    warm(case, layer.layer(bare(case.kind)))
}

fn propagate(case: &Case) -> Box<dyn Subject> {
    case.calling(PropagateLayer::new().layer(bare(case.kind)))
}
