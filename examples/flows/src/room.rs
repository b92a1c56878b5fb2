//! A flow within one request.

use std::io;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use buttress::Telemetry;
use serde::Deserialize;
use tokio::time::sleep;

#[derive(Deserialize)]
pub(crate) struct Room {
    name: String,
    #[serde(default = "Room::default_seats")]
    seats: u32,
}

impl Room {
    const fn default_seats() -> u32 {
        4
    }
}

/// Whatever way this returns, the flow has an end: dropping it unfinished would abandon it.
pub(crate) async fn create(
    State(telemetry): State<Telemetry>,
    Query(room): Query<Room>,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let flow = telemetry.flow("room.create");
    flow.attribute("room.name", room.name.clone()).attribute("room.seats", room.seats);

    if let Err(error) = flow.step("validate").call(|| validate(&room)) {
        flow.fail("invalid_room");
        return Err((StatusCode::BAD_REQUEST, format!("{error}\n")));
    }
    if let Err(error) = flow.step("reserve").run(reserve(room.seats)).await {
        flow.fail("no_capacity");
        return Err((StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")));
    }
    // The name is hashed where that keeps nobody waiting; the span is a child of this request all the same.
    let name = room.name.clone();
    let key = flow.step("derive_key").infallible().blocking(move || name.bytes().map(u32::from).sum::<u32>());
    let key = key.await.expect("adding numbers does not panic");
    flow.complete();
    Ok((StatusCode::CREATED, format!("room {} with key {key}\n", room.name)))
}

fn validate(room: &Room) -> Result<(), &'static str> {
    if room.name.is_empty() { Err("a room has a name") } else { Ok(()) }
}

async fn reserve(seats: u32) -> io::Result<()> {
    sleep(Duration::from_millis(5)).await;
    if seats > 100 { Err(io::Error::other("no room is that large")) } else { Ok(()) }
}

pub(crate) async fn sweep() -> io::Result<()> {
    Ok(())
}
