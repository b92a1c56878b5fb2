//! Which requests are repeated, when, and how often.
#![cfg(feature = "retry")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::retry::{
    Because, Decision, DoNotRetry, Inbound, NotRetryable, Reason, RetryBudget, RetryLayer, RetryPolicy, TimedOut,
};
use buttress::signal::{Signal, Signals};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

use retry_support::{Reply, Server, get, request};

#[path = "support/retry.rs"]
mod retry_support;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn status(code: u16) -> Reply {
    Reply::Status(code, HeaderMap::new())
}

fn with(code: u16, pairs: &[(&'static str, &str)]) -> Reply {
    let headers = pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
    Reply::Status(code, headers.collect())
}

/// A layer that waits 100 ms, always.
fn steady() -> RetryLayer {
    RetryLayer::new().backoff(Backoff::constant(MS(100)))
}

#[tokio::test(start_paused = true)]
async fn three_attempts_are_made_and_the_last_answer_is_handed_out() {
    let server = Server::replies([status(503), status(502), status(504), status(200)]);
    let layer = steady();
    let start = Instant::now();
    let answer = layer.layer(server.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status(), server.calls()), (StatusCode::GATEWAY_TIMEOUT, 3));
    assert_eq!(start.elapsed(), MS(200));
    let stats = layer.stats();
    assert_eq!((stats.repeats(Reason::Status), stats.exhausted, stats.waited), (2, 1, MS(200)));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_sent_twice_is_repeated() {
    for (method, repeated) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::TRACE, true),
        (Method::QUERY, true),
        (Method::POST, false),
        (Method::PATCH, false),
        (Method::CONNECT, false),
    ] {
        let server = Server::replies([status(503), status(200)]);
        let answer = steady().layer(server.clone()).oneshot(request(method.clone(), &[], "")).await.unwrap();
        assert_eq!((answer.status() == 200, server.calls() == 2), (repeated, repeated), "{method}");
    }
    let server = Server::replies([status(503), status(200)]);
    let keyed = request(Method::POST, &[("idempotency-key", "7")], "order");
    assert_eq!(steady().layer(server.clone()).oneshot(keyed).await.unwrap().status(), 200);
    assert_eq!(server.bodies(), ["order", "order"]);
}

#[tokio::test(start_paused = true)]
async fn only_statuses_of_a_passing_trouble_are_repeated() {
    for code in 200..600 {
        let server = Server::replies([status(code), status(200)]);
        steady().layer(server.clone()).oneshot(get()).await.unwrap();
        let repeated = [408, 425, 429, 502, 503, 504].contains(&code);
        assert_eq!(server.calls(), 1 + usize::from(repeated), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn broken_connections_are_repeated_and_other_errors_are_not() {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, InvalidData, TimedOut, UnexpectedEof};
    for (kind, reason) in [
        (ConnectionRefused, Some(Reason::Connect)),
        (ConnectionReset, Some(Reason::Connection)),
        (BrokenPipe, Some(Reason::Connection)),
        (UnexpectedEof, Some(Reason::Connection)),
        (TimedOut, Some(Reason::Timeout)),
        (InvalidData, None),
    ] {
        let server = Server::replies([Reply::Error(|kind| Box::new(std::io::Error::from(kind)), kind), status(200)]);
        let layer = steady();
        let answer = layer.layer(server.clone()).oneshot(get()).await;
        assert_eq!(answer.is_ok(), reason.is_some(), "{kind:?}");
        if let Some(reason) = reason {
            assert_eq!(layer.stats().repeats(reason), 1, "{kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_turned_away_on_purpose_is_not_repeated_and_takes_nothing() {
    let reject = |kind| -> retry_support::BoxError { Box::new(NotRetryable::new(std::io::Error::from(kind))) };
    let server = Server::replies([Reply::Error(reject, std::io::ErrorKind::ConnectionReset), status(200)]);
    let layer = steady();
    assert!(layer.layer(server.clone()).oneshot(get()).await.is_err());
    let budget = layer.stats().budget;
    assert_eq!((server.calls(), budget.withdrawn, budget.denied), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_marked_answer_is_not_repeated() {
    let server = Server::replies([with(503, &[("do-not-retry", "attempts")]), status(200)]);
    assert_eq!(steady().layer(server.clone()).oneshot(get()).await.unwrap().status(), 503);
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_exhausted_is_marked_and_told() {
    let signals = Signals::new();
    let mut heard = signals.subscribe();
    let server = Server::always(status(503));
    let layer = steady().name("prices").signals(signals);
    let answer = layer.layer(server).oneshot(get()).await.unwrap();
    assert_eq!(answer.extensions().get(), Some(&DoNotRetry::Attempts));
    assert_eq!(answer.headers()["do-not-retry"], "attempts");
    assert_eq!(heard.next().await, Some(Signal::RetriesExhausted { client: "prices".into(), attempts: 3 }));
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_marks_the_answer() {
    let layer = steady().attempts(2).budget(RetryBudget::of(0.0, 1.0).unwrap());
    let service = layer.layer(Server::always(status(503)));
    // Three are in reserve; a moment after a denial requests are not even kept.
    for nth in 0..20 {
        let answer = service.clone().oneshot(get()).await.unwrap();
        let mark = if nth < 3 { "attempts" } else { "budget" };
        assert_eq!(answer.headers()["do-not-retry"], mark, "{nth}");
        assert_eq!(answer.extensions().get::<DoNotRetry>().unwrap().as_str(), mark);
    }
    let stats = layer.stats();
    assert_eq!((stats.budget.withdrawn, stats.budget.denied, stats.all_repeats()), (3, 17, 3));
}

#[tokio::test(start_paused = true)]
async fn that_the_budget_is_spent_is_told_once_and_again_when_it_had_recovered() {
    let signals = Signals::new();
    let mut heard = signals.subscribe();
    let layer = steady().name("prices").attempts(2).budget(RetryBudget::of(0.0, 1.0).unwrap()).signals(signals);
    let service = layer.layer(Server::always(status(503)));
    // A minute of trouble: ten requests a second fail, and one of them is repeated.
    let trouble = async || {
        for _ in 0..600 {
            service.clone().oneshot(get()).await.unwrap();
            tokio::time::sleep(MS(100)).await;
        }
    };
    let mut told = async || {
        let mut spent = 0;
        while let Ok(Some(signal)) = tokio::time::timeout(MS(1), heard.next()).await {
            assert!(!matches!(signal, Signal::Missed(_)));
            spent += usize::from(signal == Signal::RetryBudgetSpent { client: "prices".into() });
        }
        spent
    };
    trouble().await;
    assert_eq!(told().await, 1);
    tokio::time::sleep(MS(10_000)).await;
    trouble().await;
    assert_eq!(told().await, 1);
    assert!(layer.stats().budget.withdrawn > 100, "there was some all the time");
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn repeats_by_reason_waits_and_the_budget_are_among_the_metrics() {
    let registry = buttress::metrics::Registry::new();
    let layer = steady().name("prices").attempts(2).budget(RetryBudget::of(0.0, 1.0).unwrap());
    layer.report(&registry);
    let service = layer.layer(Server::always(status(503)));
    for _ in 0..5 {
        service.clone().oneshot(get()).await.unwrap();
    }
    drop(registry.snapshot());
    let client = ("buttress.retry.client", "prices");
    let counted = |name| registry.counter(name).with([client]).value();
    assert_eq!(counted("buttress.retry.exhausted"), 3);
    assert_eq!((counted("buttress.retry.budget.withdrawn"), counted("buttress.retry.budget.denied")), (3, 2));
    let repeats =
        |reason| registry.counter("buttress.retry.repeats").with([client, ("buttress.retry.reason", reason)]).value();
    assert_eq!((repeats("status"), repeats("timeout")), (3, 0));
    assert_eq!(registry.time_counter("buttress.retry.waited").with([client]).value(), MS(300));
    let balance = registry.gauge("buttress.retry.budget.balance").with([client]).value();
    assert!(
        (0.2..0.4).contains(&balance),
        "{balance}: three of three are gone, and three tenths of a second have passed"
    );
}

#[tokio::test(start_paused = true)]
async fn the_server_says_when_and_nobody_comes_earlier() {
    let server = Server::replies([with(503, &[("retry-after", "7")]), status(200)]);
    let start = Instant::now();
    RetryLayer::new().layer(server).oneshot(get()).await.unwrap();
    assert!((MS(7000)..=MS(7701)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_does_not_fit_is_a_failure_now() {
    for (hint, deadline) in [("31", None), ("7", Some(MS(5000)))] {
        let server = Server::replies([with(503, &[("retry-after", hint)]), status(200)]);
        let layer = match deadline {
            Some(deadline) => RetryLayer::new().deadline(deadline),
            None => RetryLayer::new(),
        };
        let start = Instant::now();
        let answer = layer.layer(server.clone()).oneshot(get()).await.unwrap();
        assert_eq!((answer.status(), server.calls()), (StatusCode::SERVICE_UNAVAILABLE, 1));
        assert_eq!((&answer.headers()["retry-after"], start.elapsed()), (&hint.parse().unwrap(), Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn no_two_requests_wait_alike() {
    let mut waits = std::collections::HashSet::new();
    for _ in 0..20 {
        let layer = RetryLayer::new().backoff(Backoff::exponential(MS(1000), 2.0, MS(10_000)).unwrap());
        layer.layer(Server::always(status(503))).oneshot(get()).await.unwrap();
        waits.insert(layer.stats().waited);
    }
    assert_eq!(waits.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn nothing_outlives_the_deadline() {
    // An attempt that hangs.
    let start = Instant::now();
    let layer = steady().deadline(MS(450));
    let error = layer.layer(Server::always(Reply::Hang)).oneshot(get()).await.unwrap_err();
    assert_eq!((TimedOut::of(&*error), start.elapsed()), (Some(&TimedOut::Deadline), MS(450)));
    // A wait that would end too late.
    let start = Instant::now();
    let server = Server::always(status(503));
    let answer = steady().deadline(MS(150)).layer(server.clone()).oneshot(get()).await.unwrap();
    assert_eq!((answer.status().as_u16(), server.calls(), start.elapsed()), (503, 2, MS(100)));
    // No time at all.
    let server = Server::always(status(200));
    steady().deadline(Duration::ZERO).layer(server.clone()).oneshot(get()).await.unwrap_err();
    assert_eq!(server.calls(), 0);
    // A clone of the service that never says that it is ready.
    let start = Instant::now();
    let server = Server::replies([status(503)]).whose_clones_are_never_ready();
    let error = steady().deadline(MS(450)).layer(server).oneshot(get()).await.unwrap_err();
    assert_eq!((TimedOut::of(&*error), start.elapsed()), (Some(&TimedOut::Deadline), MS(450)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped_and_repeated() {
    let server = Server::replies([Reply::Hang, Reply::Hang, status(200)]);
    let layer = steady().attempt_timeout(MS(250));
    let start = Instant::now();
    assert_eq!(layer.layer(server.clone()).oneshot(get()).await.unwrap().status(), 200);
    assert_eq!((start.elapsed(), server.dropped()), (MS(700), 2));
    assert_eq!(layer.stats().repeats(Reason::Timeout), 2);

    let error = layer.layer(Server::always(Reply::Hang)).oneshot(request(Method::POST, &[], "")).await.unwrap_err();
    assert_eq!(TimedOut::of(&*error), Some(&TimedOut::Attempt(MS(250))));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_further_in_is_known_for_what_it_is() {
    use buttress::retry::AttemptTimeoutLayer;
    let server = Server::replies([Reply::Hang, status(200)]);
    let layer = steady();
    let service = layer.layer(AttemptTimeoutLayer::new(MS(250)).layer(server));
    assert_eq!(service.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(layer.stats().repeats(Reason::Timeout), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_passed_on() {
    let name = http::HeaderName::from_static("x-deadline-ms");
    let server = Server::replies([status(503), status(200)]);
    steady().deadline(MS(1000)).deadline_header(name).layer(server.clone()).oneshot(get()).await.unwrap();
    assert_eq!(server.header("x-deadline-ms"), [Some("1000".into()), Some("900".into())]);

    let server = Server::replies([with(200, &[("grpc-status", "14")]), status(200)]);
    steady().deadline(MS(1000)).layer(server.clone()).oneshot(grpc(&[])).await.unwrap();
    assert_eq!(server.header("grpc-timeout"), [Some("1000m".into()), Some("900m".into())]);
}

#[tokio::test(start_paused = true)]
async fn the_nearest_deadline_holds_be_it_the_callers_or_the_requests_own() {
    let mut headers = HeaderMap::new();
    headers.insert("x-deadline-ms", "300".parse().unwrap());
    let inbound = Inbound::of(&headers, Some(&http::HeaderName::from_static("x-deadline-ms")));
    let start = Instant::now();
    let hanging = steady().deadline(MS(1000)).layer(Server::always(Reply::Hang));
    inbound.scope(async { hanging.oneshot(get()).await }).await.unwrap_err();
    assert_eq!(start.elapsed(), MS(300));

    let start = Instant::now();
    let hanging = steady().deadline(MS(1000)).layer(Server::always(Reply::Hang));
    hanging.oneshot(grpc(&[("grpc-timeout", "200m")])).await.unwrap_err();
    assert_eq!(start.elapsed(), MS(200));
}

fn grpc(headers: &[(&'static str, &str)]) -> Request<Full<bytes::Bytes>> {
    let mut request = request(Method::POST, headers, "message");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn grpc_is_repeated_by_its_own_rules() {
    for (reply, calls) in [
        (with(200, &[("grpc-status", "14")]), 2),
        (with(200, &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "40")]), 2),
        (with(503, &[]), 2),
        (Reply::Error(|kind| Box::new(std::io::Error::from(kind)), std::io::ErrorKind::ConnectionRefused), 2),
        (with(200, &[("grpc-status", "8")]), 1),
        (with(200, &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]), 1),
        (with(200, &[("grpc-status", "4")]), 1),
        (with(200, &[("grpc-status", "0")]), 1),
        (with(504, &[]), 1),
        (Reply::Error(|kind| Box::new(std::io::Error::from(kind)), std::io::ErrorKind::ConnectionReset), 1),
    ] {
        let server = Server::replies([reply.clone(), status(200)]);
        let _ = steady().layer(server.clone()).oneshot(grpc(&[])).await;
        assert_eq!(server.calls(), calls, "{reply:?}");
    }
    let server = Server::replies([with(200, &[("grpc-status", "14")]), status(200)]);
    let layer = RetryLayer::new().policy(RetryPolicy::new().grpc(false));
    layer.layer(server.clone()).oneshot(grpc(&[])).await.unwrap();
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_application_may_say_what_a_failure_is() {
    use buttress::classify::HttpClassifier;
    let server = Server::replies([status(500), status(200)]);
    let policy = RetryPolicy::new().classify(HttpClassifier::server());
    RetryLayer::new().policy(policy).layer(server.clone()).oneshot(get()).await.unwrap();
    assert_eq!(server.calls(), 2);

    let server = Server::replies([status(503), status(200)]);
    let policy = RetryPolicy::new().failure(|_, _| Some(false));
    RetryLayer::new().policy(policy).layer(server.clone()).oneshot(get()).await.unwrap();
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_after_the_first_tells_its_number() {
    let server = Server::replies([status(503), status(503), status(200)]);
    steady().layer(server.clone()).oneshot(get()).await.unwrap();
    assert_eq!(server.header("retry-attempt"), [None, Some("2".into()), Some("3".into())]);

    let server = Server::replies([with(200, &[("grpc-status", "14")]), status(200)]);
    steady().layer(server.clone()).oneshot(grpc(&[])).await.unwrap();
    assert_eq!(server.header("grpc-previous-rpc-attempts"), [None, Some("1".into())]);
}

#[tokio::test(start_paused = true)]
async fn what_was_a_repeat_when_it_came_is_not_repeated_by_the_reserve() {
    for inbound in [("x-envoy-attempt-count", "2"), ("retry-attempt", "3")] {
        let server = Server::replies([status(503), status(200)]);
        let answer = steady().layer(server.clone()).oneshot(request(Method::GET, &[inbound], "")).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.calls()), (503, 1));
    }
    // But by what was earned.
    let layer = steady();
    let server = Server::always(status(200));
    let service = layer.layer(server.clone());
    for _ in 0..30 {
        service.clone().oneshot(get()).await.unwrap();
    }
    server.reply([status(503)]);
    let answer = service.oneshot(request(Method::GET, &[("retry-attempt", "2")], "")).await.unwrap();
    assert_eq!((answer.status().as_u16(), server.calls()), (200, 32));
    assert_eq!(server.header("retry-attempt").last().unwrap().as_deref(), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn the_failed_answer_is_read_as_far_as_it_is_there_and_dropped_before_the_wait() {
    let server = Server::replies([Reply::Body(503, 10, 1000), Reply::Body(503, 100, 1000), status(200)]);
    let mut call = Box::pin(steady().layer(server.clone()).oneshot(get()));
    let waiting = tokio::time::timeout(MS(50), &mut call).await;
    assert!(waiting.is_err());
    // Ten frames of 1,000 bytes and the end.
    assert_eq!((server.bodies_alive(), server.frames_read()), (0, 11));
    assert!(tokio::time::timeout(MS(100), &mut call).await.is_err());
    assert_eq!((server.bodies_alive(), server.frames_read()), (0, 11 + 17));
    call.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_good_answer_is_not_touched() {
    let server = Server::replies([Reply::Body(200, 10, 1000)]);
    let answer = steady().layer(server.clone()).oneshot(get()).await.unwrap();
    assert_eq!((server.frames_read(), server.bodies_alive()), (0, 1));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 10_000);
}

#[test]
fn the_decision_can_be_asked_without_a_client() {
    use buttress::observe::RequestHead;
    use buttress::retry::{Answer, Situation};
    let (post, answer) =
        (Request::post("/").body(()).unwrap(), http::Response::builder().status(503).body(()).unwrap());
    let decision = RetryPolicy::new().decide(&Situation::first(RequestHead::of(&post), Answer::of(&answer)));
    assert_eq!(decision, Decision::HandOut(Because::NotRepeatable));
}
