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
//! // Until a signal, say; then what is under way is finished, and nothing is lost.
//! Worker::new(&queue, processor).run_until(shutdown).await;
//! # Ok(()) }
//! ```
//!
//! # Where jobs are kept
//!
//! | engine | for | feature | outlives |
//! |---|---|---|---|
//! | [`Memory`] | what a process cannot get rid of while it is offline | | nothing |
//! | [`Sqlite`] | one machine: a file | `sqlite`, on by default | the process, the machine's power |
//! | `Redis` | fleets: the keys of BullMQ, so that Node takes part | `redis` | what Redis outlives |
//!
//! All else is the same. What an engine takes, and for how long it remembers, is its [`EngineConfig`]:
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use buttress_queue::{Bound, Bounds, EngineConfig, Job, JobId, OnFull, Priority, Queue, Sqlite};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("orders.db");
//! let config = EngineConfig::default()
//!     // Of more than this, the oldest of the least urgent makes room.
//!     .bounds(Bounds::new(Bound { jobs: 100_000, bytes: 256 << 20 }).on_full(OnFull::Evict))
//!     // So long an id that is pushed again is a duplicate.
//!     .remember(Duration::from_secs(7 * 24 * 3600));
//! let orders = Queue::new("orders", Sqlite::open(path, config)?);
//!
//! let placed = Job::new("order.placed", &17)?.id(JobId::new("order-17-placed")?).priority(Priority::High);
//! // It is on the disk when this returns.
//! assert!(!orders.push(placed.clone()).await?.is_duplicate());
//! assert!(orders.push(placed).await?.is_duplicate());
//! # Ok(()) }
//! # #[cfg(not(feature = "sqlite"))] fn main() {}
//! ```
//!
//! # What to look at
//!
//! [`Queue::telemetry`] has spans, metrics and signals recorded. [`Queue::health`] and [`Queue::stats`] are pages as JSON.
//! What was given up is in [`Queue::inspect_dead_letters`], and goes back by [`Queue::replay`]. Whatever a processor does may
//! be done twice, when a process dies between doing and saying so: [`Delivery::id`](Delivery) is the same both times.
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

type BoxError = Box<dyn std::error::Error + Send + Sync>;
