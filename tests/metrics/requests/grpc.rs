//! Calls of gRPC.

use std::convert::Infallible;

use buttress::metrics::{MetricsConfig, Registry, RequestMetricsLayer};
use buttress::observe::Route;
use buttress_tests::numbers::{count, histograms, labels, total};
use buttress_tests::{ScriptBody, Step, headers, read};
use http::{HeaderMap, Request, Response, Version};
use tower::{Layer, ServiceExt, service_fn};

use crate::{ACTIVE, FIRST_BYTE, send};

#[tokio::test]
async fn calls_of_one_grpc_method_are_one_series_whatever_they_came_by() {
    let registry = Registry::with_config(MetricsConfig::default().native_histograms(true));
    let ways = [
        Request::post("/shop.Inventory/Reserve").version(Version::HTTP_2),
        // gRPC-Web, and behind a proxy.
        Request::post("/shop.Inventory/Reserve").version(Version::HTTP_11),
        Request::post("/shop.Inventory/Reserve").version(Version::HTTP_2).header("x-forwarded-proto", "https"),
    ];
    for way in ways {
        send(&registry, way.header("content-type", "application/grpc").body(()).unwrap()).await;
    }
    assert_eq!(labels(&registry, "rpc.server.call.duration").len(), 1);
    let calls = histograms(&registry, "rpc.server.call.duration", &[]).remove(0);
    assert_eq!((calls.count(), calls.fine.map(|fine| fine.count())), (3, Some(3)));
    assert_eq!((labels(&registry, FIRST_BYTE).len(), count(&registry, FIRST_BYTE, &[])), (1, 3));
    assert_eq!((total(&registry, ACTIVE, &[]), labels(&registry, ACTIVE).len()), (0, 2));
}

#[tokio::test]
async fn calls_of_one_grpc_method_are_told_apart_by_their_status() {
    let registry = Registry::new();
    let answers = service_fn(async |request: Request<()>| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", request.headers()["asked-for"].clone());
        Ok::<_, Infallible>(Response::new(ScriptBody::new([Step::Trailers(trailers)])))
    });
    for code in ["0", "14", "13", "14"] {
        let call = Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc");
        let service = RequestMetricsLayer::server(&registry).layer(answers);
        let call = call.header("asked-for", code).body(()).unwrap();
        read(service.oneshot(call).await.unwrap().into_body()).await.unwrap();
    }
    let with = |name| count(&registry, "rpc.server.call.duration", &[("rpc.status_code", name)]);
    assert_eq!(["OK", "INTERNAL", "UNAVAILABLE"].map(with), [1, 1, 2]);
}

#[tokio::test]
async fn the_first_route_and_the_first_grpc_method_are_two() {
    let registry = Registry::new();
    send(&registry, Request::post("/head").body(()).unwrap()).await;
    let call = Request::post("/shop.Inventory/Reserve").header("content-type", "application/grpc");
    send(&registry, call.body(()).unwrap()).await;
    let method = "http.request.method=POST http.route=/head";
    let rpc = "rpc.method=shop.Inventory/Reserve rpc.system.name=grpc";
    assert_eq!(labels(&registry, FIRST_BYTE), [method, rpc]);
}

#[tokio::test]
async fn a_grpc_method_that_no_server_knows_is_no_label() {
    let registry = Registry::new();
    let unknown = service_fn(async |_: Request<()>| {
        let trailers = headers([("grpc-status", "12")]);
        Ok::<_, Infallible>(Response::new(ScriptBody::new([Step::Trailers(trailers)])))
    });
    for nth in 0..100 {
        let call = Request::post(format!("/made.Up/Method{nth}")).header("content-type", "application/grpc+proto");
        let service = RequestMetricsLayer::server(&registry).layer(unknown);
        read(service.oneshot(call.body(()).unwrap()).await.unwrap().into_body()).await.unwrap();
    }
    assert_eq!(
        labels(&registry, "rpc.server.call.duration"),
        ["error.type=UNIMPLEMENTED rpc.method=_OTHER rpc.status_code=UNIMPLEMENTED rpc.system.name=grpc"]
    );
    assert!(registry.snapshot().overflowed.is_empty());
}

#[tokio::test]
async fn a_call_keeps_its_method_whatever_route_it_and_its_answer_carry() {
    let registry = Registry::new();
    let routed = service_fn(async |_: Request<()>| {
        let mut response = Response::new(ScriptBody::new([Step::Trailers(headers([("grpc-status", "0")]))]));
        response.extensions_mut().insert(Route::from_static("/{*grpc}"));
        Ok::<_, Infallible>(response)
    });
    // From the second on a method is known by the time of the head.
    for _ in 0..2 {
        for method in ["Release", "Reserve"] {
            let call = Request::post(format!("/shop.Inventory/{method}")).header("content-type", "application/grpc");
            let mut call = call.body(()).unwrap();
            call.extensions_mut().insert(Route::from_static("/{*grpc}"));
            let service = RequestMetricsLayer::server(&registry).layer(routed);
            read(service.oneshot(call).await.unwrap().into_body()).await.unwrap();
        }
    }
    let calls = "rpc.server.call.duration";
    let with = |method| count(&registry, calls, &[("rpc.method", method)]);
    assert_eq!(["shop.Inventory/Release", "shop.Inventory/Reserve"].map(with), [2, 2]);
    assert!(labels(&registry, calls).iter().all(|labels| !labels.contains("http.route")));
}
