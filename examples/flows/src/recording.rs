//! A flow over three requests: started, stopped, uploaded.

use std::io;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use buttress::Telemetry;
use serde::Deserialize;
use tokio::time::sleep;

use crate::{continued, to_be_continued};

#[derive(Deserialize)]
pub(crate) struct Start {
    room: String,
}

pub(crate) async fn start(State(telemetry): State<Telemetry>, Query(start): Query<Start>) -> impl IntoResponse {
    let flow = telemetry.flow("recording");
    flow.attribute("room.name", start.room);
    flow.step("start").infallible().run(sleep(Duration::from_millis(2))).await;
    to_be_continued(flow, "recording\n")
}

pub(crate) async fn stop(State(telemetry): State<Telemetry>) -> Result<impl IntoResponse, impl IntoResponse> {
    let flow = continued(&telemetry)?;
    flow.step("stop").infallible().run(sleep(Duration::from_millis(2))).await;
    Ok::<_, (StatusCode, &'static str)>(to_be_continued(flow, "stopped\n"))
}

#[derive(Deserialize)]
pub(crate) struct Upload {
    #[serde(default)]
    fail: bool,
}

pub(crate) async fn upload(
    State(telemetry): State<Telemetry>,
    Query(upload): Query<Upload>,
) -> Result<&'static str, (StatusCode, &'static str)> {
    let flow = continued(&telemetry)?;
    match flow.step("upload").run(send(upload.fail)).await {
        Ok(bytes) => {
            flow.attribute("recording.bytes", bytes);
            flow.complete();
            Ok("uploaded\n")
        }
        Err(_) => {
            flow.fail("upload_failed");
            Err((StatusCode::BAD_GATEWAY, "the store did not take it\n"))
        }
    }
}

async fn send(fail: bool) -> io::Result<u64> {
    sleep(Duration::from_millis(5)).await;
    if fail { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(1 << 20) }
}
