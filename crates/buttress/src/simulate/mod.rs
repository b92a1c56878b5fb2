//! What a stack of layers does to a backend in trouble, before the trouble comes: seeded, and in virtual time.
//!
//! A [`Simulation`] offers a [`Workload`] (so many requests a second, whatever becomes of them) to a subject: any tower
//! stack around a [`Backend`] that answers, queues, fails, hangs or warms up as its [`Fault`]s say. The very layers that
//! a service runs are simulated, not a model of them. The [`Report`] counts what reached the backend and what the callers
//! got.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::simulate::{Backend, Fault, Simulation, Workload};
//!
//! let seconds = Duration::from_secs;
//! let workload = Workload::poisson(1000.0, seconds(20)).seed(42);
//! let outage = Fault::errors(Duration::from_millis(1)).between(seconds(8), seconds(14));
//! let backend = Backend::new(Duration::from_millis(5)).fault(outage);
//!
//! // Your stack goes here, for instance `|backend| CircuitBreakerLayer::new("backend").layer(backend)`.
//! let report = Simulation::new(workload, backend).run(|backend| backend);
//!
//! // Nothing keeps the calls away from the sick backend.
//! assert_eq!(report.sick.sent, report.sick.offered);
//! assert_eq!(report.sick.goodput(), 0.0);
//! assert_eq!(report.recovery(seconds(14)), Some(Duration::ZERO));
//! ```
//!
//! Twenty seconds take a fraction of one, and the same seed gives the same report, as long as the subject takes its time
//! from tokio's clock and its randomness from a seed, as the layers of this crate do. [`scenario`] has ready-made troubles.
//! [`Simulation::run_async`] simulates on the clock of the runtime it
//! is awaited on, which is how layers with a clock of their own are measured: in wall time.
//!
//! A process that has simulated reads tokio's clock more slowly from then on: not for servers at work.
//!
//! Tokio's timers count milliseconds. Requests and answers therefore come on a whole one; rates and the occupation of
//! servers are exact.

mod backend;
mod fault;
mod report;
mod run;
pub mod scenario;
mod scripted;
mod served;
mod workload;

pub use backend::Backend;
pub use fault::Fault;
pub use report::{Report, Tally};
pub use run::{Simulation, in_virtual_time};
pub use scripted::{Script, Scripted};
pub use served::{AnswerFuture, SimulatedBackend};
pub use workload::Workload;
