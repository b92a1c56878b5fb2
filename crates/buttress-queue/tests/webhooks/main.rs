//! Webhooks: signed as the specification says, delivered with patience, verified on receipt.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

#[path = "../support/mod.rs"]
mod support;

mod fallback;
mod guard;
mod receiver;
mod sender;
mod signature;
mod world;
