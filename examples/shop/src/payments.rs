//! The payments: plain hyper, with tower in front.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use buttress::Telemetry;
use buttress::observe::{Peer, Route};
use buttress::retry::ReplayBody;
use buttress::telemetry::ClientService;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
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
use tower::{ServiceBuilder, ServiceExt};

use crate::fault::{Kind, Switch, broken_body};

const CHARGES: &str = "/charges";
/// What the card allows at once.
const LIMIT_CENTS: u64 = 50_000;
const MAX_BODY: usize = 4096;
/// What asking the bank takes.
const WORK: Duration = Duration::from_millis(8);

#[derive(Debug, Deserialize, Serialize)]
struct Charge {
    cents: u64,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves until `stop` resolves and the requests under way are answered.
pub(crate) async fn serve(listener: TcpListener, telemetry: Telemetry, faults: Switch, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let connections = GracefulShutdown::new();
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
        tokio::spawn(connect(stream, peer, &telemetry, faults.clone(), &connections));
    }
    drop(listener);
    connections.shutdown().await;
}

fn connect(
    stream: TcpStream,
    peer: SocketAddr,
    telemetry: &Telemetry,
    faults: Switch,
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
        .service_fn(move |request| handle(request, faults.clone()));
    let http = auto::Builder::new(TokioExecutor::new());
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
    let connection = connections.watch(connection);
    async move {
        // Callers that hang up and bodies that break end here; their spans have told it.
        let _ = connection.await;
    }
}

async fn handle(request: Request<Incoming>, faults: Switch) -> Result<Response<Body>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::POST, CHARGES) => charge(request.into_body(), faults).await,
        (_, CHARGES) => answer(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"charges are posted"}"#),
        _ => answer(StatusCode::NOT_FOUND, r#"{"error":"there is POST /charges only"}"#),
    })
}

async fn charge(body: Incoming, faults: Switch) -> Response<Body> {
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return answer(StatusCode::BAD_REQUEST, r#"{"error":"the body is too long or broke off"}"#);
    };
    let Ok(Charge { cents }) = serde_json::from_slice(&body.to_bytes()) else {
        return answer(StatusCode::BAD_REQUEST, r#"{"error":"the body is {\"cents\": ..}"}"#);
    };
    let strike = faults.strike().await;
    tokio::time::sleep(WORK).await;
    match strike {
        Kind::Errors => answer(StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"the bank does not answer"}"#),
        Kind::Break => {
            Response::new(broken_body(br#"{"charged":"#, io::ErrorKind::ConnectionReset.into()).boxed_unsync())
        }
        _ if cents > LIMIT_CENTS => answer(StatusCode::PAYMENT_REQUIRED, r#"{"error":"the card's limit"}"#),
        _ => answer(StatusCode::OK, r#"{"charged":true}"#),
    }
}

fn answer(status: StatusCode, json: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(json).map_err(|never| match never {}).boxed_unsync());
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

impl Client {
    pub(crate) fn new(address: SocketAddr, telemetry: &Telemetry) -> Result<Self, http::uri::InvalidUri> {
        let http = ServiceBuilder::new()
            // Around the transport: a span for each request, and its context in the headers that leave.
            .layer(telemetry.client("payments"))
            .service(HyperClient::builder(TokioExecutor::new()).build_http());
        Ok(Self { charges: format!("http://{address}{CHARGES}").parse()?, http })
    }

    /// Charges, and answers with the status once the whole body is there.
    pub(crate) async fn charge(&self, cents: u64) -> Result<StatusCode, BoxError> {
        let body = serde_json::to_vec(&Charge { cents })?;
        let request = Request::post(&self.charges).body(Full::from(body))?;
        let response = self.http.clone().oneshot(request).await?;
        let status = response.status();
        Limited::new(response.into_body(), MAX_BODY).collect().await?;
        Ok(status)
    }
}
