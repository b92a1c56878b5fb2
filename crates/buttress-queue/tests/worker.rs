//! What a worker does with jobs, and what it does not.

mod support;

#[path = "worker/dead.rs"]
mod dead;
#[path = "worker/faults.rs"]
mod faults;
#[path = "worker/outcomes.rs"]
mod outcomes;
#[path = "worker/push.rs"]
mod push;
#[path = "worker/readiness.rs"]
mod readiness;
#[path = "worker/shutdown.rs"]
mod shutdown;
