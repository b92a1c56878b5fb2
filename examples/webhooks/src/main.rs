//! Webhooks in and out over durable queues.
//!
//! `POST /orders` puts a webhook into the queue `outbox`; a worker delivers it, signed, to the partner, who is this server
//! itself unless `PARTNER_URL` says otherwise. `POST /webhooks` verifies what comes and puts it into the queue `inbox`,
//! from which another worker takes it. Both queues are in a file, or in the Redis of `REDIS_URL`, where Node's BullMQ can
//! produce and work as well.

#![forbid(unsafe_code)]

mod inbox;
mod outbox;
mod storage;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, serve};
use buttress::Telemetry;
use buttress::settings::port;
use buttress_queue::webhook::{Receiver, Secret, Webhook};
use buttress_queue::{DeadFilter, HealthLimits, HealthStatus, Queue};
use serde::Deserialize;
use serde_json::json;
use storage::Storage;
use tokio::net::TcpListener;

/// Shared with the partner. A real one comes from where secrets are kept.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone)]
struct Shared {
    inbox: Queue,
    outbox: Queue,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::from_env("webhooks")?;
    let stop = telemetry.shutdown_on_signal()?;
    let storage = Storage::from_env()?;
    let shared = Shared { inbox: storage.queue("inbox", &telemetry)?, outbox: storage.queue("outbox", &telemetry)? };
    let secret = Secret::parse(SECRET)?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port(3000)?)).await?;
    let address = listener.local_addr()?;
    println!("The queues are in {storage}.");
    println!("webhooks listens on http://{address}");

    let work = tokio::spawn(inbox::worker(&shared.inbox).run_until(stop.requested()));
    let partner = outbox::partner(address, secret.clone())?;
    let delivery = tokio::spawn(outbox::worker(&shared.outbox, &telemetry, partner).run_until(stop.requested()));

    let service = app(&telemetry, shared, secret).into_make_service_with_connect_info::<SocketAddr>();
    let serving = serve(listener, service).with_graceful_shutdown(stop.requested());
    let serving = async {
        let served = serving.await;
        // The workers finish what they have, and hand back what they cannot.
        let (delivered, worked) = (delivery.await, work.await);
        println!("delivered: {delivered:?}, worked: {worked:?}");
        served
    };
    Ok(stop.drain(serving).await?)
}

fn app(telemetry: &Telemetry, shared: Shared, secret: Secret) -> Router {
    Router::new()
        .route("/orders", post(order))
        .route_service("/webhooks", Receiver::new(&shared.inbox, secret))
        .route("/health", get(health))
        .route("/stats", get(stats))
        .route("/dead-letters", get(dead_letters))
        .route("/dead-letters/replay", post(replay))
        // On the router, where the route is known.
        .layer(telemetry.server())
        // After the layer, so that who looks at the metrics does not change them.
        .merge(telemetry.metrics_endpoint().router())
        .with_state(shared)
}

#[derive(Deserialize)]
struct Order {
    item: String,
}

/// Takes an order, and tells the partner about it: now if it can be reached, later if not, once in any case.
async fn order(State(shared): State<Shared>, Json(order): Json<Order>) -> Result<Response, Refusal> {
    let payload = json!({ "type": "order.created", "data": { "item": order.item } });
    let webhook = Webhook::new(outbox::PARTNER, "order.created", &payload)?;
    let pushed = shared.outbox.push(webhook.into_job()?).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "event": pushed.id() }))).into_response())
}

async fn health(State(shared): State<Shared>) -> impl IntoResponse {
    let (inbox, outbox) =
        tokio::join!(shared.inbox.health(HealthLimits::default()), shared.outbox.health(HealthLimits::default()));
    let fails = [&inbox, &outbox].iter().any(|health| health.status == HealthStatus::Fail);
    let status = if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(json!({ "inbox": inbox, "outbox": outbox })))
}

/// What is in both queues, and how fast they go.
async fn stats(State(shared): State<Shared>) -> Result<Response, Refusal> {
    Ok(Json(json!([shared.inbox.stats().await?, shared.outbox.stats().await?])).into_response())
}

/// What could not be delivered, without the values of its data.
async fn dead_letters(State(shared): State<Shared>) -> Result<Response, Refusal> {
    Ok(Json(shared.outbox.inspect_dead_letters(&DeadFilter::default(), 100).await?).into_response())
}

#[derive(Deserialize)]
struct Replay {
    #[serde(default = "ten")]
    per_second: u32,
}

fn ten() -> u32 {
    10
}

async fn replay(State(shared): State<Shared>, Query(replay): Query<Replay>) -> Result<Response, Refusal> {
    let replayed = shared.outbox.replay(&DeadFilter::default(), replay.per_second.max(1)).await?;
    Ok(Json(json!({ "replayed": replayed })).into_response())
}

/// The queue could not do what was asked for: come again.
struct Refusal(Box<dyn Error>);

impl<E: Into<Box<dyn Error>>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")], format!("{}\n", self.0)).into_response()
    }
}
