//! Whatever becomes of an exchange, its observer is shown one end, and the right one, at the right time.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::classify::Ending::{self, *};
use buttress::classify::{GrpcCode, HttpClassifier, Outcome};
use buttress::observe::{Observe, ObserveLayer};
use buttress_tests::Step::{Data, Fail, Panic, Trailers, Wait};
use buttress_tests::{Broken, Recorded, Recorder, ScriptBody, headers, read};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ok<B>(body: B) -> Response<B> {
    Response::new(body)
}

fn status<B>(status: StatusCode, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn asked(method: Method) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    request
}

fn grpc_request() -> Request<()> {
    let mut request = asked(Method::POST);
    *request.headers_mut() = headers([("content-type", "application/grpc+proto")]);
    request
}

/// Passes one request and its answer through the layer.
async fn head<B: Body<Error: std::fmt::Display + 'static>>(
    layer: ObserveLayer<Recorder>,
    request: Request<()>,
    response: Response<B>,
) -> Response<impl Body<Data = B::Data, Error = B::Error>> {
    let mut response = Some(response);
    let answer = service_fn(move |_: Request<()>| {
        let response = response.take().expect("asked once");
        async { Ok::<_, Infallible>(response) }
    });
    let Ok(response) = layer.layer(answer).oneshot(request).await;
    response
}

/// The end of an exchange whose answer is read as far as it goes.
async fn end_of<B: Body<Error: std::fmt::Display + 'static>>(request: Request<()>, response: Response<B>) -> Recorded {
    let recorder = Recorder::default();
    let response = head(ObserveLayer::server(recorder.clone()), request, response).await;
    let _ = read(response.into_body()).await;
    recorder.only()
}

/// The end of an exchange whose answer is dropped after that many frames.
async fn end_after<B: Body<Error: std::fmt::Display + 'static>>(
    frames: usize,
    request: Request<()>,
    response: Response<B>,
) -> Recorded {
    let recorder = Recorder::default();
    let response = head(ObserveLayer::server(recorder.clone()), request, response).await;
    let mut body = Box::pin(response.into_body());
    for _ in 0..frames {
        assert!(matches!(body.frame().await, Some(Ok(_))));
    }
    drop(body);
    recorder.only()
}

/// The end of an exchange whose answer never comes, because of a panic.
async fn end_of_panic<B, F>(answer: impl FnMut(Request<()>) -> F + Send + 'static) -> Recorded
where
    B: Body<Error: std::fmt::Display + Send + 'static, Data: Send> + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
{
    let recorder = Recorder::default();
    let service = ObserveLayer::server(recorder.clone()).layer(service_fn(answer));
    let task = tokio::spawn(async move {
        let Ok(response) = service.oneshot(Request::new(())).await;
        let _ = read(response.into_body()).await;
    });
    assert!(task.await.is_err_and(|error| error.is_panic()), "the panic has to go on");
    recorder.only()
}

#[tokio::test(start_paused = true)]
async fn a_full_body_ends_complete_with_its_bytes_counted() {
    let end = end_of(Request::new(()), ok(Full::new(Bytes::from("hello")))).await;
    assert_eq!(end.verdict(), (Complete, Outcome::Ok, None));
    assert_eq!((end.status, end.body_bytes, end.duration), (Some(200), 5, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_full_body_ends_with_its_last_frame_and_not_with_the_poll_after_it() {
    let end = end_after(1, Request::new(()), ok(Full::new(Bytes::from("hello")))).await;
    assert_eq!((end.ending, end.body_bytes), (Complete, 5));
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_ends_with_the_head() {
    let recorder = Recorder::default();
    let response = head(ObserveLayer::server(recorder.clone()), Request::new(()), ok(Empty::<Bytes>::new())).await;
    let end = recorder.only();
    assert_eq!(end.verdict(), (Complete, Outcome::Ok, None));
    assert_eq!(end.body_bytes, 0);
    assert!(response.body().is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_300_milliseconds_takes_300_milliseconds() {
    let body = ScriptBody::new([Wait(ms(100)), Data("a"), Wait(ms(100)), Data("b"), Wait(ms(100))]);
    let end = end_of(Request::new(()), ok(body)).await;
    assert_eq!(end.verdict(), (Complete, Outcome::Ok, None));
    assert_eq!((end.duration, end.to_head, end.body_bytes), (ms(300), Some(ms(0)), 2));
}

#[tokio::test(start_paused = true)]
async fn the_time_to_the_head_is_kept_apart_from_the_duration() {
    let recorder = Recorder::default();
    let service = ObserveLayer::server(recorder.clone()).layer(service_fn(async |_: Request<()>| {
        sleep(ms(50)).await;
        Ok::<_, Infallible>(ok(ScriptBody::new([Wait(ms(70)), Data("a")])))
    }));
    let Ok(response) = service.oneshot(Request::new(())).await;
    read(response.into_body()).await.unwrap();
    let end = recorder.only();
    assert_eq!((end.to_head, end.duration), (Some(ms(50)), ms(120)));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_ends_failed_and_is_passed_on() {
    let recorder = Recorder::default();
    let service = ObserveLayer::server(recorder.clone()).layer(service_fn(async |_: Request<()>| {
        sleep(ms(20)).await;
        Err::<Response<Full<Bytes>>, _>(Broken("no database"))
    }));
    let error = service.oneshot(Request::new(())).await.map(drop).unwrap_err();
    assert_eq!(error, Broken("no database"));
    let end = recorder.only();
    assert_eq!(end.verdict(), (Failed, Outcome::Error, Some("buttress_tests::Broken")));
    assert_eq!((end.status, end.duration, end.fault.as_deref()), (None, ms(20), Some("no database")));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_halfway_ends_body_failed_and_the_error_is_passed_on() {
    let recorder = Recorder::default();
    let body = ScriptBody::new([Data("half"), Wait(ms(30)), Fail("disk")]);
    let response = head(ObserveLayer::server(recorder.clone()), Request::new(()), ok(body)).await;
    assert_eq!(read(response.into_body()).await, Err(Broken("disk")));
    let end = recorder.only();
    assert_eq!(end.verdict(), (BodyFailed, Outcome::Error, Some("buttress_tests::Broken")));
    assert_eq!((end.status, end.body_bytes, end.duration), (Some(200), 4, ms(30)));
    assert_eq!(end.fault.as_deref(), Some("disk"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_before_the_head_at_200_milliseconds_cancels_at_200_milliseconds() {
    let recorder = Recorder::default();
    let service = ObserveLayer::server(recorder.clone())
        .layer(service_fn(|_: Request<()>| pending::<Result<Response<Full<Bytes>>, Infallible>>()));
    timeout(ms(200), service.oneshot(Request::new(()))).await.map(drop).unwrap_err();
    let end = recorder.only();
    assert_eq!(end.verdict(), (DroppedBeforeHead, Outcome::Cancelled, None));
    assert_eq!((end.status, end.to_head, end.duration), (None, None, ms(200)));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_never_polled_is_a_cancelled_exchange() {
    let recorder = Recorder::default();
    let mut service = ObserveLayer::server(recorder.clone())
        .layer(service_fn(|_: Request<()>| pending::<Result<Response<Full<Bytes>>, Infallible>>()));
    drop(service.call(Request::new(())));
    assert_eq!(recorder.only().ending, DroppedBeforeHead);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_in_the_body_cancels() {
    let recorder = Recorder::default();
    let body = ScriptBody::new([Data("a"), Wait(ms(1000)), Data("b")]);
    let response = head(ObserveLayer::server(recorder.clone()), Request::new(()), ok(body)).await;
    timeout(ms(200), read(response.into_body())).await.unwrap_err();
    let end = recorder.only();
    assert_eq!(end.verdict(), (DroppedInBody, Outcome::Cancelled, None));
    assert_eq!((end.status, end.body_bytes, end.duration), (Some(200), 1, ms(200)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_the_body_of_an_error_does_not_hide_the_error() {
    let body = ScriptBody::new([Data("what went wrong"), Data("and where")]);
    let end = end_after(1, Request::new(()), status(StatusCode::BAD_GATEWAY, body)).await;
    assert_eq!(end.verdict(), (DroppedInBody, Outcome::Error, Some("502")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_call_is_recorded_once_and_goes_on() {
    let end = end_of_panic(|_| {
        if true {
            panic!("in call");
        }
        pending::<Result<Response<Full<Bytes>>, Infallible>>()
    })
    .await;
    assert_eq!(end.verdict(), (Panicked, Outcome::Panicked, Some("panic")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_poll_of_the_future_is_recorded_once_and_goes_on() {
    let end = end_of_panic(async |_| -> Result<Response<Full<Bytes>>, Infallible> {
        sleep(ms(40)).await;
        panic!("in the future")
    })
    .await;
    assert_eq!(end.verdict(), (Panicked, Outcome::Panicked, Some("panic")));
    assert_eq!((end.status, end.duration), (None, ms(40)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_poll_of_the_body_is_recorded_once_and_goes_on() {
    let end = end_of_panic(async |_| Ok(ok(ScriptBody::new([Data("abc"), Wait(ms(60)), Panic])))).await;
    assert_eq!(end.verdict(), (Panicked, Outcome::Panicked, Some("panic")));
    assert_eq!((end.status, end.body_bytes, end.duration), (Some(200), 3, ms(60)));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_ends_with_the_head_of_101() {
    let end = end_after(0, Request::new(()), status(StatusCode::SWITCHING_PROTOCOLS, ScriptBody::default())).await;
    assert_eq!(end.verdict(), (Upgraded, Outcome::Ok, None));
    assert_eq!(end.status, Some(101));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_ends_with_the_head_that_accepts_it() {
    let end = end_after(0, asked(Method::CONNECT), ok(ScriptBody::default())).await;
    assert_eq!(end.verdict(), (Upgraded, Outcome::Ok, None));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_is_refused_is_an_ordinary_answer() {
    let body = ScriptBody::new([Data("no"), Wait(ms(10))]);
    let end = end_of(asked(Method::CONNECT), status(StatusCode::BAD_GATEWAY, body)).await;
    assert_eq!(end.verdict(), (Complete, Outcome::Error, Some("502")));
    assert_eq!((end.body_bytes, end.duration), (2, ms(10)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_head_is_complete_although_nobody_polls_its_body() {
    let end = end_after(0, asked(Method::HEAD), ok(Full::new(Bytes::from("not sent")))).await;
    assert_eq!(end.verdict(), (Complete, Outcome::Ok, None));
    assert_eq!(end.body_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn statuses_without_content_are_complete_although_nobody_polls_the_body() {
    for code in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
        let end = end_after(0, Request::new(()), status(code, ScriptBody::new([Data("not sent")]))).await;
        assert_eq!(end.verdict(), (Complete, Outcome::Ok, None), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_the_announced_length_is_complete_although_its_end_is_not_polled() {
    let mut by_header = ok(ScriptBody::new([Data("ab"), Data("cd"), Wait(ms(500))]));
    *by_header.headers_mut() = headers([("content-length", "4")]);
    assert_eq!(end_after(2, Request::new(()), by_header).await.verdict(), (Complete, Outcome::Ok, None));

    let by_hint = ok(ScriptBody::new([Data("ab"), Data("cd"), Wait(ms(500))]).sized(4));
    assert_eq!(end_after(2, Request::new(()), by_hint).await.verdict(), (Complete, Outcome::Ok, None));
}

#[tokio::test(start_paused = true)]
async fn a_body_short_of_the_announced_length_is_dropped_in_the_body() {
    let body = ScriptBody::new([Data("ab"), Data("cd")]).sized(4);
    assert_eq!(end_after(1, Request::new(()), ok(body)).await.verdict(), (DroppedInBody, Outcome::Cancelled, None));
}

#[tokio::test(start_paused = true)]
async fn trailers_end_the_exchange_and_are_shown() {
    let trailers = headers([("server-timing", "db;dur=12")]);
    let body = ScriptBody::new([Data("a"), Wait(ms(10)), Trailers(trailers.clone()), Wait(ms(500))]);
    let end = end_after(2, Request::new(()), ok(body)).await;
    assert_eq!(end.verdict(), (Complete, Outcome::Ok, None));
    assert_eq!((end.trailers, end.duration), (Some(trailers), ms(10)));
}

#[tokio::test(start_paused = true)]
async fn end_with_head_ends_http_with_the_head_and_leaves_the_body_alone() {
    let recorder = Recorder::default();
    let layer = ObserveLayer::client(recorder.clone()).end_with_head(true);
    let response = head(layer, Request::new(()), ok(ScriptBody::new([Wait(ms(300)), Fail("late")]))).await;
    assert_eq!(recorder.only().verdict(), (Complete, Outcome::Ok, None));
    assert_eq!(read(response.into_body()).await, Err(Broken("late")));
    assert_eq!(recorder.only().duration, ms(0));
}

#[tokio::test(start_paused = true)]
async fn end_with_head_keeps_ending_grpc_with_its_trailers() {
    let recorder = Recorder::default();
    let layer = ObserveLayer::client(recorder.clone()).end_with_head(true);
    let body = ScriptBody::new([Wait(ms(300)), Trailers(headers([("grpc-status", "5")]))]);
    let response = head(layer, grpc_request(), ok(body)).await;
    assert_eq!(recorder.ends(), []);
    read(response.into_body()).await.unwrap();
    assert_eq!(recorder.only().verdict(), (Complete, Outcome::Error, Some("NOT_FOUND")));
    assert_eq!(recorder.only().duration, ms(300));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_not_enabled_shows_its_observer_nothing() {
    let recorder = Recorder::default();
    let layer = ObserveLayer::server(recorder.clone()).enabled(false);
    let response = head(layer, Request::new(()), ok(Full::new(Bytes::from("hello")))).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!((recorder.started(), recorder.calls()), (0, vec![]));
}

/// Ending, outcome, error type and code of a gRPC call that was answered so.
async fn grpc<B: Body<Error: std::fmt::Display + 'static>>(
    response: Response<B>,
) -> (Ending, Outcome, String, GrpcCode) {
    let end = end_of(grpc_request(), response).await;
    (end.ending, end.outcome, end.error_type.unwrap_or_default(), end.grpc_code.expect("a gRPC call"))
}

#[tokio::test(start_paused = true)]
async fn the_status_of_grpc_is_read_from_its_trailers() {
    let of = |status| ok(ScriptBody::new([Data("message"), Trailers(headers([("grpc-status", status)]))]));
    assert_eq!(grpc(of("0")).await, (Complete, Outcome::Ok, String::new(), GrpcCode::OK));
    assert_eq!(grpc(of("14")).await, (Complete, Outcome::Error, "UNAVAILABLE".into(), GrpcCode::UNAVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn the_status_of_grpc_is_read_from_a_head_without_a_body() {
    let mut response = ok(Empty::<Bytes>::new());
    *response.headers_mut() = headers([("grpc-status", "13")]);
    assert_eq!(grpc(response).await, (Complete, Outcome::Error, "INTERNAL".into(), GrpcCode::INTERNAL));
}

#[tokio::test(start_paused = true)]
async fn grpc_that_ends_without_a_status_is_an_error() {
    let unknown = (Complete, Outcome::Error, "UNKNOWN".to_owned(), GrpcCode::UNKNOWN);
    assert_eq!(grpc(ok(Full::new(Bytes::from("message")))).await, unknown);
    assert_eq!(grpc(ok(ScriptBody::new([Data("message"), Trailers(HeaderMap::new())]))).await, unknown);
    assert_eq!(grpc(ok(Empty::<Bytes>::new())).await, unknown);
}

#[tokio::test(start_paused = true)]
async fn an_http_error_in_answer_to_grpc_has_the_code_that_clients_assume() {
    let response = status(StatusCode::BAD_GATEWAY, Full::new(Bytes::from("<html>")));
    assert_eq!(grpc(response).await, (Complete, Outcome::Error, "UNAVAILABLE".into(), GrpcCode::UNAVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn a_code_that_blames_the_caller_is_an_error_for_clients_only() {
    let answer = || ok(ScriptBody::new([Trailers(headers([("grpc-status", "5")]))]));
    for (classifier, outcome, error_type) in
        [(HttpClassifier::server(), Outcome::Ok, None), (HttpClassifier::client(), Outcome::Error, Some("NOT_FOUND"))]
    {
        let recorder = Recorder::default();
        let response = head(ObserveLayer::new(recorder.clone(), classifier), grpc_request(), answer()).await;
        read(response.into_body()).await.unwrap();
        assert_eq!(recorder.only().verdict(), (Complete, outcome, error_type));
        assert_eq!(recorder.only().grpc_code, Some(GrpcCode::from_number(5)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_caller_that_leaves_between_message_and_trailers_cancels() {
    let body = ScriptBody::new([Data("message"), Wait(ms(10)), Trailers(headers([("grpc-status", "0")]))]).sized(7);
    let end = end_after(1, grpc_request(), ok(body)).await;
    assert_eq!(end.verdict(), (DroppedInBody, Outcome::Cancelled, None));
    assert_eq!(end.grpc_code, Some(GrpcCode::CANCELLED));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stream_that_breaks_has_an_unknown_status() {
    let end = end_of(grpc_request(), ok(ScriptBody::new([Data("message"), Fail("reset")]))).await;
    assert_eq!(end.verdict(), (BodyFailed, Outcome::Error, Some("buttress_tests::Broken")));
    assert_eq!(end.grpc_code, Some(GrpcCode::UNKNOWN));
}

#[tokio::test(start_paused = true)]
async fn other_content_types_are_not_grpc() {
    for content_type in ["application/grpc-web", "application/grpc-web+proto", "application/json"] {
        let mut request = asked(Method::POST);
        *request.headers_mut() = headers([("content-type", content_type)]);
        let end = end_of(request, ok(Full::new(Bytes::from("x")))).await;
        assert_eq!((end.outcome, end.grpc_code), (Outcome::Ok, None), "{content_type}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_does_not_say_that_it_is_over_before_the_end_is_recorded() {
    let recorder = Recorder::default();
    let body = Full::new(Bytes::from("hello"));
    let response = head(ObserveLayer::server(recorder.clone()), Request::new(()), ok(body)).await;
    let mut body = pin!(response.into_body());
    assert!(!body.is_end_stream());
    assert_eq!(recorder.ends(), []);
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream());
    assert_eq!(recorder.only().ending, Complete);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_tell_is_over_only_with_its_last_poll() {
    let recorder = Recorder::default();
    let response =
        head(ObserveLayer::server(recorder.clone()), Request::new(()), ok(ScriptBody::new([Data("hello")]))).await;
    let mut body = pin!(response.into_body());
    body.frame().await.unwrap().unwrap();
    assert!(!body.is_end_stream());
    assert_eq!(recorder.ends(), []);
    assert!(body.frame().await.is_none());
    assert_eq!(recorder.only().ending, Complete);
}

/// A body without frames, which hears from elsewhere that it is over.
struct Told(Arc<AtomicBool>);

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_over_between_two_polls_says_so_only_after_the_next_one() {
    let (recorder, over) = (Recorder::default(), Arc::<AtomicBool>::default());
    let response = head(ObserveLayer::server(recorder.clone()), Request::new(()), ok(Told(Arc::clone(&over)))).await;
    let mut body = pin!(response.into_body());
    over.store(true, Ordering::Relaxed);
    assert!(!body.is_end_stream());
    assert!(body.frame().await.is_none());
    assert!(body.is_end_stream());
    assert_eq!(recorder.only().verdict(), (Complete, Outcome::Ok, None));
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_exchange_ended_with_its_head_is_over_only_when_it_has_been_read() {
    let layer = ObserveLayer::client(Recorder::default()).end_with_head(true);
    let response = head(layer, Request::new(()), ok(Full::new(Bytes::from("hello")))).await;
    let mut body = pin!(response.into_body());
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
    assert!(body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn the_size_hint_of_the_body_passes_through() {
    let layer = || ObserveLayer::server(Recorder::default());
    let known = head(layer(), Request::new(()), ok(Full::new(Bytes::from("hello")))).await;
    assert_eq!(known.body().size_hint().exact(), Some(5));
    let unknown = head(layer(), Request::new(()), ok(ScriptBody::new([Data("hello")]))).await;
    assert_eq!((unknown.body().size_hint().lower(), unknown.body().size_hint().upper()), (0, None));
}

/// Runs one exchange, whose body breaks, with these observers.
async fn run_broken<O: Observe<()> + Clone>(observers: O) {
    let answer =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(ok(ScriptBody::new([Data("x"), Fail("broken")]))));
    let Ok(response) = ObserveLayer::server(observers).layer(answer).oneshot(Request::new(())).await;
    assert_eq!(read(response.into_body()).await, Err(Broken("broken")));
}

#[tokio::test(start_paused = true)]
async fn a_tuple_starts_its_first_observer_first_and_shows_it_head_and_end_last() {
    for count in 1..=4 {
        let log = Recorder::default();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| log.named(name));
        match count {
            1 => run_broken((a,)).await,
            2 => run_broken((a, b)).await,
            3 => run_broken((a, b, c)).await,
            _ => run_broken((a, b, c, d)).await,
        }
        let names = &["a", "b", "c", "d"][..count];
        let calls =
            |call: &str, names: Vec<&str>| names.iter().map(|name| format!("{name} {call}")).collect::<Vec<_>>();
        let reversed: Vec<_> = names.iter().rev().copied().collect();
        let expected = [calls("start", names.to_vec()), calls("head", reversed.clone()), calls("end", reversed)];
        assert_eq!(log.calls(), expected.concat());
    }
}

#[tokio::test(start_paused = true)]
async fn all_members_of_a_tuple_are_shown_the_same_end() {
    let log = Recorder::default();
    run_broken((log.named("a"), log.named("b"), log.named("c"), log.named("d"))).await;
    let ends = log.ends();
    assert_eq!(ends.len(), 4);
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    assert_eq!(ends[0].verdict(), (BodyFailed, Outcome::Error, Some("buttress_tests::Broken")));
}
