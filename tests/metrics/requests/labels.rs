//! What requests are told apart by.

use std::convert::Infallible;

use buttress::metrics::{Registry, RequestBodySizeLayer, RequestMetricsLayer, Stored};
use buttress_tests::numbers::{count, family, labels, total};
use buttress_tests::{ScriptBody, read};
use http::{Request, Response, Version};
use tower::{Layer, ServiceExt, service_fn};

use crate::{ACTIVE, CLIENT_DURATION, DURATION, REQUESTS, answer, get, send};

#[tokio::test(start_paused = true)]
async fn errors_are_told_by_their_type_and_only_errors_have_one() {
    let registry = Registry::new();
    for path in ["/error", "/500", "/broken", "/items/7", "/nowhere"] {
        send(&registry, get(path)).await;
    }
    let by_error: Vec<String> =
        labels(&registry, DURATION).into_iter().filter(|labels| labels.contains("error.type")).collect();
    assert_eq!(by_error.len(), 3, "{by_error:?}");
    assert_eq!(count(&registry, DURATION, &[("error.type", "500"), ("http.response.status_code", "500")]), 1);
    assert_eq!(count(&registry, DURATION, &[("http.route", "/broken"), ("http.response.status_code", "200")]), 1);
    assert_eq!(total(&registry, REQUESTS, &[("buttress.ending", "body_failed")]), 1);
    assert_eq!(total(&registry, REQUESTS, &[("buttress.ending", "failed")]), 1);
}

#[tokio::test(start_paused = true)]
async fn each_side_has_the_metrics_of_the_conventions_in_their_units() {
    let registry = Registry::new();
    let stream = || Request::post("/stream").body(ScriptBody::default()).unwrap();
    let call = || Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc").body(()).unwrap();
    for layer in [RequestMetricsLayer::server(&registry), RequestMetricsLayer::client(&registry)] {
        read(layer.layer(service_fn(answer)).oneshot(call()).await.unwrap().into_body()).await.unwrap();
        let sized = RequestBodySizeLayer::like(&layer)
            .layer(service_fn(async |request: Request<_>| answer(request.map(drop)).await));
        read(layer.layer(sized).oneshot(stream()).await.unwrap().into_body()).await.unwrap();
    }
    let families = registry.snapshot().families.into_iter();
    let told: Vec<String> = families.map(|one| format!("{} {} {:?}", one.name, one.unit, one.kind)).collect();
    let mut expected: Vec<String> = ["client", "server"]
        .into_iter()
        .flat_map(|side| {
            [
                format!("buttress.http.{side}.requests {{request}} Counter"),
                format!("buttress.http.{side}.response.body.duration s Histogram"),
                format!("buttress.http.{side}.time_to_first_byte s Histogram"),
                format!("http.{side}.active_requests {{request}} UpDownCounter"),
                format!("http.{side}.request.body.size By Histogram"),
                format!("http.{side}.request.duration s Histogram"),
                format!("http.{side}.response.body.size By Histogram"),
                format!("rpc.{side}.call.duration s Histogram"),
            ]
        })
        .collect();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn statuses_and_ports_are_numbers_among_the_labels() {
    let registry = Registry::new();
    let client = RequestMetricsLayer::client(&registry).layer(service_fn(answer));
    read(client.oneshot(get("http://shop.example:8080/items/7")).await.unwrap().into_body()).await.unwrap();
    let series = family(&registry, CLIENT_DURATION).unwrap().series.remove(0);
    let numbers = series.labels.iter().filter_map(|label| match label.value {
        Stored::Int(number) => Some((&*label.key, number)),
        _ => None,
    });
    assert_eq!(Vec::from_iter(numbers), [("server.port", 8080), ("http.response.status_code", 200)]);
}

#[tokio::test]
async fn the_scheme_is_the_one_that_the_caller_used() {
    let registry = Registry::new();
    let request = |name: &str, value: &str| Request::get("/nowhere").header(name, value).body(()).unwrap();
    send(&registry, request("x-forwarded-proto", "https")).await;
    send(&registry, request("forwarded", "for=1.2.3.4;proto=HTTPS")).await;
    send(&registry, request("x-forwarded-proto", "gopher")).await;
    send(&registry, get("/nowhere")).await;
    let with_scheme = |scheme| count(&registry, DURATION, &[("url.scheme", scheme)]);
    assert_eq!((with_scheme("https"), with_scheme("_OTHER"), with_scheme("http")), (2, 1, 1));
}

#[tokio::test]
async fn a_server_tells_hosts_apart_only_if_they_are_named() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).server_addresses(["shop.example"]);
    for host in ["shop.example:8080", "SHOP.example", "evil.example", "worse.example"] {
        let request = Request::get("/items/7").header("host", host).body(()).unwrap();
        let response = layer.layer(service_fn(answer)).oneshot(request).await.unwrap();
        read(response.into_body()).await.unwrap();
    }
    assert_eq!(count(&registry, DURATION, &[("server.address", "shop.example")]), 2);
    assert_eq!(count(&registry, DURATION, &[("server.address", "_OTHER")]), 2);
    let active = |address| format!("http.request.method=GET server.address={address} url.scheme=http");
    assert_eq!(labels(&registry, ACTIVE), ["_OTHER", "shop.example"].map(active));
    send(&registry, get("/nowhere")).await;
    assert_eq!(labels(&registry, ACTIVE)[2], "http.request.method=GET url.scheme=http");
    assert_eq!(total(&registry, ACTIVE, &[]), 0);
}

#[tokio::test]
async fn the_version_of_the_protocol_is_the_servers_of_the_request_and_the_clients_of_the_answer() {
    let registry = Registry::new();
    let versions = [
        (Version::HTTP_09, "0.9"),
        (Version::HTTP_10, "1.0"),
        (Version::HTTP_11, "1.1"),
        (Version::HTTP_2, "2"),
        (Version::HTTP_3, "3"),
    ];
    for (version, text) in versions {
        let service = service_fn(move |_: Request<()>| async move {
            let mut response = Response::new(ScriptBody::default());
            *response.version_mut() = version;
            Ok::<_, Infallible>(response)
        });
        let client = RequestMetricsLayer::client(&registry).layer(service);
        read(client.oneshot(get("http://shop.example/")).await.unwrap().into_body()).await.unwrap();
        send(&registry, Request::get("/").version(version).body(()).unwrap()).await;
        for side in [CLIENT_DURATION, DURATION] {
            assert_eq!(count(&registry, side, &[("network.protocol.version", text)]), 1, "{side}: {text}");
        }
    }
}
