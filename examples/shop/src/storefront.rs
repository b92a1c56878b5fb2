//! The storefront: axum. Takes orders, asks the others, and shows what has happened.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use buttress::circuit_breaker::Rejected;
use buttress::context::TraceId;
use buttress::retry::{TierLayer, TimedOut};
use buttress::{Telemetry, context};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tonic::Code;

use crate::events::Events;
use crate::fault::{Fault, Faults, Switch};
use crate::inventory::Item;
use crate::payments::Charged;
use crate::{inventory, payments};

const MOST_AT_ONCE: u32 = 20;

/// Whom it calls.
#[derive(Clone)]
pub(crate) struct Storefront {
    pub(crate) inventory: inventory::Client,
    pub(crate) payments: payments::Client,
    pub(crate) events: Events,
}

/// Serves until `stop` resolves and the requests under way are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    telemetry: Telemetry,
    storefront: Storefront,
    faults: Faults,
    pages: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let shop = Router::new()
        .route("/items/{id}", get(item))
        .route("/orders", post(order))
        // Right around the handlers: how much they read of a request is its size.
        .layer(telemetry.request_body_sizes())
        // Around the handlers: what their clients have given up for good is told to the caller, who need not try again.
        .layer(TierLayer::new())
        // Outside of that: the handlers run in the caller's trace and are timed to the last byte.
        .layer(telemetry.server())
        .with_state(storefront);
    let switches = Router::new()
        .route("/faults", get(show_faults))
        .route("/faults/{service}", post(switch_fault))
        .with_state(faults);
    // Merged after the layer, so that looking at the shop leaves no spans.
    let app = shop.merge(switches).merge(pages);
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
    let Item { id, title, cents, in_stock } = storefront.inventory.look(id).await?;
    Ok(Json(json!({ "id": id, "title": title, "cents": cents, "in_stock": in_stock })).into_response())
}

/// Reserves, then charges. A shop with money in it would give the reservation back when the charge fails.
async fn order(State(storefront): State<Storefront>, Json(order): Json<Order>) -> Result<Response, Refusal> {
    let Order { item, quantity } = order;
    if quantity == 0 || quantity > MOST_AT_ONCE {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("quantity is 1 to {MOST_AT_ONCE}")));
    }
    if let Some(context) = context::current() {
        context.set_attribute("shop.item", item.clone());
        context.set_attribute("shop.quantity", quantity);
    }
    // Made here, once, so that whatever is repeated below is the same order to the payments.
    // 128 random bits; not the id of the trace, which a customer may send with several orders.
    let order = TraceId::random().to_string();
    let reserved = storefront.inventory.reserve(item, quantity).await?;
    let cents = reserved.cents * u64::from(quantity);
    match storefront.payments.charge(&order, cents).await {
        Ok(Charged::Yes(charge)) => {
            storefront.events.placed(&order, &reserved.id, quantity).await;
            let body = json!({
                "order": order,
                "item": reserved.id,
                "quantity": quantity,
                "cents": cents,
                "charge": charge,
                "status": "charged",
            });
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
        Ok(Charged::Declined) => Err(Refusal::new(StatusCode::PAYMENT_REQUIRED, "the card was declined")),
        Ok(Charged::Other(status)) => Err(Refusal::new(StatusCode::BAD_GATEWAY, format!("payments answered {status}"))),
        Err(error) => Err(Refusal::of_no_answer(&*error)
            .unwrap_or_else(|| Refusal::new(StatusCode::BAD_GATEWAY, "payments broke off"))),
    }
}

/// Why there is no answer, or not the one that was hoped for.
struct Refusal {
    status: StatusCode,
    why: String,
    /// In seconds.
    retry_after: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), retry_after: None }
    }

    /// For a call that was not made, or was given up.
    fn of_no_answer(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(rejected) = Rejected::of(error) {
            // Up to the next whole second, and never none: who comes back at once comes too early.
            let seconds = rejected.retry_after.as_millis().div_ceil(1000).max(1);
            let retry_after = Some(u64::try_from(seconds).unwrap_or(u64::MAX));
            return Some(Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, rejected.to_string()) });
        }
        let timed_out = TimedOut::of(error)?;
        Some(Self::new(StatusCode::GATEWAY_TIMEOUT, timed_out.to_string()))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, why, retry_after } = self;
        let mut response = (status, Json(json!({ "error": why }))).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        if let Some(refusal) = Self::of_no_answer(&status) {
            return refusal;
        }
        let answer = match status.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::FailedPrecondition => StatusCode::CONFLICT,
            // tonic's server gives up by itself at the deadline that it was told, and may be a moment earlier.
            Code::DeadlineExceeded | Code::Cancelled => StatusCode::GATEWAY_TIMEOUT,
            _ => return Self::new(StatusCode::BAD_GATEWAY, format!("inventory answered {:?}", status.code())),
        };
        Self::new(answer, status.message())
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
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "the services are inventory and payments")),
    };
    fault.check().map_err(|wrong| Refusal::new(StatusCode::BAD_REQUEST, wrong))?;
    switch.set(fault);
    Ok(show_faults(State(faults)).await)
}
