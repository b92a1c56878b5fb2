//! The layer under real servers and clients: axum, tonic and hyper, over sockets of this machine.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use buttress::classify::Ending::{self, Complete, DroppedBeforeHead, DroppedInBody};
use buttress::classify::{GrpcCode, Outcome};
use buttress::observe::ObserveLayer;
use buttress_tests::{Recorded, Recorder, headers, read};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::body::Body as TonicBody;
use tonic::client::GrpcService;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

fn http_client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends a request without a layer, and reads the answer to its end.
async fn ask(method: Method, address: SocketAddr, path: &str) -> (StatusCode, Bytes) {
    let uri = format!("http://{address}{path}");
    let request = Request::builder().method(method).uri(uri).body(Empty::new()).expect("a request");
    let response = http_client().request(request).await.expect("an answer");
    let status = response.status();
    (status, response.into_body().collect().await.expect("the whole answer").to_bytes())
}

fn summary(end: &Recorded) -> (Ending, Outcome, Option<u16>, u64) {
    (end.ending, end.outcome, end.status, end.body_bytes)
}

/// A body that yields these one after the other.
fn streamed(parts: impl IntoIterator<Item = &'static str>) -> impl Body<Data = Bytes, Error = Infallible> {
    let frames: Vec<_> = parts.into_iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect();
    StreamBody::new(stream::iter(frames))
}

/// Yields one part, and then nothing for ever.
fn endless() -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Sync {
    stream::iter([Ok(Bytes::from_static(b"part"))]).chain(stream::pending())
}

async fn serve_axum(app: Router) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn pages() -> Router {
    Router::new()
        .route("/full", get(async || "hello"))
        .route("/streamed", get(async || axum::body::Body::new(streamed(["he", "llo"]))))
        .route("/empty", get(async || StatusCode::NO_CONTENT))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
}

/// Asks each of the [`pages`] under a prefix and compares what the layer saw.
async fn check_pages(recorder: &Recorder, address: SocketAddr, prefix: &str) {
    let pages = [
        (Method::GET, "/full", (Complete, Outcome::Ok, Some(200), 5)),
        (Method::HEAD, "/full", (Complete, Outcome::Ok, Some(200), 0)),
        (Method::GET, "/streamed", (Complete, Outcome::Ok, Some(200), 5)),
        (Method::GET, "/empty", (Complete, Outcome::Ok, Some(204), 0)),
        (Method::GET, "/broken", (Complete, Outcome::Error, Some(500), 0)),
        (Method::POST, "/full", (Complete, Outcome::Ok, Some(405), 0)),
    ];
    let before = recorder.ends().len();
    for (count, (method, page, expected)) in pages.into_iter().enumerate() {
        ask(method.clone(), address, &format!("{prefix}{page}")).await;
        let ends = recorder.ended(before + count + 1).await;
        assert_eq!(summary(&ends[before + count]), expected, "{method} {page}");
    }
    assert_eq!(recorder.started(), recorder.ends().len());
}

#[tokio::test]
async fn axum_takes_the_layer_inside_the_router() {
    let recorder = Recorder::default();
    let address = serve_axum(pages().layer(ObserveLayer::server(recorder.clone()))).await;
    check_pages(&recorder, address, "").await;
}

#[tokio::test]
async fn axum_takes_the_layer_around_the_router() {
    let recorder = Recorder::default();
    let app = ServiceBuilder::new()
        // `axum::serve` asks for axum's own body.
        .map_response(|response: Response<_>| response.map(axum::body::Body::new))
        .layer(ObserveLayer::server(recorder.clone()))
        .service(pages());
    let (listener, address) = listener().await;
    tokio::spawn(async move { axum::serve(listener, tower::make::Shared::new(app)).await });
    check_pages(&recorder, address, "").await;
}

#[tokio::test]
async fn hyper_serves_an_axum_router_with_the_layer_around_it() {
    let recorder = Recorder::default();
    let address = serve_hyper(ObserveLayer::server(recorder.clone()).layer(pages())).await;
    check_pages(&recorder, address, "").await;
}

#[tokio::test]
async fn axum_takes_the_layer_on_a_nested_router_and_on_a_route() {
    let (nested, single) = (Recorder::default(), Recorder::default());
    let route = get(async || "single").layer(ObserveLayer::server(single.clone()));
    let app = Router::new()
        .nest("/shop", pages().layer(ObserveLayer::server(nested.clone())))
        .route("/single", route)
        .route("/unwatched", get(async || ""));
    let address = serve_axum(app).await;
    check_pages(&nested, address, "/shop").await;
    let watched = nested.started();

    ask(Method::GET, address, "/unwatched").await;
    ask(Method::GET, address, "/single").await;
    assert_eq!(summary(&single.ended(1).await[0]), (Complete, Outcome::Ok, Some(200), 6));
    assert_eq!((nested.started(), single.started()), (watched, 1));
}

#[tokio::test]
async fn axum_takes_the_layer_around_its_fallback() {
    let recorder = Recorder::default();
    let app =
        pages().fallback(async || (StatusCode::NOT_FOUND, "not here")).layer(ObserveLayer::server(recorder.clone()));
    let address = serve_axum(app).await;
    assert_eq!(ask(Method::GET, address, "/nowhere").await, (StatusCode::NOT_FOUND, Bytes::from("not here")));
    assert_eq!(summary(&recorder.ended(1).await[0]), (Complete, Outcome::Ok, Some(404), 8));
}

#[tokio::test]
async fn axum_takes_two_layers_and_each_sees_every_exchange() {
    let (outer, inner) = (Recorder::default(), Recorder::default());
    let app = pages().layer(ObserveLayer::server(inner.clone())).layer(ObserveLayer::server(outer.clone()));
    let address = serve_axum(app).await;
    check_pages(&outer, address, "").await;
    assert_eq!(
        inner.ends().iter().map(summary).collect::<Vec<_>>(),
        outer.ends().iter().map(summary).collect::<Vec<_>>()
    );
}

/// Says when the handler has begun.
#[derive(Clone, Default)]
struct Begun(Arc<Notify>);

/// An application that never answers at `/never`, and whose answer at `/endless` never ends.
fn hanging(recorder: &Recorder, begun: &Begun) -> Router {
    let begun = begun.clone();
    Router::new()
        .route(
            "/never",
            any(async move || {
                begun.0.notify_one();
                pending::<()>().await;
            }),
        )
        .route("/endless", get(async || axum::body::Body::from_stream(endless())))
        .layer(ObserveLayer::server(recorder.clone()))
}

async fn connect_and_ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    stream
}

#[tokio::test]
async fn a_client_that_disconnects_before_the_answer_is_dropped_before_the_head() {
    let (recorder, begun) = (Recorder::default(), Begun::default());
    let address = serve_axum(hanging(&recorder, &begun)).await;
    let stream = connect_and_ask(address, "/never").await;
    begun.0.notified().await;
    drop(stream);
    let end = &recorder.ended(1).await[0];
    assert_eq!(summary(end), (DroppedBeforeHead, Outcome::Cancelled, None, 0));
}

#[tokio::test]
async fn a_client_that_disconnects_in_the_answer_is_dropped_in_the_body() {
    let (recorder, begun) = (Recorder::default(), Begun::default());
    let address = serve_axum(hanging(&recorder, &begun)).await;
    let mut stream = connect_and_ask(address, "/endless").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"part\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    drop(stream);
    let end = &recorder.ended(1).await[0];
    assert_eq!(summary(end), (DroppedInBody, Outcome::Cancelled, Some(200), 4));
}

#[tokio::test]
async fn a_client_that_resets_a_stream_of_http_2_is_told_apart_before_and_in_the_body() {
    let (recorder, begun) = (Recorder::default(), Begun::default());
    let address = serve_axum(hanging(&recorder, &begun)).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Empty<Bytes>>();
    let get = |path| Request::get(format!("http://{address}{path}")).body(Empty::new()).unwrap();

    tokio::select! {
        answer = client.request(get("/never")) => panic!("answered: {answer:?}"),
        () = begun.0.notified() => {}
    }
    assert_eq!(summary(&recorder.ended(1).await[0]), (DroppedBeforeHead, Outcome::Cancelled, None, 0));

    let mut response = client.request(get("/endless")).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    assert_eq!(summary(&recorder.ended(2).await[1]), (DroppedInBody, Outcome::Cancelled, Some(200), 4));
}

/// Serves one service by hyper, HTTP/1 and HTTP/2.
async fn serve_hyper<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error: Into<BoxError>>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    address
}

/// Serves answers of this body, and asks for one over HTTP/1 and one over HTTP/2.
async fn ends_of_hyper<B, E>(answer: fn() -> Response<B>) -> [Recorded; 2]
where
    B: Body<Data = Bytes, Error = E> + Send + 'static,
    E: Into<BoxError> + fmt::Display + 'static,
{
    let (server, caller) = (Recorder::default(), Recorder::default());
    let service = ServiceBuilder::new().layer(ObserveLayer::server(server.clone())).service(service_fn(
        move |_: Request<hyper::body::Incoming>| std::future::ready(Ok::<_, Infallible>(answer())),
    ));
    let address = serve_hyper(service).await;
    for http2 in [false, true] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Empty<Bytes>>();
        let client = ObserveLayer::client(caller.clone()).layer(client);
        let request = Request::get(format!("http://{address}/")).body(Empty::new()).expect("a request");
        let response = client.oneshot(request).await.expect("an answer");
        read(response.into_body()).await.expect("a whole answer");
    }
    let (server, caller) = (server.ended(2).await, caller.ended(2).await);
    assert_eq!(server.iter().map(summary).collect::<Vec<_>>(), caller.iter().map(summary).collect::<Vec<_>>());
    server.try_into().expect("two ends")
}

fn all_are(ends: &[Recorded; 2], expected: (Ending, Outcome, Option<u16>, u64)) {
    for end in ends {
        assert_eq!(summary(end), expected);
    }
}

#[tokio::test]
async fn hyper_serves_and_reads_a_full_body_to_a_complete_end() {
    all_are(&ends_of_hyper(|| Response::new(Full::from("hello"))).await, (Complete, Outcome::Ok, Some(200), 5));
}

#[tokio::test]
async fn hyper_serves_and_reads_an_empty_body_to_a_complete_end() {
    all_are(&ends_of_hyper(|| Response::new(Empty::new())).await, (Complete, Outcome::Ok, Some(200), 0));
}

#[tokio::test]
async fn hyper_serves_and_reads_a_stream_to_a_complete_end() {
    all_are(&ends_of_hyper(|| Response::new(streamed(["he", "l", "lo"]))).await, (Complete, Outcome::Ok, Some(200), 5));
}

#[tokio::test]
async fn hyper_serves_and_reads_a_boxed_body_to_a_complete_end() {
    let answer = || Response::new(BoxBody::<Bytes, BoxError>::new(streamed(["hello"]).map_err(BoxError::from)));
    all_are(&ends_of_hyper(answer).await, (Complete, Outcome::Ok, Some(200), 5));
}

#[tokio::test]
async fn hyper_serves_and_reads_a_stream_of_announced_length_to_a_complete_end() {
    let answer = || Response::builder().header("content-length", 5).body(streamed(["he", "llo"])).expect("an answer");
    all_are(&ends_of_hyper(answer).await, (Complete, Outcome::Ok, Some(200), 5));
}

#[tokio::test]
async fn hyper_serves_and_reads_trailers_of_http_2() {
    let answer = || {
        let frames = [Frame::data(Bytes::from_static(b"x")), Frame::trailers(headers([("checksum", "1")]))];
        Response::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>))))
    };
    let [_, over_http2] = ends_of_hyper(answer).await;
    assert_eq!(summary(&over_http2), (Complete, Outcome::Ok, Some(200), 1));
    assert_eq!(over_http2.trailers, Some(headers([("checksum", "1")])));
}

#[tokio::test]
async fn a_websocket_handshake_over_hyper_ends_the_exchange_at_101_and_leaves_the_connection_open() {
    let recorder = Recorder::default();
    let service =
        ObserveLayer::server(recorder.clone()).layer(service_fn(async |request: Request<hyper::body::Incoming>| {
            tokio::spawn(async move {
                let mut connection = TokioIo::new(hyper::upgrade::on(request).await.expect("upgraded"));
                let mut message = [0; 4];
                connection.read_exact(&mut message).await.expect("a message");
                connection.write_all(&message).await.expect("the client reads");
            });
            let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
            Ok::<_, Infallible>(response.body(Empty::<Bytes>::new()).expect("an answer"))
        }));
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let service = TowerToHyperService::new(service);
        auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await
    });

    let caller = Recorder::default();
    let client = ObserveLayer::client(caller.clone()).layer(http_client());
    let request = Request::get(format!("http://{address}/"))
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Empty::new())
        .unwrap();
    let response = client.oneshot(request).await.unwrap();
    for end in [&recorder.ended(1).await[0], &caller.ended(1).await[0]] {
        assert_eq!(summary(end), (Ending::Upgraded, Outcome::Ok, Some(101), 0));
    }
    let mut connection = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    connection.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    connection.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");
}

/// The message of the echo service, in both directions.
#[derive(Clone, PartialEq, prost::Message)]
struct Word {
    #[prost(string, tag = "1")]
    text: String,
}

impl Word {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned() }
    }
}

/// `service Echo { rpc Say(Word) returns (Word); rpc Spell(Word) returns (stream Word); }`, written by hand.
#[derive(Clone)]
struct Echo {
    begun: Begun,
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

type Letters = stream::BoxStream<'static, Result<Word, Status>>;

impl Echo {
    /// Answers with the text; `fail` with an error, `hang` never.
    async fn say(self, request: tonic::Request<Word>) -> Result<tonic::Response<Word>, Status> {
        match request.get_ref().text.as_str() {
            "fail" => Err(Status::data_loss("gone")),
            "hang" => {
                self.begun.0.notify_one();
                pending().await
            }
            _ => Ok(tonic::Response::new(request.into_inner())),
        }
    }

    /// Answers with the text letter by letter; a `!` is an error, a `.` is nothing for ever.
    async fn spell(self, request: tonic::Request<Word>) -> Result<tonic::Response<Letters>, Status> {
        let letters: Vec<_> = request.into_inner().text.chars().collect();
        let letters = stream::iter(letters).then(async |letter| match letter {
            '!' => Err(Status::resource_exhausted("no more letters")),
            '.' => pending().await,
            _ => Ok(Word::new(&letter.to_string())),
        });
        Ok(tonic::Response::new(letters.boxed()))
    }
}

impl Service<Request<TonicBody>> for Echo {
    type Response = Response<TonicBody>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<TonicBody>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Word, Word>::default());
            Ok(match request.uri().path() {
                "/test.Echo/Say" => grpc.unary(service_fn(move |request| echo.clone().say(request)), request).await,
                "/test.Echo/Spell" => {
                    grpc.server_streaming(service_fn(move |request| echo.clone().spell(request)), request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A client with the bounds of those that tonic generates.
struct EchoClient<T>(tonic::client::Grpc<T>);

impl<T> EchoClient<T>
where
    T: GrpcService<TonicBody, Error: Into<BoxError>>,
    T::ResponseBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    fn new(inner: T) -> Self {
        Self(tonic::client::Grpc::new(inner))
    }

    async fn say(&mut self, text: &str) -> Result<Word, Status> {
        self.unary("/test.Echo/Say", text).await
    }

    async fn unary(&mut self, path: &'static str, text: &str) -> Result<Word, Status> {
        self.ready().await?;
        let (request, path) = (tonic::Request::new(Word::new(text)), PathAndQuery::from_static(path));
        self.0.unary(request, path, ProstCodec::<Word, Word>::default()).await.map(tonic::Response::into_inner)
    }

    async fn spell(&mut self, text: &str) -> Result<Streaming<Word>, Status> {
        self.ready().await?;
        let (request, path) = (tonic::Request::new(Word::new(text)), PathAndQuery::from_static("/test.Echo/Spell"));
        let answer = self.0.server_streaming(request, path, ProstCodec::<Word, Word>::default()).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unknown(error.into().to_string()))
    }
}

/// A running echo service and a channel to it, each with an observer.
struct Echoing<T> {
    server: Recorder,
    caller: Recorder,
    begun: Begun,
    client: EchoClient<T>,
}

async fn serve_tonic(recorder: &Recorder, begun: &Begun) -> SocketAddr {
    let (listener, address) = listener().await;
    let server = Server::builder()
        .layer(ObserveLayer::server(recorder.clone()))
        .add_service(Echo { begun: begun.clone() })
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    address
}

async fn echoing()
-> Echoing<impl GrpcService<TonicBody, ResponseBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static>>
{
    let (server, caller, begun) = (Recorder::default(), Recorder::default(), Begun::default());
    let address = serve_tonic(&server, &begun).await;
    let channel: Channel = Endpoint::from_shared(format!("http://{address}")).expect("a uri").connect_lazy();
    let channel = ServiceBuilder::new().layer(ObserveLayer::client(caller.clone())).service(channel);
    Echoing { server, caller, begun, client: EchoClient::new(channel) }
}

/// Outcome and code as server and client saw the one call there was.
async fn both(server: &Recorder, caller: &Recorder) -> [(Ending, Outcome, Option<GrpcCode>); 2] {
    let (server, caller) = (server.ended(1).await, caller.ended(1).await);
    assert_eq!((server.len(), caller.len()), (1, 1));
    [&server[0], &caller[0]].map(|end| (end.ending, end.outcome, end.grpc_code))
}

#[tokio::test]
async fn a_unary_call_of_tonic_is_complete_on_both_sides_with_the_status_of_its_trailers() {
    let Echoing { server, caller, mut client, .. } = echoing().await;
    assert_eq!(client.say("hello").await.unwrap(), Word::new("hello"));
    assert_eq!(both(&server, &caller).await, [(Complete, Outcome::Ok, Some(GrpcCode::OK)); 2]);
    let grpc_status =
        |end: &Recorded| end.trailers.as_ref().map(|trailers: &HeaderMap| trailers["grpc-status"].clone());
    assert_eq!(grpc_status(&server.only()).unwrap(), "0");
    assert_eq!(grpc_status(&caller.only()).unwrap(), "0");
}

#[tokio::test]
async fn an_error_of_tonic_is_read_from_the_head_that_is_all_of_the_answer() {
    let Echoing { server, caller, mut client, .. } = echoing().await;
    assert_eq!(client.say("fail").await.unwrap_err().code(), tonic::Code::DataLoss);
    assert_eq!(both(&server, &caller).await, [(Complete, Outcome::Error, Some(GrpcCode::DATA_LOSS)); 2]);
    assert_eq!(caller.only().error_type.as_deref(), Some("DATA_LOSS"));
    assert_eq!(caller.only().trailers, None);
}

#[tokio::test]
async fn a_method_that_tonic_does_not_know_is_unimplemented() {
    let Echoing { server, caller, mut client, .. } = echoing().await;
    assert_eq!(client.unary("/test.Other/Say", "x").await.unwrap_err().code(), tonic::Code::Unimplemented);
    assert_eq!(both(&server, &caller).await, [(Complete, Outcome::Error, Some(GrpcCode::UNIMPLEMENTED)); 2]);
}

#[tokio::test]
async fn a_stream_of_tonic_ends_with_the_status_after_its_last_message() {
    let Echoing { server, caller, mut client, .. } = echoing().await;
    let letters: Vec<_> = client.spell("abc").await.unwrap().collect().await;
    assert_eq!(letters.len(), 3);
    assert_eq!(both(&server, &caller).await, [(Complete, Outcome::Ok, Some(GrpcCode::OK)); 2]);
    assert_eq!(server.only().body_bytes, 3 * 8, "five bytes of frame and three of message each");
}

#[tokio::test]
async fn a_stream_of_tonic_that_fails_on_the_way_blames_the_caller_for_clients_only() {
    let Echoing { server, caller, mut client, .. } = echoing().await;
    let letters: Vec<_> = client.spell("ab!").await.unwrap().collect().await;
    assert_eq!(letters[2].as_ref().unwrap_err().code(), tonic::Code::ResourceExhausted);
    let code = Some(GrpcCode::from_number(8));
    assert_eq!(both(&server, &caller).await, [(Complete, Outcome::Ok, code), (Complete, Outcome::Error, code)]);
}

#[tokio::test]
async fn a_tonic_client_that_gives_up_waiting_cancels_on_both_sides() {
    let Echoing { server, caller, begun, mut client } = echoing().await;
    tokio::select! {
        answer = client.say("hang") => panic!("answered: {answer:?}"),
        () = begun.0.notified() => {}
    }
    let cancelled = (DroppedBeforeHead, Outcome::Cancelled, Some(GrpcCode::CANCELLED));
    assert_eq!(both(&server, &caller).await, [cancelled; 2]);
}

#[tokio::test]
async fn a_tonic_client_that_drops_a_stream_cancels_on_both_sides() {
    let Echoing { server, caller, mut client, .. } = echoing().await;
    let mut letters = client.spell("ab.").await.unwrap();
    letters.message().await.unwrap();
    letters.message().await.unwrap();
    drop(letters);
    let cancelled = (DroppedInBody, Outcome::Cancelled, Some(GrpcCode::CANCELLED));
    assert_eq!(both(&server, &caller).await, [cancelled; 2]);
}

#[tokio::test]
async fn a_plain_http_answer_to_a_tonic_client_has_the_code_that_the_status_implies() {
    for page in ["", "<html>"] {
        let caller = Recorder::default();
        let address = serve_axum(Router::new().fallback(async move || (StatusCode::BAD_GATEWAY, page))).await;
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let mut client = EchoClient::new(ObserveLayer::client(caller.clone()).layer(channel));
        client.say("hello").await.unwrap_err();
        let end = &caller.ended(1).await[0];
        assert_eq!((end.outcome, end.grpc_code), (Outcome::Error, Some(GrpcCode::UNAVAILABLE)), "{page:?}");
        assert_eq!(end.status, Some(502));
    }
}
