//! What is written down.

use std::time::Duration;

use buttress::circuit_breaker::{CallResult, State};
use tokio::time::{Instant, advance};

use crate::{FIRST_WAIT, SECOND, call, calls, circuit, half_open};

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_open_for_the_rest_of_its_wait_after_a_restart() {
    let circuit = circuit();
    half_open(&circuit).await.report(CallResult::FAILED, Instant::now());
    advance(4 * SECOND).await;
    let text = serde_json::to_string(&circuit.export()).unwrap();
    assert_eq!(text, r#"{"version":1,"state":"open","remaining_ms":6000,"opened":2}"#);

    let twin = self::circuit();
    twin.import(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(twin.admit(Instant::now()).unwrap_err().retry_after, 6 * SECOND);
    advance(6 * SECOND).await;
    call(&twin, CallResult::FAILED);
    assert_eq!(twin.admit(Instant::now()).unwrap_err().retry_after, 4 * FIRST_WAIT);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_down_cannot_keep_a_circuit_from_closing() {
    let circuit = circuit();
    let text = r#"{"version":1,"state":"open","remaining_ms":18446744073709551615,"opened":4294967295}"#;
    circuit.import(&serde_json::from_str(text).unwrap()).unwrap();
    advance(Duration::from_secs(60)).await;
    assert_eq!(calls(&circuit, 3, CallResult::Ok), 3);
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_not_taken_over() {
    let circuit = circuit();
    let import = |text: &str| circuit.import(&serde_json::from_str(text).unwrap()).unwrap_err().to_string();
    assert_eq!(import(r#"{"version":2,"state":"open"}"#), "version 2 of a circuit's state; accepted is 1");
    let error = import(r#"{"version":1,"state":"ajar"}"#);
    assert!(error.starts_with(r#"a circuit is never "ajar"; accepted are closed, open, half_open"#), "{error}");
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_is_written_down_as_one_that_may_probe() {
    let circuit = circuit();
    let _probe = half_open(&circuit).await;
    let twin = self::circuit();
    twin.import(&circuit.export()).unwrap();
    assert!(twin.admit(Instant::now()).unwrap().is_probe());
}
