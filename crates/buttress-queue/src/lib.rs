//! Durable jobs whose processor is a tower service.
//!
//! # Layout
//!
//! | module | what is in it |
//! |---|---|
//! | [`job`] | what is pushed, kept and delivered: `Job`, `Envelope`, `Delivery`, `Outcome` |
//! | [`engine`] | where jobs are kept: the trait, bounds, and the engines `Memory`, `Sqlite` and `Redis` |
#![forbid(unsafe_code)]

pub mod engine;
pub mod job;

#[cfg(feature = "sqlite")]
pub use engine::Sqlite;
pub use engine::{Bound, Bounds, EngineConfig, EngineError, Full, Memory, OnFull};
pub use job::{Delivery, Envelope, InvalidId, Job, JobId, JobState, Outcome, Priority, Pushed, Reason};
