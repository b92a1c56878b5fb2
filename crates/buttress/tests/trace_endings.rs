//! How long an exchange took and how it ended, however it ended.
#![cfg(all(feature = "trace", feature = "propagate"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use buttress::classify::{Ending, Outcome};
use buttress::context::{self, Context};
use buttress::observe::ObserveLayer;
use buttress::propagate::{InjectLayer, PropagateLayer, TrustPolicy};
use buttress::trace::{Connection, SpanKind, SpanRecord, Spans, Status, TraceLayer};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Full};
use support::{Answer, Canned, TRACE_ID, TRACEPARENT, answer, answer_of, attribute, exchange, get};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MILLIS: Duration = Duration::from_millis(1);

fn stream() -> (Sender<Bytes, io::Error>, Answer) {
    let (sender, body) = Channel::new(4);
    (sender, answer_of(200, body))
}

/// The one span that was recorded.
fn only(spans: &Spans) -> Arc<SpanRecord> {
    assert_eq!(spans.stats().recorded, 1, "an exchange ends exactly once");
    spans.latest(1)[0].clone()
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_300_ms_is_a_span_of_300_ms() {
    let spans = Spans::new();
    let (mut sender, answer) = stream();
    let service = TraceLayer::server(spans.clone()).layer(Canned::new(answer));
    tokio::spawn(async move {
        for _ in 0..3 {
            sleep(100 * MILLIS).await;
            sender.send_data(Bytes::from_static(b"tick")).await.unwrap();
        }
    });
    let Ok(response) = service.oneshot(get("/events", &[])).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 12);
    let span = only(&spans);
    assert_eq!(span.duration(), 300 * MILLIS);
    assert_eq!((span.ending, span.outcome), (Some(Ending::Complete), Outcome::Ok));
}

#[tokio::test(start_paused = true)]
async fn the_duration_runs_to_the_trailers() {
    let spans = Spans::new();
    let (mut sender, answer) = stream();
    let service = TraceLayer::server(spans.clone()).layer(Canned::new(answer));
    tokio::spawn(async move {
        sender.send_data(Bytes::from_static(b"data")).await.unwrap();
        sleep(70 * MILLIS).await;
        sender.send_trailers(http::HeaderMap::new()).await.unwrap();
    });
    let Ok(response) = service.oneshot(get("/", &[])).await;
    drop(response.into_body().collect().await);
    assert_eq!(only(&spans).duration(), 70 * MILLIS);
}

#[tokio::test(start_paused = true)]
async fn the_time_to_the_first_byte_is_an_attribute() {
    let spans = Spans::new();
    let service = TraceLayer::server(spans.clone()).layer(service_fn(async |_: Request<()>| {
        sleep(40 * MILLIS).await;
        Ok::<_, Infallible>(answer(200))
    }));
    let Ok(response) = service.oneshot(get("/", &[])).await;
    sleep(60 * MILLIS).await;
    drop(response.into_body().collect().await);
    let span = only(&spans);
    assert_eq!(attribute(&span, "buttress.time_to_first_byte").unwrap(), "0.04");
    assert_eq!(span.duration(), 100 * MILLIS);
}

#[tokio::test(start_paused = true)]
async fn a_request_cancelled_after_200_ms_took_200_ms() {
    let spans = Spans::new();
    let service = TraceLayer::server(spans.clone())
        .layer(service_fn(async |_: Request<()>| std::future::pending::<Result<Answer, Infallible>>().await));
    assert!(tokio::time::timeout(200 * MILLIS, service.oneshot(get("/", &[]))).await.is_err());
    let span = only(&spans);
    assert_eq!(span.duration(), 200 * MILLIS);
    assert_eq!((span.ending, span.outcome), (Some(Ending::DroppedBeforeHead), Outcome::Cancelled));
    assert_eq!(span.status, Status::Unset);
    assert_eq!(attribute(&span, "http.response.status_code"), None);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_halfway_is_cancelled_at_that_moment() {
    let spans = Spans::new();
    let (_sender, answer) = stream();
    let service = TraceLayer::server(spans.clone()).layer(Canned::new(answer));
    let Ok(response) = service.oneshot(get("/", &[])).await;
    sleep(50 * MILLIS).await;
    drop(response);
    let span = only(&spans);
    assert_eq!(span.duration(), 50 * MILLIS);
    assert_eq!((span.ending, span.outcome), (Some(Ending::DroppedInBody), Outcome::Cancelled));
}

#[tokio::test]
async fn a_body_that_breaks_is_an_error() {
    let spans = Spans::new();
    let (sender, answer) = stream();
    sender.abort(io::Error::from(io::ErrorKind::ConnectionReset));
    exchange(TraceLayer::server(spans.clone()), get("/", &[]), answer).await;
    let span = only(&spans);
    assert_eq!((span.ending, span.outcome), (Some(Ending::BodyFailed), Outcome::Error));
    assert_eq!(attribute(&span, "error.type").unwrap(), "connection_reset");
    assert_eq!(span.status, Status::Error);
}

#[tokio::test]
async fn a_panic_in_the_handler_is_recorded_and_passed_on() {
    let spans = Spans::new();
    let service =
        TraceLayer::server(spans.clone()).layer(service_fn(async |_: Request<()>| -> Result<Answer, Infallible> {
            tokio::task::yield_now().await;
            panic!("in the handler")
        }));
    let joined = tokio::spawn(service.oneshot(get("/", &[]))).await;
    assert!(joined.is_err_and(|error| error.is_panic()));
    let span = only(&spans);
    assert_eq!((span.ending, span.outcome), (Some(Ending::Panicked), Outcome::Panicked));
    assert_eq!(attribute(&span, "error.type").unwrap(), "panic");
}

#[tokio::test]
async fn a_failing_service_is_an_error_without_a_status() {
    let spans = Spans::new();
    let service = TraceLayer::server(spans.clone())
        .layer(service_fn(async |_: Request<()>| Err::<Answer, _>(io::Error::from(io::ErrorKind::TimedOut))));
    assert!(service.oneshot(get("/", &[])).await.is_err());
    let span = only(&spans);
    assert_eq!((span.ending, attribute(&span, "error.type")), (Some(Ending::Failed), Some("timeout".into())));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_ends_the_span_at_101() {
    let spans = Spans::new();
    let (_sender, mut answer) = stream();
    *answer.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let service = TraceLayer::server(spans.clone()).layer(Canned::new(answer));
    let Ok(response) = service.oneshot(get("/socket", &[])).await;
    assert_eq!(only(&spans).ending, Some(Ending::Upgraded));
    sleep(1000 * MILLIS).await;
    drop(response);
    let span = only(&spans);
    assert_eq!((span.duration(), span.outcome, span.status), (Duration::ZERO, Outcome::Ok, Status::Unset));
    assert_eq!(attribute(&span, "http.response.status_code").unwrap(), "101");
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_a_linked_span_with_counters_of_its_own() {
    let spans = Spans::new();
    let opened = spans.clone();
    let service = TraceLayer::server(spans.clone()).layer(service_fn(move |_: Request<()>| {
        let connection = Connection::open("chat", &opened);
        tokio::spawn(async move {
            connection.received(5);
            connection.sent(7);
            connection.sent(8);
            sleep(500 * MILLIS).await;
        });
        async { Ok::<_, Infallible>(answer(101)) }
    }));
    drop(service.oneshot(get("/socket", &[])).await);
    sleep(501 * MILLIS).await;
    let [connection, request] = &spans.latest(2)[..] else { panic!("two spans") };
    assert_eq!((connection.name.as_ref(), connection.duration()), ("chat", 500 * MILLIS));
    assert_ne!(connection.trace_id, request.trace_id);
    assert_eq!(connection.links[0].trace.span_id, request.span_id);
    let counters = ["received", "received_bytes", "sent", "sent_bytes"]
        .map(|counter| attribute(connection, &format!("connection.messages.{counter}")).unwrap());
    assert_eq!(counters, ["1", "5", "2", "15"]);
}

#[tokio::test]
async fn a_connection_that_broke_is_an_error() {
    let spans = Spans::new();
    Connection::open("chat", &spans).failed("protocol_error");
    let span = only(&spans);
    assert_eq!((span.outcome, span.status), (Outcome::Error, Status::Error));
    assert_eq!(attribute(&span, "error.type").unwrap(), "protocol_error");
}

#[tokio::test]
async fn a_connection_of_an_unsampled_request_is_not_recorded() {
    let spans = Spans::new();
    let opened = spans.clone();
    let service = TraceLayer::server(spans.clone()).sampler(buttress::trace::Sampler::always_off()).layer(service_fn(
        move |_: Request<()>| {
            drop(Connection::open("chat", &opened));
            async { Ok::<_, Infallible>(answer(101)) }
        },
    ));
    drop(service.oneshot(get("/socket", &[])).await);
    assert_eq!(spans.stats().recorded, 0);
}

/// A handler that calls another service through a client layer.
fn calling(
    spans: &Spans,
    inner: Canned,
) -> impl Service<Request<()>, Response = Answer, Error = Infallible, Future: Send> + Clone + use<> {
    let client = ServiceBuilder::new()
        .layer(TraceLayer::client(spans.clone()))
        .layer(InjectLayer::new())
        .map_response(|response: Response<_>| response.map(BodyExt::boxed_unsync))
        .service(inner);
    service_fn(move |_: Request<()>| {
        let client = client.clone();
        async move {
            let Ok(response) = client.oneshot(get("http://stock/", &[])).await;
            drop(response.into_body().collect().await);
            Ok(answer(200))
        }
    })
}

#[tokio::test]
async fn a_client_call_inside_a_handler_is_the_child_of_the_server_span() {
    let spans = Spans::new();
    let stock = Canned::new(answer(200));
    let service = ServiceBuilder::new()
        .layer(PropagateLayer::new())
        .layer(TraceLayer::server(spans.clone()))
        .service(calling(&spans, stock.clone()));
    let Ok(response) = service.oneshot(get("/", &[("traceparent", TRACEPARENT)])).await;
    drop(response.into_body().collect().await);

    let [server, client] = &spans.latest(2)[..] else { panic!("two spans") };
    assert_eq!((server.kind, client.kind), (SpanKind::Server, SpanKind::Client));
    assert_eq!((server.trace_id.to_string().as_str(), server.parent_is_remote), (TRACE_ID, true));
    assert_eq!((client.parent_span_id, client.parent_is_remote), (Some(server.span_id), false));
    let (sent, _) = stock.seen();
    assert_eq!(sent["traceparent"], format!("00-{TRACE_ID}-{}-01", client.span_id));
}

#[tokio::test]
async fn a_restarted_trace_links_the_callers_span_once() {
    let spans = Spans::new();
    let service = ServiceBuilder::new()
        .layer(PropagateLayer::new().trust(TrustPolicy::public()))
        .layer(TraceLayer::server(spans.clone()))
        .service(calling(&spans, Canned::new(answer(200))));
    drop(service.oneshot(get("/", &[("traceparent", TRACEPARENT), ("tracestate", "a=1")])).await);
    let [server, client] = &spans.latest(2)[..] else { panic!("two spans") };
    assert_eq!(server.links.len(), 1);
    assert_eq!(server.links[0].trace.encode(), TRACEPARENT.as_bytes());
    assert_eq!((server.parent_span_id, server.tracestate.is_empty()), (None, true));
    assert!(client.links.is_empty(), "the link belongs to the root alone");
}

#[tokio::test]
async fn a_restart_that_drops_the_caller_links_nothing() {
    use buttress::propagate::Trust;

    let spans = Spans::new();
    let policy = TrustPolicy::public().trace(Trust::RestartAndDrop);
    let observers = (PropagateLayer::new().trust(policy).observer(), TraceLayer::server(spans.clone()).observer());
    exchange(ObserveLayer::server(observers), get("/", &[("traceparent", TRACEPARENT)]), answer(200)).await;
    assert!(only(&spans).links.is_empty());
}

#[tokio::test]
async fn fused_and_stacked_layers_tell_the_span_that_was_recorded() {
    for traceparent in [TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "none"] {
        let spans = Spans::new();
        let propagate = PropagateLayer::new().server_timing(true);
        let trace = TraceLayer::server(spans.clone()).sampler(buttress::trace::Sampler::always_on());
        let request = || get("/", &[("traceparent", traceparent)]);

        let fused = ObserveLayer::server((propagate.observer(), trace.observer()));
        let fused = exchange(fused, request(), answer(200)).await.head.headers;
        let stacked = ServiceBuilder::new().layer(propagate).layer(trace).service(Canned::new(answer(200)));
        let Ok(stacked) = stacked.oneshot(request()).await;
        let stacked = stacked.map(drop).into_parts().0.headers;

        let [second, first] = &spans.latest(2)[..] else { panic!("two spans") };
        for (headers, span) in [(fused, first), (stacked, second)] {
            assert_eq!(headers["x-span-id"], span.span_id.to_string());
            assert_eq!(headers["x-trace-id"], span.trace_id.to_string());
            let flags = if span.flags.is_random() { "03" } else { "01" };
            let told = format!("trace;desc=00-{}-{}-{flags}", span.trace_id, span.span_id);
            assert_eq!(headers["server-timing"], told, "{traceparent}");
        }
    }
}

#[tokio::test]
async fn attributes_events_and_a_name_of_the_handler_are_on_the_span() {
    let spans = Spans::new();
    let service = TraceLayer::server(spans.clone()).layer(service_fn(async |_: Request<()>| {
        let context = context::current().unwrap();
        context.set_attribute("cart.items", 3_u32);
        context.set_attribute("cart.items", 4_u32);
        context.add_event("charged", [("amount", 12.5)]);
        context.set_name("checkout");
        Ok::<_, Infallible>(answer(200))
    }));
    drop(service.oneshot(get("/", &[])).await);
    let span = only(&spans);
    assert_eq!((span.name.as_ref(), attribute(&span, "cart.items").unwrap().as_str()), ("checkout", "4"));
    assert_eq!(span.events[0].name, "charged");
    assert_eq!(span.events[0].attributes[0].1.to_string(), "12.5");
}

#[tokio::test]
async fn the_body_is_polled_in_the_context_of_its_exchange() {
    let spans = Spans::new();
    let body = Full::from("x").map_frame(|frame| {
        context::current().expect("the body has the context").set_attribute("in.body", true);
        frame
    });
    exchange(TraceLayer::server(spans.clone()), get("/", &[]), answer_of(200, body)).await;
    assert_eq!(attribute(&only(&spans), "in.body").unwrap(), "true");
}

#[tokio::test]
async fn a_disabled_tracing_layer_passes_everything_through() {
    let spans = Spans::new();
    let exchanged = exchange(TraceLayer::server(spans.clone()).enabled(false), get("/", &[]), answer(200)).await;
    assert!(exchanged.context.is_none());
    assert_eq!(spans.stats().recorded, 0);
}

#[tokio::test]
async fn a_second_server_layer_records_a_child_and_not_the_same_span_twice() {
    let spans = Spans::new();
    let trace = TraceLayer::server(spans.clone());
    let service = ServiceBuilder::new().layer(trace.clone()).layer(trace).service(Canned::new(answer(200)));
    drop(Context::root().scope(service.oneshot(get("/", &[]))).await);
    let [outer, inner] = &spans.latest(2)[..] else { panic!("two spans") };
    assert_eq!(inner.parent_span_id, Some(outer.span_id));
}
