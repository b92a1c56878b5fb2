//! Streams are streams and no latency.

use std::convert::Infallible;
use std::time::Duration;

use buttress::metrics::source::{StreamKind, StreamMetrics};
use buttress::metrics::{Registry, RequestMetricsLayer};
use buttress::observe::Route;
use buttress_tests::numbers::{count, family, sum, total};
use buttress_tests::{ScriptBody, Step, headers, read};
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};

use crate::{CLIENT_DURATION, DURATION, REQUESTS, get, send};

#[tokio::test(start_paused = true)]
async fn events_from_the_server_are_a_stream_and_no_latency() {
    let registry = Registry::new();
    let events = service_fn(async |_: Request<()>| {
        let event = || [Step::Wait(Duration::from_secs(60)), Step::Data("data: x\n\n")];
        let mut response = Response::new(ScriptBody::new([event(), event()].concat()));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
        response.extensions_mut().insert(Route::from_static("/events"));
        Ok::<_, Infallible>(response)
    });
    let response = RequestMetricsLayer::server(&registry).layer(events).oneshot(get("/events")).await.unwrap();
    let stream = [("stream.kind", "sse"), ("http.route", "/events")];
    assert_eq!(total(&registry, "stream.open", &stream), 1);
    read(response.into_body()).await.unwrap();
    assert_eq!((total(&registry, "stream.open", &stream), total(&registry, "stream.opened", &stream)), (0, 1));
    assert_eq!(total(&registry, "stream.messages", &[("stream.direction", "out"), stream[0]]), 2);
    assert_eq!(total(&registry, "stream.bytes", &[("stream.direction", "out"), stream[0]]), 18);
    assert_eq!(sum(&registry, "stream.duration", &stream), 120.0);
    assert_eq!((count(&registry, DURATION, &[]), total(&registry, REQUESTS, &[])), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn events_come_in_where_they_are_asked_for_and_their_media_type_may_be_written_in_any_case() {
    let registry = Registry::new();
    let events = service_fn(async |_: Request<()>| {
        let mut response = Response::new(ScriptBody::new([Step::Data("data: x\n\n"), Step::Data("data: y\n\n")]));
        *response.headers_mut() = headers([("content-type", "Text/Event-Stream; charset=utf-8")]);
        Ok::<_, Infallible>(response)
    });
    let response = RequestMetricsLayer::client(&registry).layer(events).oneshot(get("/events")).await.unwrap();
    read(response.into_body()).await.unwrap();
    let one_way = |way| {
        let labels = [("stream.kind", "sse"), ("stream.direction", way)];
        (total(&registry, "stream.messages", &labels), total(&registry, "stream.bytes", &labels))
    };
    assert_eq!((one_way("in"), one_way("out")), ((2, 18), (0, 0)));
    assert_eq!(count(&registry, CLIENT_DURATION, &[]), 0);
}

#[tokio::test]
async fn a_tunnel_is_a_stream_when_it_was_granted_and_only_then() {
    let registry = Registry::new();
    for (uri, opened) in [("/404", 0), ("/head", 1)] {
        send(&registry, Request::connect(uri).body(()).unwrap()).await;
        assert_eq!(total(&registry, "stream.opened", &[("stream.kind", "upgrade")]), opened);
    }
    assert_eq!(count(&registry, DURATION, &[]), 1, "of the refusal");
}

#[tokio::test]
async fn an_upgrade_is_a_websocket_in_whatever_case_its_protocol_is_written() {
    let registry = Registry::new();
    for (nth, protocol) in ["websocket", "WebSocket", "WEBSOCKET", "h2c"].into_iter().enumerate() {
        let upgrades = service_fn(async move |_: Request<()>| {
            let mut response = Response::new(ScriptBody::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = headers([("upgrade", protocol)]);
            Ok::<_, Infallible>(response)
        });
        let response = RequestMetricsLayer::server(&registry).layer(upgrades).oneshot(get("/ws")).await.unwrap();
        read(response.into_body()).await.unwrap();
        let opened = |kind| total(&registry, "stream.opened", &[("stream.kind", kind)]);
        let websockets = (nth as i64 + 1).min(3);
        assert_eq!((opened("websocket"), opened("upgrade")), (websockets, i64::from(nth == 3)), "{protocol}");
    }
}

#[tokio::test]
async fn other_kinds_of_text_are_no_streams() {
    let registry = Registry::new();
    let kinds = ["text/html; charset=utf-8", "text/event", "text/event-streams", "application/event-stream"];
    for kind in kinds {
        let texts = service_fn(async move |_: Request<()>| {
            let mut response = Response::new(ScriptBody::new([Step::Data("text")]));
            *response.headers_mut() = headers([("content-type", kind)]);
            Ok::<_, Infallible>(response)
        });
        let response = RequestMetricsLayer::server(&registry).layer(texts).oneshot(get("/text")).await.unwrap();
        read(response.into_body()).await.unwrap();
    }
    assert_eq!((count(&registry, DURATION, &[]), family(&registry, "stream.opened")), (4, None));
}

#[tokio::test]
async fn an_upgrade_that_nobody_has_wrapped_yet_takes_nothing_from_streams_that_are_none() {
    let registry = Registry::new();
    send(&registry, get("/upgrade")).await;
    let of = |kind: StreamKind| total(&registry, "stream.opened", &[("stream.kind", kind.as_str())]);
    drop(StreamMetrics::new(&registry, StreamKind::Sse).open());
    drop(StreamMetrics::new(&registry, StreamKind::Other).open());
    assert_eq!([StreamKind::Sse, StreamKind::Other, StreamKind::Upgrade].map(of), [1, 1, 1]);
    // Whoever wraps it opens nothing new.
    drop(StreamMetrics::new(&registry, StreamKind::Upgrade).open());
    assert_eq!(of(StreamKind::Upgrade), 1);
    drop(StreamMetrics::new(&registry, StreamKind::Upgrade).open());
    assert_eq!(of(StreamKind::Upgrade), 2);
}
