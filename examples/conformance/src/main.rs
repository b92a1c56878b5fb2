//! The service that W3C's trace-context test suite drives: it is told whom to call, and calls them in the trace of the
//! request that told it.

use std::net::Ipv4Addr;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use buttress::Telemetry;
use buttress::settings::Settings;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use tower::ServiceExt;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// One call to make.
#[derive(Deserialize)]
struct Call {
    url: String,
    arguments: Value,
}

#[derive(Clone)]
struct Caller {
    telemetry: Telemetry,
    client: HttpClient,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Nothing of the environment but the port: the suite tests the defaults.
    let telemetry = Telemetry::new(Settings::read("conformance", |_| None)?);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let app = Router::new()
        .route("/test", post(call_all))
        .with_state(Caller { telemetry: telemetry.clone(), client })
        // Outermost, so that the calls are made in the trace of the request that asks for them.
        .layer(telemetry.server());
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port()?)).await?;
    println!("listening on http://{}/test", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(interrupted()).await?;
    Ok(())
}

/// Makes the calls one after the other, each with a span of its own.
async fn call_all(State(caller): State<Caller>, Json(calls): Json<Vec<Call>>) -> Result<(), (StatusCode, String)> {
    for call in calls {
        let url = call.url.clone();
        caller.call(call).await.map_err(|error| (StatusCode::BAD_GATEWAY, format!("{url}: {error}\n")))?;
    }
    Ok(())
}

impl Caller {
    async fn call(&self, call: Call) -> Result<(), BoxError> {
        let request = Request::post(call.url)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(serde_json::to_vec(&call.arguments)?.into()))?;
        // Around the transport: a span for each call, and its context in the headers that leave.
        let client = self.telemetry.client("callee").service(self.client.clone());
        let response = client.oneshot(request).await?;
        response.into_body().collect().await?;
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "the port of an example is no setting of the library")]
fn port() -> Result<u16, BoxError> {
    match std::env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| format!("PORT is {port:?}; accepted is a number from 0 to 65535").into()),
        Err(_) => Ok(5000),
    }
}

async fn interrupted() {
    // Without signals the server runs until it is killed.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
