//! Ours, in virtual time.

use buttress::backoff::Backoff;
use buttress::circuit_breaker::{CircuitBreakerLayer, CircuitConfig, Error, Ramp, Share, Throttle, Window};
use buttress::retry::{ReplayBody, RetryLayer, TierLayer};
use bytes::Bytes;
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt};

use crate::subject::{Clock, Stack, Subject, Trip, stack};

pub fn subjects() -> Vec<Subject> {
    vec![Subject {
        breaker: Some(|trip, inner| around(config(trip), inner)),
        throttle: Some(|trip, inner| around(config(trip).throttle(THROTTLE), inner)),
        counts: true,
        retry: Some(retry),
        is_ours: true,
        ..Subject::peer("buttress", Clock::Virtual)
    }]
}

/// A server that refuses the excess gets little more than it can do; see the table at [`Throttle`].
const THROTTLE: Throttle = Throttle { k: 1.1 };

fn config(trip: &Trip) -> CircuitConfig {
    let count = u32::try_from(trip.count).expect("windows are small");
    let minimum = u32::try_from(trip.minimum).expect("windows are small");
    let probes = u32::try_from(trip.probes).expect("probes are few");
    let ramp = (!trip.ramp.is_zero()).then_some(Ramp { from: Share::percent(10), over: trip.ramp });
    CircuitConfig::default()
        .window(Window::count(count, trip.window).expect("the scenarios' windows are valid"))
        .failure_rate(Share::new(trip.rate).expect("a rate is a share"))
        .minimum_calls(minimum)
        .open_for(Backoff::constant(trip.wait))
        .probes(probes)
        .ramp(ramp)
}

fn around(config: CircuitConfig, inner: Stack) -> Stack {
    let breaker = CircuitBreakerLayer::with_config("backend", config).layer(inner);
    // A box is no error in itself.
    stack(breaker.map_err(|error| match error {
        Error::Open(rejected) => BoxError::from(rejected),
        error => error.into_inner().expect("the call was made"),
    }))
}

/// With the defaults, and what stands in front of a server between tiers.
fn retry(inner: Stack) -> Stack {
    let inner = inner.map_request(|request: http::Request<ReplayBody<Full<Bytes>>>| request.map(|_| Full::default()));
    stack(TierLayer::new().layer(RetryLayer::new().layer(inner)))
}
