//! Durable jobs whose processor is a tower service.
//!
//! ```
//! use buttress_queue::{Delivery, EngineConfig, Job, Memory, Outcome, Priority, Queue, Worker};
//! use tower::{BoxError, ServiceBuilder, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let queue = Queue::new("mail", Memory::new(EngineConfig::default()));
//! queue.push(Job::new("mail.welcome", "ada@example.com")?.priority(Priority::High)).await?;
//!
//! let processor = ServiceBuilder::new()
//!     // At most two at a time: the worker claims no more than the service is ready for.
//!     .concurrency_limit(2)
//!     .service(service_fn(async |mail: Delivery| {
//!         let mail: Delivery<String> = mail.read()?;
//!         println!("{} to {}", mail.kind, mail.data);
//!         Ok::<_, BoxError>(Outcome::Ack)
//!     }));
//! # let shutdown = std::future::ready(());
//! Worker::new(&queue, processor).run_until(shutdown).await;
//! # Ok(()) }
//! ```
//!
//! # Layout
//!
//! | module | what is in it |
//! |---|---|
//! | [`job`] | what is pushed, kept and delivered: `Job`, `Envelope`, `Delivery`, `Outcome` |
//! | [`engine`] | where jobs are kept: the trait, bounds, and the engines `Memory`, `Sqlite` and `Redis` |
//! | `queue` | [`Queue`]: the handle through which everything goes |
//! | [`worker`] | [`Worker`]: claims jobs for a service that is ready, and settles what comes of them |
//! | `webhook` (a feature) | webhooks: signed and delivered, received and verified |
//! | `router` | [`Router`]: a processor for each type |
//! | `dead` | dead letters: looked at, replayed, thrown away |
//! | `health`, `stats` | [`Queue::health`], [`Queue::stats`] |
//! | `circuit` | [`CircuitLayer`]: claims nothing while a circuit is open |
//! | [`connectivity`] | whether something can be reached |
#![forbid(unsafe_code)]

mod circuit;
mod clock;
pub mod connectivity;
mod dead;
mod delivered;
pub mod engine;
mod health;
pub mod job;
mod meters;
mod queue;
mod router;
mod stats;
#[cfg(feature = "webhook")]
pub mod webhook;
pub mod worker;

pub use circuit::{Anything, CircuitLayer, Deliveries, Guarded};
pub use connectivity::Connectivity;
pub use dead::{DeadFilter, DeadLetterView};
#[cfg(feature = "sqlite")]
pub use engine::Sqlite;
pub use engine::{Bound, Bounds, EngineConfig, EngineError, Full, Memory, OnFull};
#[cfg(feature = "redis")]
pub use engine::{Redis, RedisConfig};
pub use health::{Health, HealthLimits, HealthStatus};
pub use job::{Delivery, Envelope, InvalidId, Job, JobId, JobState, Outcome, Priority, Pushed, Reason};
pub use queue::{Handed, PushError, Queue};
pub use router::Router;
pub use stats::{Stats, TypeStats};
pub use worker::{Drained, Worker};
