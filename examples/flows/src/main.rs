//! A conference service: rooms, recordings, logins and registrations, each a flow of named steps.

#![forbid(unsafe_code)]

mod account;
mod recording;
mod room;

use std::error::Error;
use std::future::IntoFuture;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, serve};
use buttress::Telemetry;
use buttress::observe::When;
use buttress::settings::port;
use buttress::trace::{Flow, Sampler};
use tokio::net::TcpListener;

/// Tells a caller what to send as `baggage` with the next request of the flow.
const FLOW: HeaderName = HeaderName::from_static("x-flow");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::from_env("flows")?;
    // Looking at the spans shall not push the interesting ones out of the ring.
    let unwatched = [(When::path("/debug"), Sampler::always_off())];
    let sampler = Sampler::rules(unwatched, telemetry.settings().sampler());
    let telemetry = telemetry.with_sampler(sampler);

    let stop = telemetry.shutdown_on_signal()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port(3000)?)).await?;
    println!("flows listens on http://{}", listener.local_addr()?);

    // Work that no request waits for, each tick a trace of its own.
    let sweep = telemetry.operation("rooms.sweep").every(Duration::from_secs(60), room::sweep);
    let sweep = tokio::spawn(sweep);
    let service = app(&telemetry).into_make_service_with_connect_info::<SocketAddr>();
    let serving = serve(listener, service).with_graceful_shutdown(stop.requested()).into_future();
    // Work of one's own ends where the server ends, before the spans are delivered.
    stop.drain(async {
        let served = serving.await;
        sweep.abort();
        served
    })
    .await?;
    Ok(())
}

fn app(telemetry: &Telemetry) -> Router {
    Router::new()
        .route("/rooms", post(room::create))
        .route("/recordings/start", post(recording::start))
        .route("/recordings/stop", post(recording::stop))
        .route("/recordings/upload", post(recording::upload))
        .route("/login", post(account::login))
        .route("/registration", post(account::register))
        .route("/registration/confirm", post(account::confirm))
        .route("/debug/spans", get(spans))
        // On the router, where the route is known; it also reads the baggage by which a request belongs to a flow.
        .layer(telemetry.server())
        // After the layer, so that who looks at the metrics does not change them.
        .merge(telemetry.metrics_endpoint().router())
        .with_state(telemetry.clone())
}

/// An answer that leaves the flow open for the caller to go on with.
fn to_be_continued(flow: Flow, body: &'static str) -> impl IntoResponse + use<> {
    let id = flow.leave_open();
    (StatusCode::ACCEPTED, [(FLOW, format!("flow.id={id}"))], body)
}

/// The flow that the request belongs to.
fn continued(telemetry: &Telemetry) -> Result<Flow, (StatusCode, &'static str)> {
    let flow = telemetry.flows().current().filter(Flow::is_open);
    flow.ok_or((StatusCode::CONFLICT, "no such flow: send the x-flow of the first answer as baggage\n"))
}

/// The latest spans, newest first, as a JSON array.
async fn spans(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let spans = telemetry.latest_spans(100);
    ([(CONTENT_TYPE, "application/json")], serde_json::to_string(&spans).expect("spans have text keys only"))
}
