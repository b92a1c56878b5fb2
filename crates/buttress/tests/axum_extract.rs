//! What handlers of axum ask for in their parameters: row P11.
#![cfg(all(feature = "axum", feature = "propagate"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use buttress::context::{Baggage, Context, TraceContext};
use buttress::propagate::PropagateLayer;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn router() -> Router {
    let whole = async |trace: TraceContext, context: Context| {
        assert_eq!(trace, context.trace());
        format!("{} under {:?}", trace.trace_id, context.parent_span_id().map(|parent| parent.to_string()))
    };
    let maybe = async |trace: Option<TraceContext>, context: Option<Context>| {
        format!("{} {}", trace.is_some(), context.is_some())
    };
    let tenant = async |baggage: Baggage| baggage.get("tenant").unwrap_or_default().into_owned();
    Router::new().route("/whole", get(whole)).route("/maybe", get(maybe)).route("/tenant", get(tenant))
}

async fn ask(router: Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).header("traceparent", TRACEPARENT).header("baggage", "tenant=ac%20me");
    let Ok(response) = router.oneshot(request.body(Body::empty()).unwrap()).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.into()).unwrap())
}

#[tokio::test]
async fn handlers_are_given_the_trace_and_the_baggage_of_their_request() {
    let router = router().layer(PropagateLayer::new());
    let whole = "0af7651916cd43dd8448eb211c80319c under Some(\"b7ad6b7169203331\")".to_owned();
    assert_eq!(ask(router.clone(), "/whole").await, (StatusCode::OK, whole));
    assert_eq!(ask(router.clone(), "/maybe").await, (StatusCode::OK, "true true".to_owned()));
    assert_eq!(ask(router, "/tenant").await, (StatusCode::OK, "ac me".to_owned()));
}

#[tokio::test]
async fn without_a_layer_the_answer_says_which_one_is_missing() {
    let (status, text) = ask(router(), "/whole").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("PropagateLayer"), "{text}");
    assert_eq!(ask(router(), "/maybe").await, (StatusCode::OK, "false false".to_owned()));
    assert_eq!(ask(router(), "/tenant").await, (StatusCode::OK, String::new()));
}
