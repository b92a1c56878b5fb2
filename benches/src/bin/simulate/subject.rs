//! What is measured: a breaker or a retry, put around the simulated backend.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

pub type Request = http::Request<Full<Bytes>>;
pub type Response = http::Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Layers around a backend, whatever their types.
pub type Stack = BoxCloneSyncService<Request, Response, BoxError>;

/// Whose clock a subject reads. Std's cannot be paused.
#[derive(Clone, Copy, PartialEq)]
pub enum Clock {
    Virtual,
    Wall,
}

/// What a scenario asks of a breaker.
#[derive(Clone, Copy)]
pub struct Trip {
    /// Outcomes of a window by count.
    pub count: usize,
    /// Length of a window by time, and the age up to which outcomes are counted where a count may have one.
    pub window: Duration,
    pub minimum: usize,
    pub rate: f64,
    /// How long it stays open before it lets probes through.
    pub wait: Duration,
    pub probes: usize,
    /// How long it takes from closed to all of the traffic, where it can; zero is at once.
    pub ramp: Duration,
}

/// That of most scenarios.
pub const TRIP: Trip = Trip {
    count: 100,
    window: Duration::from_secs(2),
    minimum: 20,
    rate: 0.5,
    wait: Duration::from_secs(1),
    probes: 3,
    ramp: Duration::ZERO,
};

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Subject {
    pub name: &'static str,
    pub clock: Clock,
    /// S1, S2, S5, S6, and S3 if there is no throttle.
    pub breaker: Option<fn(&Trip, Stack) -> Stack>,
    /// S3: a breaker that lets as many calls through as the backend can serve.
    pub throttle: Option<fn(&Trip, Stack) -> Stack>,
    /// Whether 100,000 healthy calls within a moment say something: a window by time would be full of them.
    pub counts: bool,
    /// S4, and each tier of S7: three attempts.
    pub retry: Option<fn(Stack) -> Stack>,
    /// Whether the limits are for it.
    pub is_ours: bool,
}

impl Subject {
    pub const fn peer(name: &'static str, clock: Clock) -> Self {
        Self { name, clock, breaker: None, throttle: None, counts: false, retry: None, is_ours: false }
    }

    /// Puts the breaker around a service, if there is one.
    pub fn breaker(&self, trip: &Trip, inner: Stack) -> Stack {
        match self.breaker {
            Some(breaker) => breaker(trip, inner),
            None => inner,
        }
    }

    /// Puts the throttle around a service, or else the breaker.
    pub fn throttle(&self, trip: &Trip, inner: Stack) -> Stack {
        match self.throttle {
            Some(throttle) => throttle(trip, inner),
            None => self.breaker(trip, inner),
        }
    }

    /// Puts the retry around a service, if there is one.
    pub fn retry(&self, inner: Stack) -> Stack {
        match self.retry {
            Some(retry) => retry(inner),
            None => inner,
        }
    }
}

/// Nothing around the backend, for comparison.
pub fn bare() -> Subject {
    Subject {
        breaker: Some(|_, inner| inner),
        counts: true,
        retry: Some(|inner| inner),
        ..Subject::peer("bare", Clock::Virtual)
    }
}

/// Forgets the types of a service.
pub fn stack<S, B>(service: S) -> Stack
where
    S: Service<Request, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let unboxed = |response: http::Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync());
    BoxCloneSyncService::new(service.map_response(unboxed).map_err(Into::into))
}

/// A time limit around a service.
pub fn timeout(limit: Duration, inner: Stack) -> Stack {
    stack(tower::timeout::Timeout::new(inner, limit))
}
