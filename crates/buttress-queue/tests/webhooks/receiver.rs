use std::time::Duration;

use buttress_queue::webhook::{Receiver, sign};
use buttress_queue::{Bound, Bounds, EngineConfig, JobState, Memory, Priority, Queue};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use tower::ServiceExt;

use crate::support::{found, id, queue};
use crate::world::{OTHER, SECRET, headers, secret, unix_seconds};

async fn post(receiver: &Receiver, headers: HeaderMap, body: &'static str) -> Response<Full<Bytes>> {
    let mut request = Request::post("/").body(Full::<Bytes>::from(body)).unwrap();
    *request.headers_mut() = headers;
    receiver.clone().oneshot(request).await.unwrap()
}

fn signed(name: &str, body: &str) -> HeaderMap {
    let now = unix_seconds();
    headers(name, &now.to_string(), &sign(&[secret(SECRET)], &id(name), now, body.as_bytes()))
}

#[tokio::test]
async fn what_is_signed_is_enqueued_once_under_its_own_id() {
    let inbox = queue();
    let receiver = Receiver::new(&inbox, secret(SECRET));
    let body = r#"{"type":"payment.captured","data":{"order":17}}"#;
    assert_eq!(post(&receiver, signed("msg_1", body), body).await.status(), StatusCode::ACCEPTED);
    assert_eq!(post(&receiver, signed("msg_1", body), body).await.status(), StatusCode::OK);
    let contents = inbox.contents().await.unwrap();
    let [depth] = &contents.depths[..] else { panic!() };
    assert_eq!((&*depth.kind, depth.priority, depth.waiting), ("payment.captured", Priority::Critical, 1));
    assert_eq!(found(&inbox, "msg_1").await.state, JobState::Waiting);
}

#[tokio::test]
async fn what_is_not_signed_or_no_json_or_too_large_is_refused() {
    let inbox = queue();
    let receiver = Receiver::new(&inbox, secret(SECRET)).largest(20);
    let refused = post(&receiver, HeaderMap::new(), "{}").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(post(&receiver, signed("msg_1", "no json"), "no json").await.status(), StatusCode::BAD_REQUEST);
    let large = "\"123456789012345678901234567890\"";
    assert_eq!(post(&receiver, signed("msg_1", large), large).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let get = Request::get("/").body(Full::<Bytes>::default()).unwrap();
    let refused = receiver.oneshot(get).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
    );
    assert!(inbox.contents().await.unwrap().depths.is_empty());
}

#[tokio::test]
async fn an_inbox_that_is_full_asks_to_come_again() {
    let full = EngineConfig::default().bounds(Bounds::new(Bound { jobs: 0, bytes: 0 }));
    let receiver = Receiver::new(&Queue::new("inbox", Memory::new(full)), secret(SECRET));
    let refused = post(&receiver, signed("msg_1", "{}"), "{}").await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
    );
}

#[tokio::test]
async fn what_was_signed_too_long_ago_is_refused() {
    let inbox = queue();
    let old = |receiver: Receiver| async move {
        let then = unix_seconds() - 100;
        let signature = sign(&[secret(SECRET)], &id("msg_1"), then, b"{}");
        post(&receiver, headers("msg_1", &then.to_string(), &signature), "{}").await.status()
    };
    let receiver = Receiver::new(&inbox, secret(SECRET));
    assert_eq!(old(receiver.clone().tolerance(Duration::from_secs(60))).await, StatusCode::UNAUTHORIZED);
    assert_eq!(old(receiver).await, StatusCode::ACCEPTED, "five minutes by default");
}

#[tokio::test]
async fn while_the_sender_changes_its_secret_both_are_believed() {
    let inbox = queue();
    let receiver = Receiver::new(&inbox, secret(OTHER));
    assert_eq!(post(&receiver, signed("msg_1", "{}"), "{}").await.status(), StatusCode::UNAUTHORIZED);
    let receiver = receiver.or_signed_with(secret(SECRET));
    assert_eq!(post(&receiver, signed("msg_1", "{}"), "{}").await.status(), StatusCode::ACCEPTED);
}
