//! Repeats of requests that are no HTTP, by tower's own `Retry`.
#![cfg(feature = "retry")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::random;
use buttress::retry::{AnyRequest, NotRetryable, RetryBudget, RetryPolicy, TimedOut};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::retry::RetryLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

/// What its requests are.
#[derive(Clone, Copy, Debug)]
struct Mail;

const MOST: Duration = Duration::from_secs(10);

/// A client that is answered by the number of its call, and that number.
fn client<E: std::fmt::Display + Send + 'static>(
    policy: AnyRequest,
    answer: impl Fn(u32) -> Result<u32, E> + Clone + Send + 'static,
) -> (impl Service<Mail, Response = u32, Error = E, Future: Send> + Clone + Send, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let server = service_fn(move |_: Mail| std::future::ready(answer(counted.fetch_add(1, Relaxed) + 1)));
    (ServiceBuilder::new().layer(RetryLayer::new(policy)).service(server), calls)
}

fn busy(_: u32) -> Result<u32, BoxError> {
    Err("busy".into())
}

#[tokio::test(start_paused = true)]
async fn an_error_is_followed_by_a_repeat_until_it_goes_well_or_was_tried_often_enough() {
    let well_at_third = |nth: u32| if nth < 3 { busy(nth) } else { Ok(nth) };
    let (client, calls) = client(RetryPolicy::new().any_request(), well_at_third);
    assert_eq!(client.oneshot(Mail).await.unwrap(), 3);
    assert_eq!(calls.load(Relaxed), 3);
    for attempts in [1, 2, 4] {
        let (client, calls) = crate::client(RetryPolicy::new().attempts(attempts).any_request(), busy);
        assert_eq!(client.oneshot(Mail).await.unwrap_err().to_string(), "busy");
        assert_eq!(calls.load(Relaxed), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn the_budget_keeps_a_storm_from_growing() {
    let budget = RetryBudget::new();
    let (client, calls) = client(RetryPolicy::new().budget(budget.clone()).any_request(), busy);
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        requests.spawn(client.clone().oneshot(Mail));
    }
    assert!(requests.join_all().await.iter().all(Result::is_err));
    assert_eq!(calls.load(Relaxed), 103, "three are in reserve");
    assert_eq!((budget.counts().withdrawn, budget.counts().denied), (3, 100));
}

#[tokio::test(start_paused = true)]
async fn what_goes_well_earns_repeats() {
    let budget = RetryBudget::of(1.0, 0.0).unwrap();
    let every_third = |nth: u32| if nth.is_multiple_of(3) { busy(nth) } else { Ok(nth) };
    let (mut client, _) = client(RetryPolicy::new().budget(budget.clone()).any_request(), every_third);
    for nth in 0..20 {
        let answer = client.ready().await.unwrap().call(Mail).await;
        assert!(answer.is_ok(), "{nth}: there is a success for each failure");
    }
    assert_eq!(budget.counts().denied, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_turned_away_on_purpose_is_not_repeated_and_takes_nothing() {
    let budget = RetryBudget::new();
    let policy = || RetryPolicy::new().budget(budget.clone()).any_request();
    let (boxed, boxed_calls) = client(policy(), |_| Err::<u32, BoxError>(NotRetryable::new("no such address").into()));
    assert!(boxed.oneshot(Mail).await.is_err());
    let (bare, bare_calls) = client(policy(), |_| Err(NotRetryable::new("no such address")));
    assert!(bare.oneshot(Mail).await.is_err());
    let (late, late_calls) = client(policy(), |_| Err::<u32, BoxError>(TimedOut::Deadline.into()));
    assert!(late.oneshot(Mail).await.is_err());
    assert_eq!([boxed_calls, bare_calls, late_calls].map(|calls| calls.load(Relaxed)), [1, 1, 1]);
    assert_eq!((budget.counts().withdrawn, budget.counts().denied), (0, 0));
}

#[cfg(feature = "circuit-breaker")]
#[tokio::test(start_paused = true)]
async fn a_circuit_that_is_open_is_not_asked_again() {
    use buttress::circuit_breaker::{Circuit, CircuitConfig};

    let circuit = Circuit::new("mail", CircuitConfig::default());
    circuit.force_open("it moves", None);
    let admit = move |nth| circuit.admit(Instant::now()).map(|_| nth).map_err(BoxError::from);
    let (client, calls) = client(RetryPolicy::new().any_request(), admit);
    assert!(client.oneshot(Mail).await.is_err());
    assert_eq!(calls.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_application_may_say_which_errors_are_worth_it() {
    let reset = |fault: &buttress::classify::Fault<'_>| fault.name() == "connection_reset";
    for (kind, expected) in [(io::ErrorKind::ConnectionReset, 3), (io::ErrorKind::PermissionDenied, 1)] {
        let (client, calls) = client(RetryPolicy::new().any_request().when(reset), move |_| Err(io::Error::from(kind)));
        assert_eq!(client.oneshot(Mail).await.unwrap_err().kind(), kind);
        assert_eq!(calls.load(Relaxed), expected, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_two_requests_wait_alike() {
    random::seed(7);
    let backoff = Backoff::exponential(MOST, 1.0, MOST).unwrap();
    let policy = RetryPolicy::new().attempts(2).backoff(backoff).budget(RetryBudget::of(0.0, 1000.0).unwrap());
    let mut waits = HashSet::new();
    for _ in 0..100 {
        let (client, calls) = client(policy.clone().any_request(), busy);
        let began = Instant::now();
        assert!(client.oneshot(Mail).await.is_err());
        assert_eq!(calls.load(Relaxed), 2);
        assert!(began.elapsed() <= MOST + Duration::from_millis(1));
        waits.insert(began.elapsed());
    }
    assert!(waits.len() > 90, "{} of 100", waits.len());
}
