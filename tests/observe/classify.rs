//! What endings mean: statuses, gRPC codes, and the names of errors.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use buttress::classify::{
    Classify, Ending, ErrorType, Grpc, GrpcCode, Health, How, HttpClassifier, Outcome, Seen, Verdict,
};
use buttress::observe::ObserveLayer;
use buttress_tests::{Broken, Recorder, headers};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{BoxError, Layer, ServiceExt, service_fn};

const SERVER: HttpClassifier = HttpClassifier::server();
const CLIENT: HttpClassifier = HttpClassifier::client();
const COMPLETE: How<'_> = How::Complete { trailers: None };

const CODES: [(&str, &str, bool); 17] = [
    ("0", "OK", false),
    ("1", "CANCELLED", false),
    ("2", "UNKNOWN", true),
    ("3", "INVALID_ARGUMENT", false),
    ("4", "DEADLINE_EXCEEDED", true),
    ("5", "NOT_FOUND", false),
    ("6", "ALREADY_EXISTS", false),
    ("7", "PERMISSION_DENIED", false),
    ("8", "RESOURCE_EXHAUSTED", false),
    ("9", "FAILED_PRECONDITION", false),
    ("10", "ABORTED", false),
    ("11", "OUT_OF_RANGE", false),
    ("12", "UNIMPLEMENTED", true),
    ("13", "INTERNAL", true),
    ("14", "UNAVAILABLE", true),
    ("15", "DATA_LOSS", true),
    ("16", "UNAUTHENTICATED", false),
];

fn of_http(classifier: HttpClassifier, how: &How<'_>, status: u16) -> Verdict {
    let status = StatusCode::from_u16(status).expect("a status");
    classifier.classify(&Seen { how, status: Some(status), grpc: None })
}

fn of_grpc(classifier: HttpClassifier, how: &How<'_>, status: u16, head: Option<GrpcCode>) -> Verdict {
    let status = StatusCode::from_u16(status).expect("a status");
    let grpc = Some(Grpc { head, implied: GrpcCode::from_http(status) });
    classifier.classify(&Seen { how, status: Some(status), grpc })
}

#[test]
fn only_server_errors_are_errors_of_a_server_and_for_clients_the_callers_too() {
    for (status, server, client) in [
        (200, Outcome::Ok, Outcome::Ok),
        (304, Outcome::Ok, Outcome::Ok),
        (399, Outcome::Ok, Outcome::Ok),
        (400, Outcome::Ok, Outcome::Error),
        (404, Outcome::Ok, Outcome::Error),
        (429, Outcome::Ok, Outcome::Error),
        (499, Outcome::Ok, Outcome::Error),
        (500, Outcome::Error, Outcome::Error),
        (599, Outcome::Error, Outcome::Error),
        (600, Outcome::Ok, Outcome::Ok),
    ] {
        for (classifier, outcome) in [(SERVER, server), (CLIENT, client)] {
            let verdict = of_http(classifier, &COMPLETE, status);
            assert_eq!(verdict.outcome, outcome, "{classifier:?} {status}");
            let code = StatusCode::from_u16(status).unwrap();
            assert_eq!(verdict.error_type, outcome.is_error().then_some(ErrorType::Status(code)), "{status}");
            assert_eq!(verdict.grpc_code, None);
        }
    }
}

#[test]
fn a_cancellation_is_no_error_unless_the_head_was_one() {
    let health = Health::Unknown;
    let cancelled = Verdict { outcome: Outcome::Cancelled, health, error_type: None, grpc_code: None };
    let before = SERVER.classify(&Seen { how: &How::DroppedBeforeHead, status: None, grpc: None });
    assert_eq!(before, cancelled);
    assert_eq!(of_http(SERVER, &How::DroppedInBody, 200), cancelled);
    assert_eq!(of_http(SERVER, &How::DroppedInBody, 404), cancelled);
    assert_eq!(of_http(CLIENT, &How::DroppedInBody, 404), of_http(CLIENT, &COMPLETE, 404));
    assert_eq!(of_http(SERVER, &How::DroppedInBody, 503), of_http(SERVER, &COMPLETE, 503));
}

#[test]
fn a_cancelled_grpc_call_has_the_code_for_that_unless_the_head_had_another() {
    let grpc_code = Some(GrpcCode::CANCELLED);
    let cancelled = Verdict { outcome: Outcome::Cancelled, health: Health::Unknown, error_type: None, grpc_code };
    assert_eq!(of_grpc(CLIENT, &How::DroppedInBody, 200, None), cancelled);
    assert_eq!(of_grpc(CLIENT, &How::DroppedInBody, 200, Some(GrpcCode::OK)), cancelled);
    for (status, head, code) in
        [(502, None, GrpcCode::UNAVAILABLE), (200, Some(GrpcCode::INTERNAL), GrpcCode::INTERNAL)]
    {
        let verdict = of_grpc(CLIENT, &How::DroppedInBody, status, head);
        assert_eq!(verdict.error_type, Some(ErrorType::Grpc(code)));
        assert_eq!(verdict.grpc_code, Some(code));
    }
}

#[test]
fn panics_and_upgrades_do_not_ask_for_the_status() {
    let panicked = of_http(SERVER, &How::Panicked, 200);
    assert_eq!(panicked.outcome, Outcome::Panicked);
    assert!(panicked.outcome.is_error());
    assert_eq!(panicked.error_type, Some(ErrorType::Name("panic")));
    assert_eq!(of_grpc(SERVER, &How::Panicked, 200, None).grpc_code, Some(GrpcCode::UNKNOWN));
    assert_eq!(of_http(SERVER, &How::Upgraded, 101).outcome, Outcome::Ok);
}

#[test]
fn each_grpc_code_has_its_number_its_name_and_its_blame() {
    for (number, (text, name, server_error)) in (0..).zip(CODES) {
        let code = GrpcCode::from_number(number);
        assert_eq!((code.number(), code.as_str(), code.to_string().as_str()), (number, name, name));
        assert_eq!((code.is_error(false), code.is_error(true)), (server_error, number != 0), "{name}");

        let trailers = headers([("grpc-status", text)]);
        assert_eq!(GrpcCode::from_headers(&trailers), Some(code));
        let verdict = of_grpc(SERVER, &How::Complete { trailers: Some(&trailers) }, 200, None);
        assert_eq!(verdict.outcome, if server_error { Outcome::Error } else { Outcome::Ok }, "{name}");
        assert_eq!(verdict.error_type, server_error.then_some(ErrorType::Grpc(code)));
        assert_eq!(verdict.grpc_code, Some(code));
    }
}

#[test]
fn who_was_called_is_unwell_when_it_failed_or_has_too_much_to_do_and_not_when_the_request_deserved_it() {
    for (status, health) in [
        (200, Health::Well),
        (304, Health::Well),
        (400, Health::Unknown),
        (404, Health::Unknown),
        (408, Health::Unwell),
        (429, Health::Unwell),
        (500, Health::Unwell),
        (503, Health::Unwell),
    ] {
        assert_eq!(of_http(CLIENT, &COMPLETE, status).health, health, "{status}");
    }
    for (code, health) in [
        (GrpcCode::OK, Health::Well),
        (GrpcCode::NOT_FOUND, Health::Unknown),
        (GrpcCode::CANCELLED, Health::Unknown),
        (GrpcCode::RESOURCE_EXHAUSTED, Health::Unwell),
        (GrpcCode::UNAVAILABLE, Health::Unwell),
        (GrpcCode::UNKNOWN, Health::Unwell),
    ] {
        assert_eq!(of_grpc(CLIENT, &COMPLETE, 200, Some(code)).health, health, "{code}");
    }
    assert_eq!(of_http(CLIENT, &How::Panicked, 200).health, Health::Unwell);
    assert_eq!(of_http(CLIENT, &How::Upgraded, 101).health, Health::Well);
}

#[test]
fn no_exchange_is_a_success_to_one_and_a_failure_to_the_other() {
    let ways = [&COMPLETE, &How::DroppedBeforeHead, &How::DroppedInBody, &How::Upgraded, &How::Panicked];
    let codes = (0..17).map(|number| Some(GrpcCode::from_number(number)));
    for (classifier, how) in [SERVER, CLIENT].into_iter().flat_map(|one| ways.map(|how| (one, how))) {
        let http = (100..=599).map(|status| of_http(classifier, how, status));
        let grpc = codes.clone().chain([None]).map(|code| of_grpc(classifier, how, 200, code));
        for Verdict { outcome, health, .. } in http.chain(grpc) {
            assert!(!(outcome == Outcome::Ok && health == Health::Unwell), "{how:?}");
            assert!(!(outcome != Outcome::Ok && health == Health::Well), "{how:?}");
        }
    }
}

#[test]
fn what_grpc_does_not_know_is_unknown() {
    for text in ["", "17", "18", "99", "-1", "+1", "00", "01", "016", "1 ", "OK", "1000000000000000000000"] {
        assert_eq!(GrpcCode::from_headers(&headers([("grpc-status", text)])), Some(GrpcCode::UNKNOWN), "{text:?}");
    }
    assert_eq!(GrpcCode::from_headers(&HeaderMap::new()), None);
    assert_eq!(GrpcCode::from_number(17), GrpcCode::UNKNOWN);
    assert_eq!(GrpcCode::from_number(255), GrpcCode::UNKNOWN);
}

#[test]
fn an_http_status_implies_the_code_of_the_grpc_mapping() {
    for (status, code) in [
        (200, "UNKNOWN"),
        (400, "INTERNAL"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "UNIMPLEMENTED"),
        (415, "UNKNOWN"),
        (429, "UNAVAILABLE"),
        (500, "UNKNOWN"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "UNAVAILABLE"),
    ] {
        assert_eq!(GrpcCode::from_http(StatusCode::from_u16(status).unwrap()).as_str(), code, "{status}");
    }
}

#[test]
fn trailers_outweigh_the_head_and_the_head_outweighs_the_status() {
    let trailers = headers([("grpc-status", "0")]);
    let complete = How::Complete { trailers: Some(&trailers) };
    assert_eq!(of_grpc(CLIENT, &complete, 502, Some(GrpcCode::INTERNAL)).grpc_code, Some(GrpcCode::OK));
    assert_eq!(of_grpc(CLIENT, &COMPLETE, 502, Some(GrpcCode::INTERNAL)).grpc_code, Some(GrpcCode::INTERNAL));
    assert_eq!(of_grpc(CLIENT, &COMPLETE, 502, None).grpc_code, Some(GrpcCode::UNAVAILABLE));
}

#[test]
fn an_error_type_is_the_number_of_a_status_or_a_name() {
    assert_eq!(ErrorType::Status(StatusCode::SERVICE_UNAVAILABLE).to_string(), "503");
    assert_eq!(ErrorType::Grpc(GrpcCode::DATA_LOSS).as_str(), "DATA_LOSS");
    assert_eq!(ErrorType::Name("timeout").as_str(), "timeout");
}

#[test]
fn labels_are_snake_case() {
    let outcomes = [Outcome::Ok, Outcome::Error, Outcome::Cancelled, Outcome::Panicked];
    assert_eq!(outcomes.map(Outcome::as_str), ["ok", "error", "cancelled", "panicked"]);
    let endings = [
        (How::DroppedBeforeHead, "dropped_before_head"),
        (How::DroppedInBody, "dropped_in_body"),
        (How::Upgraded, "upgraded"),
        (How::Panicked, "panicked"),
        (COMPLETE, "complete"),
    ];
    for (how, label) in endings {
        assert_eq!(how.ending().as_str(), label);
    }
    assert_eq!((Ending::Failed.as_str(), Ending::BodyFailed.as_str()), ("failed", "body_failed"));
}

/// The `error.type` of an exchange whose service fails with this.
async fn name_of<E: fmt::Display + 'static>(error: E) -> String {
    let recorder = Recorder::default();
    let mut error = Some(error);
    let service = ObserveLayer::client(recorder.clone()).layer(service_fn(move |_: Request<()>| {
        std::future::ready(Err::<Response<Empty<Bytes>>, _>(error.take().expect("called once")))
    }));
    drop(service.oneshot(Request::new(())).await);
    let end = recorder.only();
    assert_eq!((end.ending, end.outcome), (Ending::Failed, Outcome::Error));
    end.error_type.expect("an error has a type")
}

/// An error around another.
#[derive(Debug)]
struct Around<E>(E);

impl<E> fmt::Display for Around<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something went wrong")
    }
}

impl<E: Error + 'static> Error for Around<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn an_io_error_is_named_by_its_kind() {
    for (kind, name) in [
        (ErrorKind::ConnectionRefused, "connection_refused"),
        (ErrorKind::ConnectionReset, "connection_reset"),
        (ErrorKind::ConnectionAborted, "connection_aborted"),
        (ErrorKind::NotConnected, "not_connected"),
        (ErrorKind::BrokenPipe, "broken_pipe"),
        (ErrorKind::HostUnreachable, "host_unreachable"),
        (ErrorKind::NetworkUnreachable, "network_unreachable"),
        (ErrorKind::AddrNotAvailable, "address_not_available"),
        (ErrorKind::TimedOut, "timeout"),
        (ErrorKind::UnexpectedEof, "unexpected_eof"),
        (ErrorKind::PermissionDenied, "permission_denied"),
    ] {
        assert_eq!(name_of(io::Error::from(kind)).await, name);
        assert_eq!(name_of(BoxError::from(io::Error::new(kind, "with a text"))).await, name);
        assert_eq!(name_of(BoxError::from(Around(Around(io::Error::from(kind))))).await, name, "as a source");
        assert_eq!(name_of(io::Error::other(io::Error::from(kind))).await, name, "inside another io error");
    }
}

#[tokio::test(start_paused = true)]
async fn an_elapsed_timeout_is_named_wherever_it_stands() {
    let elapsed =
        async || tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(name_of(BoxError::from(elapsed().await)).await, "timeout");
    assert_eq!(name_of(BoxError::from(Around(elapsed().await))).await, "timeout");
    assert_eq!(name_of(io::Error::other(elapsed().await)).await, "timeout");
    assert_eq!(name_of(io::Error::from(elapsed().await)).await, "timeout");
    assert_eq!(name_of(axum::Error::new(elapsed().await)).await, "timeout");
    assert_eq!(name_of(tonic::Status::from_error(elapsed().await.into())).await, "timeout");
}

#[tokio::test]
async fn an_error_of_unknown_kind_is_named_by_its_type_when_that_is_known() {
    assert_eq!(name_of(Broken("secret 42")).await, "buttress_tests::Broken");
    assert_eq!(name_of(BoxError::from(Broken("secret 42"))).await, "_OTHER");
    assert_eq!(name_of(BoxError::from("secret 42")).await, "_OTHER");
    assert!(name_of(io::Error::other("secret 42")).await.contains("io::error::Error"));
    assert!(name_of(String::from("no error at all, but it has a text")).await.contains("String"));
}

/// An address where nobody listens.
async fn refused() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port")
}

#[tokio::test]
async fn a_refused_connection_of_a_hyper_client_is_named_so() {
    let recorder = Recorder::default();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = Request::get(format!("http://{}/", refused().await)).body(Empty::new()).unwrap();
    let error = ObserveLayer::client(recorder.clone()).layer(client).oneshot(request).await.map(drop).unwrap_err();
    assert!(error.is_connect());
    assert_eq!(recorder.only().verdict(), (Ending::Failed, Outcome::Error, Some("connection_refused")));
}

#[tokio::test]
async fn a_refused_connection_of_a_tonic_channel_is_named_so() {
    let recorder = Recorder::default();
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{}", refused().await)).unwrap().connect_lazy();
    let request = Request::post("/echo.Echo/Say").body(tonic::body::Body::empty()).unwrap();
    let answered = ObserveLayer::client(recorder.clone()).layer(channel).oneshot(request).await;
    assert!(answered.is_err());
    assert_eq!(recorder.only().verdict(), (Ending::Failed, Outcome::Error, Some("connection_refused")));
}

/// The `error.type` at a client whose server reads the request, writes this and closes the connection.
async fn name_of_answer(answer: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(answer).await.expect("the client reads");
    });
    let recorder = Recorder::default();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = Request::get(format!("http://{address}/")).body(Empty::new()).expect("a request");
    if let Ok(response) = ObserveLayer::client(recorder.clone()).layer(client).oneshot(request).await {
        let _ = buttress_tests::read(response.into_body()).await;
    }
    server.await.expect("the server does not panic");
    recorder.only().error_type.expect("an error")
}

#[tokio::test]
async fn answers_that_break_off_or_make_no_sense_are_named_so() {
    assert_eq!(name_of_answer(b"").await, "incomplete_message");
    assert_eq!(name_of_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await, "unexpected_eof");
    assert_eq!(name_of_answer(b"this is no HTTP\r\n\r\n").await, "malformed_message");
}

#[tokio::test]
async fn a_grpc_status_that_comes_as_an_error_tells_its_code() {
    let recorder = Recorder::default();
    let failing = tower::service_fn(async |_: Request<()>| {
        Err::<http::Response<Empty<Bytes>>, _>(tonic::Status::resource_exhausted("no more"))
    });
    let request = Request::post("/echo.Echo/Say").header("content-type", "application/grpc").body(()).unwrap();
    let answered = ObserveLayer::client(recorder.clone()).layer(failing).oneshot(request).await;
    assert!(answered.is_err());
    assert_eq!(recorder.only().verdict(), (Ending::Failed, Outcome::Error, Some("RESOURCE_EXHAUSTED")));
}
