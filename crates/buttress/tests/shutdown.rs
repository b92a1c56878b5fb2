//! A server that stops: what is waited for, for how long, and what is told to be lost. Real signals, to a real process:
//! `examples/axum-server/tests`.
#![cfg(feature = "shutdown")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Telemetry;
use buttress::settings::Settings;
use buttress::shutdown::ShutdownError;
use buttress::trace::{FlushError, SpanRecord, SpanSink};
use http::{Request, Response};
use http_body_util::Empty;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

fn telemetry() -> Telemetry {
    Telemetry::new(Settings::read("shop", |_| None).unwrap())
}

/// Counts what it is given; delivers it, or never.
#[derive(Clone, Default)]
struct Sink {
    names: Arc<Mutex<Vec<String>>>,
    hangs: bool,
}

impl SpanSink for Sink {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        self.names.lock().unwrap().extend(spans.iter().map(|span| span.name.to_string()));
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = Result<(), FlushError>> + Send + '_>> {
        if self.hangs { Box::pin(pending()) } else { Box::pin(ready(Ok(()))) }
    }
}

/// A server with one request under way, which takes so long.
async fn serve(telemetry: Telemetry, takes: Duration, stop: impl Future<Output = ()>) -> Result<(), Infallible> {
    let service =
        ServiceBuilder::new().layer(telemetry.server()).service_fn(move |_: Request<Empty<&[u8]>>| async move {
            sleep(takes).await;
            Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
        });
    let under_way = tokio::spawn(service.oneshot(Request::get("/orders").body(Empty::new()).unwrap()));
    stop.await;
    under_way.await.unwrap().map(drop)
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_answered_and_delivered() {
    let sink = Sink::default();
    let telemetry = telemetry().with_sink(sink.clone());
    let (ask, asked) = oneshot::channel();
    let stop = telemetry.shutdown_when(async { asked.await.unwrap() });
    let serving = serve(telemetry.clone(), 7 * SECOND, stop.requested());
    let began = Instant::now();
    tokio::spawn(async move {
        sleep(SECOND).await;
        ask.send(()).unwrap();
    });
    stop.drain(serving).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 7);
    assert_eq!(*sink.names.lock().unwrap(), ["GET"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_stopped_who_is_not_asked_to() {
    let telemetry = telemetry();
    let stop = telemetry.shutdown_when(pending());
    let hours = async {
        sleep(3600 * SECOND).await;
        Ok::<_, Infallible>(())
    };
    stop.grace(SECOND).drain(hours).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_longer_than_the_grace_is_cut_off_and_counted() {
    let telemetry = telemetry();
    let stop = telemetry.shutdown_when(async { sleep(SECOND).await }).grace(5 * SECOND);
    let serving = serve(telemetry.clone(), 60 * SECOND, stop.requested());
    let began = Instant::now();
    let error = stop.drain(serving).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 6);
    let ShutdownError::Lost(lost) = &error else { panic!("{error:?}") };
    assert_eq!((lost.cut_off, &lost.undelivered), (Some(1), &None));
    assert_eq!(error.to_string(), "the server was cut off with 1 requests under way");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lasts_ends_when_it_hears_of_it() {
    let telemetry = telemetry();
    let stop = telemetry.shutdown_when(async { sleep(SECOND).await });
    let events = stop.clone();
    let began = Instant::now();
    let answer = tokio::spawn(async move { events.requested().await });
    stop.drain(answer).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_given_up_and_told() {
    let telemetry = telemetry().with_sink(Sink { hangs: true, ..Sink::default() });
    let stop = telemetry.shutdown_when(ready(())).delivery(2 * SECOND);
    let began = Instant::now();
    let error = stop.drain(ready(Ok::<_, Infallible>(()))).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(error.to_string(), "not everything was delivered: the deadline passed");
}

#[tokio::test]
async fn a_server_that_fails_is_the_error_and_what_was_recorded_is_delivered() {
    let sink = Sink::default();
    let telemetry = telemetry().with_sink(sink.clone());
    telemetry.operation("open").infallible().call(|| ());
    let stop = telemetry.shutdown_when(pending());
    let error = stop.drain(ready(Err(io::Error::other("no more sockets")))).await.unwrap_err();
    assert_eq!(
        (error.to_string(), error.source().unwrap().to_string()),
        ("the server failed".into(), "no more sockets".into())
    );
    assert_eq!(*sink.names.lock().unwrap(), ["open"]);
}

#[cfg(unix)]
#[tokio::test]
async fn the_second_signal_cuts_off_what_the_first_has_asked_to_end() {
    let telemetry = telemetry();
    let stop = telemetry.shutdown_on_signal().unwrap().grace(3600 * SECOND);
    let (first, second) = (stop.requested(), stop.requested());
    let draining = tokio::spawn(stop.drain(pending::<Result<(), Infallible>>()));
    let signal = async |name: &str| {
        let id = std::process::id().to_string();
        assert!(tokio::process::Command::new("kill").args([name, &id]).status().await.unwrap().success());
    };
    signal("-TERM").await;
    first.await;
    signal("-INT").await;
    second.await;
    let error = draining.await.unwrap().unwrap_err();
    assert!(matches!(error, ShutdownError::Lost(lost) if lost.cut_off == Some(0)));
}
