//! Circuit breakers: half of a hundred outcomes, where they count outcomes.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use failsafe::futures::CircuitBreaker as _;
use failsafe::{backoff, failure_policy};
use http::Response;
use http_body_util::Full;
use recloser::{AsyncRecloser, Recloser};
use tower::{Service, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, FnClassifier};

use crate::requests::Ask;

pub type Answer = Response<Full<Bytes>>;

/// Breakers that know errors only get one for an answer of 5xx, or when they say no.
#[derive(Clone, Debug)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call failed")
    }
}

impl std::error::Error for Failed {}

fn is_failure<E>(result: &Result<Answer, E>) -> bool {
    result.as_ref().map_or(true, |response| response.status().is_server_error())
}

type ByStatus = FnClassifier<fn(&Result<Answer, Infallible>) -> bool>;

pub fn tower_resilience() -> CircuitBreakerLayer<ByStatus> {
    let layer = CircuitBreakerLayer::standard()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .minimum_number_of_calls(20)
        .failure_classifier(is_failure::<Infallible> as fn(&Result<Answer, Infallible>) -> bool)
        .build();
    layer.expect("the settings are valid")
}

pub fn recloser<S>(
    inner: S,
) -> impl Service<Ask, Response = Answer, Error = Failed, Future: Send> + Clone + Send + Sync + 'static
where
    S: Service<Ask, Response = Answer, Error = Infallible, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
    let breaker = AsyncRecloser::from(Recloser::custom().error_rate(0.5).closed_len(100).build());
    service_fn(move |request| {
        let call = breaker.call(by_status(inner.clone().call(request)));
        async move { call.await.map_err(|_| Failed) }
    })
}

pub fn failsafe<S>(
    inner: S,
) -> impl Service<Ask, Response = Answer, Error = Failed, Future: Send> + Clone + Send + Sync + 'static
where
    S: Service<Ask, Response = Answer, Error = Infallible, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
    let wait = backoff::constant(Duration::from_secs(1));
    let policy = failure_policy::success_rate_over_time_window(0.5, 20, Duration::from_secs(2), wait);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    service_fn(move |request| {
        let call = by_status(inner.clone().call(request));
        let breaker = breaker.clone();
        async move { breaker.call(call).await.map_err(|_| Failed) }
    })
}

async fn by_status(answer: impl Future<Output = Result<Answer, Infallible>>) -> Result<Answer, Failed> {
    let Ok(response) = answer.await;
    if response.status().is_server_error() { Err(Failed) } else { Ok(response) }
}
