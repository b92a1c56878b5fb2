use std::future::pending;
use std::io;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::LazyLock;
use std::time::Duration;

use buttress::observe;

use crate::{TELEMETRY, active, ended_once, last, poll_once, spans};

#[observe(name = "sync.ok")]
fn ok() -> i64 {
    active("sync.ok")
}

#[observe(name = "sync.error")]
fn error() -> Result<(), io::Error> {
    Err(io::ErrorKind::ConnectionRefused)?;
    Ok(())
}

#[observe(name = "sync.panic")]
fn panics() {
    panic!("on purpose")
}

#[test]
fn a_function_ends_once_and_as_it_did() {
    LazyLock::force(&TELEMETRY);
    assert_eq!(ok(), 1);
    ended_once("sync.ok", "ok", None);
    error().unwrap_err();
    ended_once("sync.error", "error", Some("connection_refused"));
    catch_unwind(panics).unwrap_err();
    ended_once("sync.panic", "panicked", Some("panic"));
}

#[observe(name = "async.ok")]
async fn ok_later() -> i64 {
    tokio::time::sleep(Duration::from_millis(40)).await;
    active("async.ok")
}

#[observe(name = "async.error")]
async fn error_later() -> Result<(), String> {
    Err("refused")?;
    Ok(())
}

#[observe(name = "async.timeout")]
async fn timeout() -> Result<(), tokio::time::error::Elapsed> {
    tokio::time::timeout(Duration::from_millis(5), pending()).await
}

#[observe(name = "async.cancel")]
async fn waits() {
    pending().await
}

#[observe(name = "async.panic")]
async fn panics_later() {
    tokio::task::yield_now().await;
    panic!("on purpose")
}

#[tokio::test(start_paused = true)]
async fn an_async_function_ends_once_in_each_of_five_ways() {
    LazyLock::force(&TELEMETRY);
    assert_eq!(ok_later().await, 1);
    ended_once("async.ok", "ok", None);
    assert_eq!(last("async.ok").duration(), Duration::from_millis(40));
    error_later().await.unwrap_err();
    ended_once("async.error", "error", Some("alloc::string::String"));
    timeout().await.unwrap_err();
    ended_once("async.timeout", "timeout", Some("timeout"));
    {
        let mut waiting = pin!(waits());
        assert!(poll_once(waiting.as_mut()).is_pending());
        assert_eq!(active("async.cancel"), 1);
    }
    ended_once("async.cancel", "cancelled", None);
    tokio::spawn(panics_later()).await.unwrap_err();
    ended_once("async.panic", "panicked", Some("panic"));
}

#[test]
fn a_future_that_nobody_polls_leaves_nothing() {
    LazyLock::force(&TELEMETRY);
    #[observe(name = "never")]
    async fn never() {}
    drop(never());
    assert_eq!((spans("never").len(), active("never")), (0, 0));
}
