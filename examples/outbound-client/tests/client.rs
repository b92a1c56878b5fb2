//! What the example prints: the headers that arrived, and spans that fit them.

use tokio::process::Command;

async fn printed() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_outbound-client")).output().await.expect("the example runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Trace id and span id of each `traceparent` that arrived.
fn arrived(printed: &str) -> Vec<(&str, &str)> {
    let values = printed.lines().filter_map(|line| line.trim().strip_prefix("traceparent: 00-"));
    values.map(|value| (&value[..32], &value[33..49])).collect()
}

#[tokio::test]
async fn each_client_sends_the_ids_of_their_spans() {
    let printed = printed().await;
    let arrived = arrived(&printed);
    assert_eq!(arrived.len(), 3, "{printed}");
    for (trace_id, span_id) in arrived {
        assert!(printed.contains(&format!("{trace_id} {span_id} GET http://")), "{printed}");
    }
}

#[tokio::test]
async fn the_calls_are_one_trace_of_different_spans() {
    let printed = printed().await;
    let [first, second, third] = arrived(&printed)[..] else {
        panic!("three calls arrive: {printed}");
    };
    assert_eq!([first.0, second.0], [third.0; 2]);
    assert!(first.1 != second.1 && second.1 != third.1 && third.1 != first.1, "{printed}");
}

#[tokio::test]
async fn baggage_goes_along() {
    assert_eq!(printed().await.matches("baggage: tenant=blue").count(), 3);
}

#[tokio::test]
async fn the_span_hides_what_the_callee_may_see() {
    let printed = printed().await;
    assert!(printed.contains("/stock/7?token=REDACTED 200 ok"), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[tokio::test]
async fn a_connection_that_fails_is_an_error_with_a_name() {
    let printed = printed().await;
    let span =
        printed.lines().find(|line| line.contains("GET http://127.0.0.1:1/")).expect("a span of the failed call");
    assert!(span.contains(" connection_refused error "), "{span}");
}

#[tokio::test]
async fn a_busy_callee_is_asked_again_with_a_span_for_each_attempt() {
    let printed = printed().await;
    assert!(printed.contains("200 OK after 1 repeat"), "{printed}");
    let spans: Vec<_> = printed.lines().filter(|line| line.contains("/busy ")).collect();
    let [first, second] = spans[..] else { panic!("two attempts: {printed}") };
    assert!(first.contains(" 503 error ") && !first.contains("repeat"), "{first}");
    assert!(second.contains(" 200 ok ") && second.ends_with(" repeat 1"), "{second}");
}

#[tokio::test]
async fn the_circuit_of_who_is_not_there_opens() {
    let printed = printed().await;
    assert!(printed.contains("after 20 calls that failed, the circuit nobody is open; come again in "), "{printed}");
}
