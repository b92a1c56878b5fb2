//! How large the bodies of requests are.

use std::convert::Infallible;

use buttress::metrics::{MetricsConfig, Registry, RequestBodySizeLayer, RequestMetricsLayer};
use buttress::observe::Route;
use buttress_tests::numbers::{count, sum};
use buttress_tests::{ScriptBody, Step, read};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};

use crate::DURATION;

#[tokio::test]
async fn the_size_of_a_request_is_what_was_read_of_it() {
    let registry = Registry::new();
    let layer = RequestBodySizeLayer::server(&registry);
    let reader = |frames: usize| {
        layer.layer(service_fn(move |request: Request<_>| async move {
            let mut body = std::pin::pin!(request.into_body());
            for _ in 0..frames {
                let _ = http_body_util::BodyExt::frame(&mut body).await;
            }
            Ok::<_, Infallible>(Response::new(()))
        }))
    };
    let send = |frames, body: Vec<Step>, route: &'static str| {
        let mut request = Request::post("/").body(ScriptBody::new(body)).unwrap();
        request.extensions_mut().insert(Route::from_static(route));
        reader(frames).oneshot(request)
    };
    let size = "http.server.request.body.size";
    send(9, vec![Step::Data("abc"), Step::Data("de")], "/whole").await.unwrap();
    send(1, vec![Step::Data("abc"), Step::Data("de")], "/half").await.unwrap();
    send(0, vec![Step::Data("abc")], "/none").await.unwrap();
    send(9, vec![Step::Data("abc"), Step::Fail("lost")], "/broken").await.unwrap();
    let uncounted = RequestBodySizeLayer::server(&registry).enabled(false);
    let service = uncounted.layer(service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(()))));
    service.oneshot(Request::post("/").body(ScriptBody::new(vec![Step::Data("abc")])).unwrap()).await.unwrap();
    assert_eq!(count(&registry, size, &[]), 4);
    for (route, read) in [("/whole", 5.0), ("/half", 3.0), ("/none", 0.0), ("/broken", 3.0)] {
        let labels = [("http.route", route), ("http.request.method", "POST"), ("url.scheme", "http")];
        assert_eq!((count(&registry, size, &labels), sum(&registry, size, &labels)), (1, read), "{route}");
    }
}

#[tokio::test]
async fn sizes_of_requests_have_the_labels_that_durations_have() {
    let registry = Registry::new();
    let layer = RequestMetricsLayer::server(&registry).scheme("https").server_addresses(["shop.example"]);
    let handler = service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(ScriptBody::default())));
    let service = layer.layer(RequestBodySizeLayer::like(&layer).layer(handler));
    let request = Request::put("/").header("host", "shop.example").body(ScriptBody::default()).unwrap();
    read(service.oneshot(request).await.unwrap().into_body()).await.unwrap();
    let both = [("url.scheme", "https"), ("server.address", "shop.example")];
    assert_eq!(["http.server.request.body.size", DURATION].map(|name| count(&registry, name, &both)), [1, 1]);
    let off = RequestBodySizeLayer::like(&layer.enabled(false)).layer(handler);
    off.oneshot(Request::put("/").body(ScriptBody::default()).unwrap()).await.unwrap();
    assert_eq!(count(&registry, "http.server.request.body.size", &[]), 1);
}

#[tokio::test]
async fn sizes_of_requests_beyond_all_series_are_counted_together_and_those_of_grpc_not_at_all() {
    let registry = Registry::with_config(MetricsConfig::default().max_series(1));
    let layer = RequestBodySizeLayer::server(&registry);
    let read = |mut request: Request<ScriptBody>, route: &'static str| {
        request.extensions_mut().insert(Route::from_static(route));
        let service = layer.layer(service_fn(async |request: Request<_>| {
            let _ = http_body_util::BodyExt::collect(request.into_body()).await;
            Ok::<_, Infallible>(Response::new(()))
        }));
        service.oneshot(request)
    };
    let post = || Request::post("/").body(ScriptBody::new(vec![Step::Data("abc")])).unwrap();
    for route in ["/first", "/second", "/third"] {
        read(post(), route).await.unwrap();
    }
    let mut grpc = post();
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    read(grpc, "/grpc").await.unwrap();
    let size = "http.server.request.body.size";
    let of = |labels: &[_]| (count(&registry, size, labels), sum(&registry, size, labels));
    assert_eq!((of(&[("http.route", "/first")]), of(&[("otel.metric.overflow", "true")])), ((1, 3.0), (2, 6.0)));
    assert_eq!(of(&[]), (3, 9.0));
}
