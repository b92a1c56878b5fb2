//! The storefront: axum. Takes orders, asks the others, and shows what has happened.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use buttress::{Telemetry, context};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::Code;

use crate::fault::{Fault, Faults, Switch};
use crate::inventory::Item;
use crate::{debug, inventory, payments};

/// How long another service may take for its whole answer.
const PATIENCE: Duration = Duration::from_millis(600);
const MOST_AT_ONCE: u32 = 20;

/// Whom it calls.
#[derive(Clone)]
pub(crate) struct Storefront {
    pub(crate) inventory: inventory::Client,
    pub(crate) payments: payments::Client,
}

/// Serves until `stop` resolves and the requests under way are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    telemetry: Telemetry,
    storefront: Storefront,
    faults: Faults,
    debug: debug::Pages,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let shop = Router::new()
        .route("/items/{id}", get(item))
        .route("/orders", post(order))
        // Outside the handlers: they run in the caller's trace and are timed to the last byte.
        .layer(telemetry.server())
        .with_state(storefront);
    let switches = Router::new()
        .route("/faults", get(show_faults))
        .route("/faults/{service}", post(switch_fault))
        .with_state(faults);
    // Merged after the layer, so that looking at the shop leaves no spans.
    let app = shop.merge(switches).merge(debug.router());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

#[derive(Deserialize)]
struct Order {
    item: String,
    #[serde(default = "one")]
    quantity: u32,
}

fn one() -> u32 {
    1
}

async fn item(State(storefront): State<Storefront>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let Item { id, title, cents, in_stock } = patiently("inventory", storefront.inventory.look(id)).await??;
    Ok(Json(json!({ "id": id, "title": title, "cents": cents, "in_stock": in_stock })).into_response())
}

/// Reserves, then charges. A shop with money in it would give the reservation back when the charge fails.
async fn order(State(storefront): State<Storefront>, Json(order): Json<Order>) -> Result<Response, Refusal> {
    let Order { item, quantity } = order;
    if quantity == 0 || quantity > MOST_AT_ONCE {
        return Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, format!("quantity is 1 to {MOST_AT_ONCE}")));
    }
    if let Some(context) = context::current() {
        context.set_attribute("shop.item", item.clone());
        context.set_attribute("shop.quantity", quantity);
    }
    let reserved = patiently("inventory", storefront.inventory.reserve(item, quantity)).await??;
    let cents = reserved.cents * u64::from(quantity);
    match patiently("payments", storefront.payments.charge(cents)).await? {
        Ok(StatusCode::OK) => {
            let body = json!({ "item": reserved.id, "quantity": quantity, "cents": cents, "status": "charged" });
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
        Ok(StatusCode::PAYMENT_REQUIRED) => {
            Err(Refusal(StatusCode::PAYMENT_REQUIRED, "the card was declined".to_owned()))
        }
        Ok(status) => Err(Refusal(StatusCode::BAD_GATEWAY, format!("payments answered {status}"))),
        Err(_) => Err(Refusal(StatusCode::BAD_GATEWAY, "payments broke off".to_owned())),
    }
}

async fn patiently<T>(service: &str, call: impl Future<Output = T>) -> Result<T, Refusal> {
    let late = |_| Refusal(StatusCode::GATEWAY_TIMEOUT, format!("{service} took longer than {PATIENCE:?}"));
    timeout(PATIENCE, call).await.map_err(late)
}

/// Why there is no answer, or not the one that was hoped for.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, why) = self;
        (status, Json(json!({ "error": why }))).into_response()
    }
}

impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        let answer = match status.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::FailedPrecondition => StatusCode::CONFLICT,
            _ => return Self(StatusCode::BAD_GATEWAY, format!("inventory answered {:?}", status.code())),
        };
        Self(answer, status.message().to_owned())
    }
}

async fn show_faults(State(faults): State<Faults>) -> Response {
    let Faults { inventory, payments } = faults;
    Json(json!({ "inventory": inventory.fault(), "payments": payments.fault() })).into_response()
}

async fn switch_fault(
    State(faults): State<Faults>,
    Path(service): Path<String>,
    Query(fault): Query<Fault>,
) -> Result<Response, Refusal> {
    let switch: &Switch = match service.as_str() {
        "inventory" => &faults.inventory,
        "payments" => &faults.payments,
        _ => return Err(Refusal(StatusCode::NOT_FOUND, "the services are inventory and payments".to_owned())),
    };
    fault.check().map_err(|wrong| Refusal(StatusCode::BAD_REQUEST, wrong.to_owned()))?;
    switch.set(fault);
    Ok(show_faults(State(faults)).await)
}
