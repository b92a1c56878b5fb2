//! What a worker does with jobs, and what it does not.

#[path = "../support/mod.rs"]
mod support;

mod dead;
mod faults;
mod outcomes;
mod push;
mod readiness;
mod shutdown;
