//! The example as a program, looked at from outside.

use std::time::Duration;

use buttress_tests::example::Example;

async fn start(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> Example {
    let folder = folder.path().to_str().unwrap();
    let variables: Vec<_> = [("WEBHOOKS_DATA", folder)].into_iter().chain(more.iter().copied()).collect();
    Example::start(env!("CARGO_BIN_EXE_webhooks"), &variables).await
}

#[tokio::test]
async fn an_order_goes_out_signed_and_comes_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut example = start(&folder, &[]).await;
    let json = [("content-type", "application/json")];
    let taken = example.post("/orders", &json, r#"{"item":"lamp"}"#).await;
    assert_eq!(taken.status(), 202);
    let line = example.line().await;
    let event = taken.json()["event"].as_str().unwrap().to_owned();
    assert_eq!(line, format!("order.created {event} item=lamp attempt=1"));
}
