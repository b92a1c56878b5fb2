//! Webhooks: signed as the specification says, delivered with patience, verified on receipt.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod support;

#[path = "webhooks/fallback.rs"]
mod fallback;
#[path = "webhooks/guard.rs"]
mod guard;
#[path = "webhooks/receiver.rs"]
mod receiver;
#[path = "webhooks/sender.rs"]
mod sender;
#[path = "webhooks/signature.rs"]
mod signature;
#[path = "webhooks/world.rs"]
mod world;
