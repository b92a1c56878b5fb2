//! The payments: plain hyper, with tower in front.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use buttress::Telemetry;
use buttress::backoff::{Backoff, Jitter};
use buttress::circuit_breaker::{CircuitConfig, Ramp, Share, Window};
use buttress::observe::{Peer, Route};
use buttress::retry::{Inbound, ReplayBody, TierLayer};
use buttress::telemetry::ClientService;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};

use crate::charges::{Charges, LONGEST_KEY};
use crate::circuits::Upstream;
use crate::fault::{Switch, broken_body};

const CHARGES: &str = "/charges";
/// What the card allows at once.
const LIMIT_CENTS: u64 = 50_000;
const MAX_BODY: usize = 4096;
/// What asking the bank takes.
const WORK: Duration = Duration::from_millis(8);
/// Requests with the same one are one charge.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Tells how many milliseconds the caller still waits. gRPC has a header of its own for it, plain HTTP has none.
const TIME_LEFT: HeaderName = HeaderName::from_static("shop-time-left-ms");
/// How long a caller waits for one answer,
const ATTEMPT: Duration = Duration::from_millis(250);
/// and for all attempts together.
const PATIENCE: Duration = Duration::from_millis(600);

#[derive(Debug, Deserialize, Serialize)]
struct Charge {
    cents: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Receipt {
    charge: u64,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves until `stop` resolves and the requests under way are answered.
pub(crate) async fn serve(listener: TcpListener, telemetry: Telemetry, faults: Switch, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let connections = GracefulShutdown::new();
    let till = Till { charges: Charges::default(), faults };
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Out of descriptors, or the caller has gone already: neither ends the service, or keeps it spinning.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        tokio::spawn(connect(stream, peer, &telemetry, till.clone(), &connections));
    }
    drop(listener);
    connections.shutdown().await;
}

#[derive(Clone)]
struct Till {
    charges: Charges,
    faults: Switch,
}

fn connect(
    stream: TcpStream,
    peer: SocketAddr,
    telemetry: &Telemetry,
    till: Till,
    connections: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let service = ServiceBuilder::new()
        // Outside the telemetry, which reads it: only here is it known who is connected, and no router names the route.
        .map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            if request.uri().path() == CHARGES {
                request.extensions_mut().insert(Route::from_static(CHARGES));
            }
            request
        })
        // Outside the handler: it runs in the caller's trace and is timed to the last byte of its body.
        .layer(telemetry.server())
        // Around the handler, which asks how long the caller still waits; clients in it would keep to that.
        .layer(TierLayer::new().deadline_header(TIME_LEFT))
        .service_fn(move |request| handle(request, till.clone()));
    let http = auto::Builder::new(TokioExecutor::new());
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
    let connection = connections.watch(connection);
    async move {
        // Callers that hang up and bodies that break end here; their spans have told it.
        let _ = connection.await;
    }
}

async fn handle(request: Request<Incoming>, till: Till) -> Result<Response<Body>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::POST, CHARGES) => charge(request, till).await,
        (_, CHARGES) => answer(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"charges are posted"}"#),
        _ => answer(StatusCode::NOT_FOUND, r#"{"error":"there is POST /charges only"}"#),
    })
}

async fn charge(request: Request<Incoming>, till: Till) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(key) = key_of(&head.headers) else {
        return answer(StatusCode::BAD_REQUEST, r#"{"error":"an Idempotency-Key has 1 to 128 characters"}"#);
    };
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return answer(StatusCode::BAD_REQUEST, r#"{"error":"the body is too long or broke off"}"#);
    };
    let Ok(Charge { cents }) = serde_json::from_slice(&body.to_bytes()) else {
        return answer(StatusCode::BAD_REQUEST, r#"{"error":"the body is {\"cents\": ..}"}"#);
    };
    let deadline = Inbound::current().and_then(|inbound| inbound.deadline);
    if deadline.is_some_and(|deadline| deadline < Instant::now() + WORK) {
        return answer(StatusCode::GATEWAY_TIMEOUT, r#"{"error":"nobody would wait for the bank"}"#);
    }
    let strike = till.faults.strike();
    tokio::time::sleep(WORK).await;
    if strike.fails {
        strike.wait().await;
        return answer(StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"the bank does not answer"}"#);
    }
    if cents > LIMIT_CENTS {
        strike.wait().await;
        return answer(StatusCode::PAYMENT_REQUIRED, r#"{"error":"the card's limit"}"#);
    }
    let Ok(charge) = till.charges.charge(key, cents) else {
        return answer(StatusCode::UNPROCESSABLE_ENTITY, r#"{"error":"the key was used for another charge"}"#);
    };
    // Whoever gives up here has been charged without hearing of it, and a repeat with the same key is not charged again.
    strike.wait().await;
    if strike.breaks() {
        return Response::new(broken_body(br#"{"charge":"#, io::ErrorKind::ConnectionReset.into()).boxed_unsync());
    }
    answer(StatusCode::OK, serde_json::to_vec(&Receipt { charge }).expect("a number is JSON"))
}

fn key_of(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().map_err(drop)?;
    if (1..=LONGEST_KEY).contains(&key.len()) { Ok(Some(key)) } else { Err(()) }
}

fn answer(status: StatusCode, json: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(json.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// The client that other services call it with.
#[derive(Clone)]
pub(crate) struct Client {
    charges: Uri,
    http: ClientService<HyperClient<HttpConnector, ReplayBody<Full<Bytes>>>>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the bank says to an order.
pub(crate) enum Charged {
    /// The number of the charge.
    Yes(u64),
    Declined,
    /// An answer that was not expected.
    Other(StatusCode),
}

impl Client {
    pub(crate) fn new(
        address: SocketAddr,
        telemetry: &Telemetry,
    ) -> Result<(Self, Upstream), Box<dyn std::error::Error>> {
        // From outside in: what the caller waits at most; repeats, which the key allows; a circuit, with a span and the
        // context in the headers for each attempt; and what one attempt may take. Then the transport.
        let stack = telemetry
            .client("payments")
            .deadline(PATIENCE)
            .retry(|retry| retry.deadline_header(TIME_LEFT))
            .circuit_config(circuit()?)
            .attempt_timeout(ATTEMPT);
        let upstream = Upstream { circuit: stack.circuit().clone(), retries: stack.retries().clone() };
        let http = stack.service(HyperClient::builder(TokioExecutor::new()).build_http());
        Ok((Self { charges: format!("http://{address}{CHARGES}").parse()?, http }, upstream))
    }

    /// Charges an order. However often it is sent, it is charged once.
    pub(crate) async fn charge(&self, order: &str, cents: u64) -> Result<Charged, BoxError> {
        let body = serde_json::to_vec(&Charge { cents })?;
        let request = Request::post(&self.charges).header(IDEMPOTENCY_KEY, order).body(Full::from(body))?;
        let response = self.http.clone().oneshot(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?.to_bytes();
        Ok(match status {
            StatusCode::OK => Charged::Yes(serde_json::from_slice::<Receipt>(&body)?.charge),
            StatusCode::PAYMENT_REQUIRED => Charged::Declined,
            status => Charged::Other(status),
        })
    }
}

/// Opens sooner and closes sooner than by default, so that a few orders a second are enough to see it within seconds.
fn circuit() -> Result<CircuitConfig, Box<dyn std::error::Error>> {
    let wait = Backoff::exponential(Duration::from_secs(2), 2.0, Duration::from_secs(10))?;
    Ok(CircuitConfig::default()
        .window(Window::count(40, Duration::from_secs(10))?)
        .minimum_calls(10)
        .open_for(wait.jitter(Jitter::Around(0.2)))
        .ramp(Ramp { from: Share::percent(20), over: Duration::from_secs(3) }))
}
