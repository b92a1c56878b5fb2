//! An axum server whose requests are traced and measured: the latest spans are at `/debug/spans`, the metrics at
//! `/metrics`, `/diagnostics/metrics` and `/diagnostics/performance`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, serve};
use buttress::observe::When;
use buttress::settings::port;
use buttress::trace::Sampler;
use buttress::{Telemetry, context};
use futures_util::stream;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::from_env("axum-server")?;
    // Looking at the spans shall not push the interesting ones out of the ring.
    let unwatched = [(When::path("/debug"), Sampler::always_off())];
    let sampler = Sampler::rules(unwatched, telemetry.settings().sampler());
    let telemetry = telemetry.with_sampler(sampler);

    // Before it is known where the server is, so that from then on it can be told to stop.
    let stop = telemetry.shutdown_on_signal()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port(3000)?)).await?;
    println!("axum-server listens on http://{}", listener.local_addr()?);

    // The connect info tells the spans who called.
    let service = app(&telemetry).into_make_service_with_connect_info::<SocketAddr>();
    let serving = serve(listener, service).with_graceful_shutdown(stop.requested());
    // What is under way is answered; then, when no request is left that could add a span, the spans are delivered.
    Ok(stop.drain(serving).await?)
}

fn app(telemetry: &Telemetry) -> Router {
    Router::new()
        .route("/ok", get(async || "ok\n"))
        .route("/items/{id}", get(item))
        .route("/slow", get(slow))
        .route("/stream", get(streamed))
        .route("/error", get(async || (StatusCode::INTERNAL_SERVER_ERROR, "no stock today\n")))
        .route("/panic", get(panics))
        .route("/break", get(breaks))
        .nest("/api/v1", Router::new().route("/orders/{id}", get(item)))
        .route("/debug/spans", get(spans))
        .fallback(async || (StatusCode::NOT_FOUND, "nothing here\n"))
        // On the router, where the route is known, and after every route and the fallback, so that it holds for all.
        .layer(telemetry.server())
        // After the layer, so that who looks at the metrics does not change them.
        .merge(telemetry.metrics_endpoint().router())
        .with_state(telemetry.clone())
}

async fn item(Path(id): Path<String>) -> String {
    // Every handler can say more about its request than HTTP does.
    if let Some(context) = context::current() {
        context.set_attribute("item.id", id.clone());
    }
    format!("item {id}\n")
}

#[derive(Deserialize)]
struct Pace {
    #[serde(default = "Pace::default_ms")]
    ms: u64,
    #[serde(default = "Pace::default_chunks")]
    chunks: u32,
}

impl Pace {
    const fn default_ms() -> u64 {
        1000
    }

    const fn default_chunks() -> u32 {
        5
    }
}

async fn slow(Query(pace): Query<Pace>) -> &'static str {
    sleep(Duration::from_millis(pace.ms)).await;
    "at last\n"
}

/// So many chunks over so many milliseconds; the head leaves at once, the span ends with the last chunk.
async fn streamed(Query(pace): Query<Pace>) -> Body {
    let pause = Duration::from_millis(pace.ms) / pace.chunks.max(1);
    Body::from_stream(stream::unfold(0, move |sent| async move {
        if sent == pace.chunks {
            return None;
        }
        sleep(pause).await;
        Some((Ok::<_, io::Error>(format!("chunk {}\n", sent + 1)), sent + 1))
    }))
}

async fn panics() -> &'static str {
    panic!("asked for by the caller")
}

/// A body that breaks after its first half; the status has been sent by then.
async fn breaks() -> Body {
    let half = Ok("the first half\n");
    // The pause lets the first half reach the caller.
    Body::from_stream(stream::unfold(Some(half), |next| async move {
        let chunk = next?;
        if chunk.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        let then = chunk.is_ok().then(|| Err(io::Error::other("the second half is lost")));
        Some((chunk, then))
    }))
}

/// The latest spans, newest first, as a JSON array.
async fn spans(State(telemetry): State<Telemetry>) -> impl IntoResponse {
    let spans = telemetry.latest_spans(100);
    ([(CONTENT_TYPE, "application/json")], serde_json::to_string(&spans).expect("spans have text keys only"))
}
