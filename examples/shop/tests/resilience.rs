//! The payments in trouble: what their circuit and the retries make of it, seen from outside.

mod rig;

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use rig::{Open, PATIENCE, find};

/// Between two looks; what is waited for happens in another process.
const PAUSE: Duration = Duration::from_millis(50);
/// The circuit opens for up to ten seconds and more at a time.
const LONG: Duration = Duration::from_secs(120);

/// The circuit of the payments.
async fn circuit(open: &Open) -> Value {
    let (_, page) = open.get("/circuits").await;
    let circuits = page.as_array().expect("circuits");
    circuits.iter().find(|circuit| circuit["name"] == "payments").expect("the payments have one").clone()
}

/// Orders until the circuit of the payments is in this state.
async fn order_until(open: &Open, state: &str) -> Value {
    let reached = async {
        loop {
            let circuit = circuit(open).await;
            if circuit["state"] == state {
                return circuit;
            }
            open.order().await;
            sleep(PAUSE).await;
        }
    };
    timeout(LONG, reached).await.unwrap_or_else(|_| panic!("never {state}"))
}

/// The sum of a family on the payments' own page.
async fn of_payments(open: &Open, name: &str) -> f64 {
    let page = open.text("/payments/metrics", "text/plain").await;
    let samples = page.lines().filter_map(|line| line.strip_prefix(name)?.starts_with('{').then_some(line));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// An order that was rejected by the circuit of the payments while they heard of nothing.
async fn rejected_unheard(open: &Open) -> http::response::Parts {
    loop {
        let before = circuit(open).await;
        let quiet = of_payments(open, "http_server_active_requests").await == 0.0 && before["in_flight"] == 0;
        if before["state"] == "open" && quiet {
            let served = of_payments(open, "http_server_request_duration_seconds_count").await;
            let (head, body) = open.order().await;
            let served_then = of_payments(open, "http_server_request_duration_seconds_count").await;
            let after = circuit(open).await;
            let same = after["state"] == "open" && after["counts"]["probes"] == before["counts"]["probes"];
            // The lamps may be sold out instead.
            if same && head.status != StatusCode::CONFLICT {
                assert!(served > 0.0);
                assert_eq!(served_then, served, "{body}: {after:#}");
                assert_eq!(after["counts"]["admitted"], before["counts"]["admitted"], "{after:#}");
                return head;
            }
        }
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_brown_out_opens_the_circuit_of_the_payments_which_closes_once_they_are_well() {
    let mut open = Open::start().await;
    assert_eq!(circuit(&open).await["state"], "closed");
    let (_, faults) = open.post("/faults/payments?kind=brownout").await;
    assert_eq!((&faults["payments"]["kind"], &faults["payments"]["ms"]), (&"brownout".into(), &400.into()));
    let opened = order_until(&open, "open").await;
    assert!(opened["last_trip"]["text"].as_str().is_some_and(|reason| reason.contains("failed")), "{opened:#}");

    let head = timeout(LONG, rejected_unheard(&open)).await.expect("the circuit is open for seconds");
    assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE);
    let wait: u64 = head.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=12).contains(&wait), "{wait}");
    assert!(circuit(&open).await["counts"]["rejected"].as_u64() > Some(0));

    open.post("/faults/payments?kind=none").await;
    let closed = order_until(&open, "closed").await;
    let steps = closed["transitions"].as_array().expect("transitions");
    let steps: Vec<_> = steps.iter().map(|step| (step["from"].as_str(), step["to"].as_str())).collect();
    assert_eq!(steps[..2], [(Some("half_open"), Some("closed")), (Some("open"), Some("half_open"))], "{closed:#}");
    // Only a part of the calls passes at first.
    let charged = async { while open.order().await.0.status != StatusCode::CREATED {} };
    timeout(LONG, charged).await.expect("orders are charged again");

    let told = async {
        while let Some(line) = open.stdout.next_line().await.expect("reads") {
            if line.contains("circuit payments: half_open -> closed") {
                return;
            }
        }
        panic!("not told");
    };
    timeout(PATIENCE, told).await.expect("in time");
}

#[tokio::test]
async fn a_repeat_is_a_second_span_that_links_to_the_first() {
    let open = Open::start().await;
    open.post("/circuits/payments?force=closed").await;
    open.post("/faults/payments?kind=errors&share=0.5").await;
    let charged_at_the_second_try = async {
        loop {
            let (status, spans) = open.traced_order().await;
            if status == StatusCode::CREATED && find(&spans, "payments", 2).len() == 2 {
                return spans;
            }
            // The budget pays for one repeat a second without any success, and customers take from it too.
            sleep(PAUSE).await;
        }
    };
    let spans = timeout(PATIENCE, charged_at_the_second_try).await.expect("in time");
    let served = find(&spans, "payments", 2);
    let calls = find(&spans, "storefront", 3);
    let of = |served: &Value| {
        let call = calls.iter().find(|call| call["spanId"] == served["parentSpanId"]);
        (*call.expect("each has a span of its own")).clone()
    };
    let (first, second) = (of(served[0]), of(served[1]));
    assert_eq!(first["attributes"]["http.response.status_code"], 503, "{first:#}");
    assert!(first["attributes"]["http.request.resend_count"].is_null(), "{first:#}");
    assert_eq!(second["attributes"]["http.response.status_code"], 200, "{second:#}");
    assert_eq!(second["attributes"]["http.request.resend_count"], 1, "{second:#}");
    assert_eq!(second["links"][0]["spanId"], first["spanId"], "{second:#}");
    assert_eq!(first["parentSpanId"], second["parentSpanId"]);
}

#[tokio::test]
async fn a_circuit_is_forced_and_released_by_hand() {
    let open = Open::start().await;
    let (head, forced) = open.post("/circuits/payments?force=open&for=1h").await;
    assert_eq!((head.status, &forced["state"]), (StatusCode::OK, &"forced_open".into()));
    let rejected = async {
        loop {
            let (head, _) = open.order().await;
            if head.status != StatusCode::CONFLICT {
                return head.status;
            }
        }
    };
    assert_eq!(rejected.await, StatusCode::SERVICE_UNAVAILABLE);
    let (_, released) = open.post("/circuits/payments?force=release").await;
    assert_eq!(released["state"], "closed");
    let (_, reset) = open.post("/circuits/payments?force=reset").await;
    assert_eq!(
        (&reset["state"], &reset["transitions"][0]["text"]),
        (&"closed".into(), &"reset: POST /circuits".into())
    );

    for (path, status) in [
        ("/circuits/shelves?force=open", StatusCode::NOT_FOUND),
        ("/circuits/payments?force=open&for=soon", StatusCode::BAD_REQUEST),
    ] {
        let (head, body) = open.post(path).await;
        assert_eq!(head.status, status, "{path}");
        assert!(body["error"].is_string(), "{path}");
    }
}
