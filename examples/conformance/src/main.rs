//! A service to test W3C Trace Context with: it does the calls that it is asked for, and passes its context on.
//!
//! `POST /test` takes a JSON array of `{"url": .., "arguments": ..}`, posts the arguments to each URL in order, each call
//! with a span id of its own, and then answers 200. Nothing but `PORT` is asked of the environment.

#![forbid(unsafe_code)]

use std::error::Error;
use std::net::Ipv4Addr;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Router, serve};
use buttress::Telemetry;
use buttress::settings::{Settings, port};
use buttress::telemetry::WatchedClient;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::net::TcpListener;
use tower::ServiceExt;

/// hyper's client, inside the layers that trace each call and write its context into the headers.
type TracedClient = WatchedClient<Client<HttpConnector, Full<Bytes>>>;

#[derive(Deserialize)]
struct Call {
    url: String,
    arguments: serde_json::Value,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::new(Settings::read("conformance", |_| None)?);
    let client = telemetry.watched_client("callee").service(Client::builder(TokioExecutor::new()).build_http());
    let app = Router::new()
        .route("/test", post(test))
        // Around every route, so that the handler runs in the caller's context.
        .layer(telemetry.server())
        .with_state(client);

    let stop = telemetry.shutdown_on_signal()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port(5000)?)).await?;
    println!("conformance listens on http://{}", listener.local_addr()?);
    let serving = serve(listener, app).with_graceful_shutdown(stop.requested());
    Ok(stop.drain(serving).await?)
}

async fn test(State(client): State<TracedClient>, body: Bytes) -> (StatusCode, String) {
    let calls: Vec<Call> = match serde_json::from_slice(&body) {
        Ok(calls) => calls,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    for Call { url, arguments } in calls {
        if let Err(error) = call(&client, &url, arguments.to_string()).await {
            return (StatusCode::BAD_GATEWAY, format!("{url}: {error}\n"));
        }
    }
    (StatusCode::OK, String::new())
}

async fn call(client: &TracedClient, url: &str, arguments: String) -> Result<(), Box<dyn Error + Send + Sync>> {
    let request =
        Request::post(url).header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(arguments)))?;
    let answer = client.clone().oneshot(request).await.map_err(described)?;
    // To its end, where the span of the call ends too.
    answer.into_body().collect().await?;
    Ok(())
}

/// The client's error says that the connection failed, its source says why.
fn described(error: legacy::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |why| format!("{error}: {why}"))
}
