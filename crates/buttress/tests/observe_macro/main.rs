//! `#[observe]`: a span and metrics for each call of a function, whatever its shape.
#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod domains;
mod errors;
mod fields;
mod limits;
mod names;
mod outcomes;
mod shapes;
mod trees;
mod written;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context as TaskContext, Poll, Waker};

use buttress::Telemetry;
use buttress::trace::{SpanRecord, Status};

/// One for the process, as functions have it; each test looks at functions of its own.
static TELEMETRY: LazyLock<Telemetry> = LazyLock::new(|| {
    let telemetry = Telemetry::from_env("test").unwrap();
    telemetry.install().unwrap();
    telemetry
});

/// The spans of this name, newest first.
fn spans(name: &str) -> Vec<Arc<SpanRecord>> {
    TELEMETRY.latest_spans(1024).into_iter().filter(|span| span.name == name).collect()
}

#[track_caller]
fn last(name: &str) -> Arc<SpanRecord> {
    spans(name).into_iter().next().expect("a span was recorded")
}

fn told(span: &SpanRecord, key: &str) -> String {
    span.attribute(key).map(ToString::to_string).unwrap_or_default()
}

fn active(name: &str) -> i64 {
    TELEMETRY.metrics().up_down_counter("buttress.operation.active").with([("operation.name", name)]).value()
}

/// Durations that were recorded with these labels.
fn counted<const N: usize>(labels: [(&str, &str); N]) -> u64 {
    TELEMETRY.metrics().timer("buttress.operation.duration").with(labels).window().unwrap().count()
}

#[track_caller]
fn ended_once(name: &str, outcome: &str, error_type: Option<&str>) {
    let span = last(name);
    assert_eq!((span.outcome.as_str(), span.status == Status::Error), (outcome, error_type.is_some()));
    assert_eq!(span.attribute("error.type").map(ToString::to_string).as_deref(), error_type);
    let (name, outcome) = (("operation.name", name), ("buttress.outcome", outcome));
    let count = match error_type {
        Some(error_type) => counted([name, outcome, ("error.type", error_type)]),
        None => counted([name, outcome]),
    };
    assert_eq!(count, 1);
    assert_eq!(active(name.1), 0);
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

#[test]
fn a_second_telemetry_is_not_installed() {
    LazyLock::force(&TELEMETRY);
    let refused = Telemetry::from_env("second").unwrap().install().unwrap_err();
    assert!(refused.to_string().contains("already installed"));
}
