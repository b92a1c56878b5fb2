//! What a client tells of the servers that it asks.

use std::convert::Infallible;

use buttress::metrics::{MetricsConfig, Registry, RequestBodySizeLayer, RequestMetricsLayer};
use buttress::observe::Route;
use buttress_tests::numbers::{count, family, labels, sum, total};
use buttress_tests::{ScriptBody, Step, read};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};

use crate::{CLIENT_ACTIVE, CLIENT_DURATION, DURATION, answer, get};

#[tokio::test]
async fn what_a_proxy_was_told_of_its_caller_is_not_the_scheme_of_what_it_sends() {
    let registry = Registry::new();
    let forwarded = Request::get("http://shop.example/").header("x-forwarded-proto", "https").body(()).unwrap();
    let response = RequestMetricsLayer::client(&registry).layer(service_fn(answer)).oneshot(forwarded).await.unwrap();
    read(response.into_body()).await.unwrap();
    assert_eq!(count(&registry, CLIENT_DURATION, &[("url.scheme", "http"), ("server.port", "80")]), 1);
}

#[tokio::test]
async fn a_client_tells_its_servers_apart_and_knows_no_route() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::client(&registry).server_authority("inventory:9000");
    for uri in ["http://shop.example:8080/items/7", "https://shop.example/items/7", "/items/7"] {
        let response = layer.layer(service_fn(answer)).oneshot(get(uri)).await.unwrap();
        read(response.into_body()).await.unwrap();
    }
    let protocol = "http.request.method=GET http.response.status_code=200 network.protocol.version=1.1";
    assert_eq!(
        labels(&registry, CLIENT_DURATION),
        [
            format!("{protocol} server.address=inventory server.port=9000 url.scheme=http"),
            format!("{protocol} server.address=shop.example server.port=443 url.scheme=https"),
            format!("{protocol} server.address=shop.example server.port=8080 url.scheme=http"),
        ]
    );
    assert!(family(&registry, DURATION).is_none());
    let open = layer.layer(service_fn(answer)).oneshot(get("https://shop.example/items/7")).await.unwrap();
    assert_eq!(
        labels(&registry, CLIENT_ACTIVE),
        [
            "http.request.method=GET server.address=inventory server.port=9000 url.scheme=http",
            "http.request.method=GET server.address=shop.example server.port=443 url.scheme=https",
            "http.request.method=GET server.address=shop.example server.port=8080 url.scheme=http",
        ]
    );
    let active = || (total(&registry, CLIENT_ACTIVE, &[("server.port", "443")]), total(&registry, CLIENT_ACTIVE, &[]));
    assert_eq!(active(), (1, 1));
    let of_both = [registry.client_performance(), registry.performance()].map(|side| side.active_requests);
    assert_eq!(of_both, [1, 0]);
    drop(open);
    assert_eq!(active(), (0, 0));
}

#[tokio::test]
async fn a_client_tells_the_server_of_its_calls_and_of_what_it_sent() {
    let registry = Registry::new();
    let channel = RequestMetricsLayer::client(&registry).server_authority("inventory:9000").layer(service_fn(answer));
    let call = Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc");
    read(channel.oneshot(call.body(()).unwrap()).await.unwrap().into_body()).await.unwrap();
    assert_eq!(
        labels(&registry, "rpc.client.call.duration"),
        ["error.type=UNAVAILABLE rpc.method=shop.Inventory/Reserve rpc.status_code=UNAVAILABLE rpc.system.name=grpc \
          server.address=inventory server.port=9000"]
    );
    let uploads = RequestBodySizeLayer::client(&registry).layer(service_fn(async |request: Request<_>| {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        Ok::<_, Infallible>(Response::new(()))
    }));
    let upload = Request::put("https://shop.example/items/7").body(ScriptBody::new(vec![Step::Data("abc")])).unwrap();
    uploads.oneshot(upload).await.unwrap();
    let size = "http.client.request.body.size";
    let server = "http.request.method=PUT server.address=shop.example server.port=443 url.scheme=https";
    assert_eq!((labels(&registry, size), sum(&registry, size, &[])), (vec![server.to_owned()], 3.0));
}

#[tokio::test]
async fn a_server_is_one_server_however_its_port_is_written() {
    let registry = Registry::with_config(MetricsConfig::default().max_hosts(2));
    let layer = RequestMetricsLayer::client(&registry);
    let ask = async |uri: &str| {
        let response = layer.layer(service_fn(answer)).oneshot(get(uri)).await.unwrap();
        read(response.into_body()).await.unwrap();
    };
    for uri in ["http://shop.example/", "http://shop.example:80/", "http://shop.example:080/"] {
        ask(uri).await;
    }
    // One that is called as the others are.
    ask("http://_OTHER/").await;
    ask("http://third.example:8080/").await;
    ask("http://fourth.example:8080/").await;
    let active = |server: &str| format!("http.request.method=GET server.address={server} url.scheme=http");
    assert_eq!(
        labels(&registry, CLIENT_ACTIVE),
        ["_OTHER", "shop.example server.port=80", "third.example server.port=8080"].map(active)
    );
    assert_eq!(labels(&registry, CLIENT_DURATION).len(), 3);
    assert_eq!(count(&registry, CLIENT_DURATION, &[("server.address", "shop.example")]), 3);
}

#[tokio::test]
async fn a_route_that_a_client_passes_on_is_none_of_its_requests_nor_of_its_streams() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::client(&registry);
    for path in ["/items/7", "/upgrade"] {
        // As a proxy sends on what a router has handed to it; the answer has a route, too.
        let mut request = get(path);
        request.extensions_mut().insert(Route::from_static("/by/which/it/came"));
        read(layer.layer(service_fn(answer)).oneshot(request).await.unwrap().into_body()).await.unwrap();
    }
    let protocol = "http.request.method=GET http.response.status_code=200 network.protocol.version=1.1";
    assert_eq!(labels(&registry, CLIENT_DURATION), [format!("{protocol} url.scheme=http")]);
    assert_eq!(labels(&registry, "stream.opened"), ["stream.kind=upgrade"]);
}
