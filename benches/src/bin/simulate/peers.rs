//! The libraries that Rust services use today, set to what the scenarios ask for and otherwise as their docs say.

use std::sync::Arc;
use std::time::Duration;

use failsafe::futures::CircuitBreaker;
use failsafe::{backoff, failure_policy};
use recloser::{AsyncRecloser, Recloser};
use tokio::time::Sleep;
use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, Retry};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};
use tower_resilience_retry::{RetryBudget, RetryBudgetBuilder, RetryLayer};

use crate::subject::{Clock, Request, Response, Stack, Subject, Trip, stack};

pub fn subjects() -> [Subject; 8] {
    let wall = |name, breaker| Subject { breaker: Some(breaker), ..Subject::peer(name, Clock::Wall) };
    let retry = |name, clock, retry| Subject { retry: Some(retry), ..Subject::peer(name, clock) };
    [
        Subject { counts: true, ..wall("tower-resilience.count", tower_resilience_count) },
        wall("tower-resilience.time", tower_resilience_time),
        wall("failsafe", failsafe),
        Subject { counts: true, ..wall("recloser", recloser) },
        retry("tower-resilience.retry", Clock::Virtual, |inner| tower_resilience_retry(inner, None)),
        // Its budget reads std's clock.
        retry("tower-resilience.retry.budget", Clock::Wall, |inner| {
            let budget = RetryBudgetBuilder::new().token_bucket().build();
            tower_resilience_retry(inner, Some(budget.expect("the defaults are valid")))
        }),
        retry("tower.retry", Clock::Virtual, |inner| tower_retry(inner, None)),
        retry("tower.retry.budget", Clock::Virtual, |inner| tower_retry(inner, Some(Arc::new(TpsBudget::default())))),
    ]
}

fn is_failure<E>(result: &Result<Response, E>) -> bool {
    result.as_ref().map_or(true, |response| response.status().is_server_error())
}

/// Breakers that know errors only get one for an answer of 5xx.
async fn error_for_status(service: Stack, request: Request) -> Result<Response, BoxError> {
    let response = service.oneshot(request).await?;
    if response.status().is_server_error() { Err("server error".into()) } else { Ok(response) }
}

const REJECTED: &str = "the circuit is open";

fn tower_resilience_count(trip: &Trip, inner: Stack) -> Stack {
    let layer = CircuitBreakerLayer::standard()
        .failure_rate_threshold(trip.rate)
        .sliding_window_size(trip.count)
        .minimum_number_of_calls(trip.minimum)
        .wait_duration_in_open(trip.wait)
        .permitted_calls_in_half_open(trip.probes)
        .failure_classifier(is_failure::<BoxError>)
        .build();
    stack(layer.expect("the settings are valid").layer(inner))
}

fn tower_resilience_time(trip: &Trip, inner: Stack) -> Stack {
    let layer = CircuitBreakerLayer::standard()
        .failure_rate_threshold(trip.rate)
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(trip.window)
        .minimum_number_of_calls(trip.minimum)
        .wait_duration_in_open(trip.wait)
        .permitted_calls_in_half_open(trip.probes)
        .failure_classifier(is_failure::<BoxError>)
        .build();
    stack(layer.expect("the settings are valid").layer(inner))
}

fn failsafe(trip: &Trip, inner: Stack) -> Stack {
    // Whole seconds only.
    let window = trip.window.max(Duration::from_secs(1));
    let minimum = u32::try_from(trip.minimum).unwrap_or(u32::MAX);
    let policy =
        failure_policy::success_rate_over_time_window(1.0 - trip.rate, minimum, window, backoff::constant(trip.wait));
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    stack(service_fn(move |request: Request| {
        let call = error_for_status(inner.clone(), request);
        let breaker = breaker.clone();
        async move {
            breaker.call(call).await.map_err(|error| match error {
                failsafe::Error::Inner(error) => error,
                failsafe::Error::Rejected => REJECTED.into(),
            })
        }
    }))
}

fn recloser(trip: &Trip, inner: Stack) -> Stack {
    let recloser = Recloser::custom()
        .error_rate(trip.rate as f32)
        .closed_len(trip.count)
        .half_open_len(trip.probes)
        .open_wait(trip.wait)
        .build();
    let breaker = AsyncRecloser::from(recloser);
    stack(service_fn(move |request: Request| {
        let call = breaker.call(error_for_status(inner.clone(), request));
        async move {
            call.await.map_err(|error| match error {
                recloser::Error::Inner(error) => error,
                recloser::Error::Rejected => REJECTED.into(),
            })
        }
    }))
}

/// By default three attempts, 100 ms and then 200 ms apart.
fn tower_resilience_retry(inner: Stack, budget: Option<Arc<dyn RetryBudget>>) -> Stack {
    let builder = RetryLayer::<Request, Response, BoxError>::builder()
        .retry_on_response(|response: &Response| response.status().is_server_error());
    let builder = match budget {
        Some(budget) => builder.budget(budget),
        None => builder,
    };
    stack(builder.build().layer(inner))
}

/// Three attempts with tower's own backoff; tower leaves the policy to its users.
fn tower_retry(inner: Stack, budget: Option<Arc<TpsBudget>>) -> Stack {
    let backoff = ExponentialBackoffMaker::default().make_backoff();
    stack(Retry::new(ThreeAttempts { left: 2, backoff, budget }, inner))
}

#[derive(Clone)]
struct ThreeAttempts {
    left: u32,
    backoff: ExponentialBackoff,
    budget: Option<Arc<TpsBudget>>,
}

impl Policy<Request, Response, BoxError> for ThreeAttempts {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Request, result: &mut Result<Response, BoxError>) -> Option<Sleep> {
        if !is_failure(result) {
            if let Some(budget) = &self.budget {
                budget.deposit();
            }
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let is_paid = self.budget.as_ref().is_none_or(|budget| budget.withdraw());
        is_paid.then(|| self.backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}
