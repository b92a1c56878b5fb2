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
async fn each_client_sends_the_ids_of_its_span() {
    let printed = printed().await;
    let arrived = arrived(&printed);
    assert_eq!(arrived.len(), 4, "{printed}");
    for (at, (trace_id, span_id)) in arrived.into_iter().enumerate() {
        let name = if at == 3 { "shop.Shelf/Look " } else { "GET http://" };
        assert!(printed.contains(&format!("{trace_id} {span_id} {name}")), "{printed}");
    }
}

#[tokio::test]
async fn the_calls_are_one_trace_of_different_spans() {
    let printed = printed().await;
    let arrived = arrived(&printed);
    assert!(arrived.iter().all(|(trace_id, _)| *trace_id == arrived[0].0), "{printed}");
    let mut spans: Vec<_> = arrived.iter().map(|(_, span_id)| span_id).collect();
    spans.sort();
    spans.dedup();
    assert_eq!(spans.len(), 4, "{printed}");
}

#[tokio::test]
async fn baggage_goes_along() {
    assert_eq!(printed().await.matches("baggage: tenant=blue").count(), 4);
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
async fn a_busy_callee_is_asked_again_by_each_client_with_a_span_for_each_attempt() {
    let printed = printed().await;
    assert_eq!(printed.matches("where the first answer is 503: 200 OK after 1 repeat").count(), 3, "{printed}");
    assert_eq!(printed.matches("where the first answer is UNAVAILABLE: OK after 1 repeat").count(), 1, "{printed}");
    for (what, refused, done) in [
        ("/busy/hyper-util ", " 503 error ", " 200 ok "),
        ("/busy/reqwest ", " 503 error ", " 200 ok "),
        ("/busy/own ", " 503 error ", " 200 ok "),
        ("shop.Shelf/LookWhileBusy ", " UNAVAILABLE error ", " OK ok "),
    ] {
        let spans: Vec<_> = printed.lines().filter(|line| line.contains(what)).collect();
        let [first, second] = spans[..] else { panic!("two attempts: {printed}") };
        assert!(first.contains(refused) && !first.contains("repeat"), "{first}");
        assert!(second.contains(done) && second.ends_with(" repeat 1"), "{second}");
    }
}

#[tokio::test]
async fn the_circuit_of_who_is_not_there_opens_for_each_client() {
    let printed = printed().await;
    for name in ["no-stock", "no-prices", "no-books", "no-shelf"] {
        let told = format!("after 20 calls that failed, the circuit {name} is open; come again in ");
        assert!(printed.contains(&told), "{printed}");
    }
}

#[tokio::test]
async fn a_variable_that_does_not_count_is_told_at_the_start() {
    let variables = [("TELEMETRY_ENABLED", "true"), ("BUTTRESS_ENABLED", "true"), ("EVENTS_ENABLED", "true")];
    let output = Command::new(env!("CARGO_BIN_EXE_outbound-client")).envs(variables).output().await.expect("it runs");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            "buttress: TELEMETRY_ENABLED is set but not used, because BUTTRESS_ENABLED is set too",
            "buttress: EVENTS_ENABLED is set but not used: there are no events yet; they come with `buttress-monitor`",
        ]
    );
}
