//! Numbers that nobody records: the runtime's, the process's, the system's.
//!
//! [`RuntimeMonitor`] measures how late tokio's runtime is, and whether a worker is stuck. [`ProcessSource`] reads CPU,
//! memory and I/O of the process and of its system at each tick.
//!
//! ```
//! use buttress::metrics::Registry;
//! use buttress::metrics::source::{ProcessSource, RuntimeMonitor};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let registry = Registry::new();
//! registry.add_source(ProcessSource::new(&registry));
//! // As long as this lives, the runtime is watched.
//! let monitor = RuntimeMonitor::start(&registry);
//!
//! registry.tick();
//! let lag = monitor.lag();
//! assert!(lag.monitoring_active);
//! println!("p95 {:?}, {} stalls", lag.p95, lag.stalls);
//! # }
//! ```

mod cgroup;
mod probe;
mod process;
mod procfs;
mod runtime;
mod stall;
mod system;
mod unstable;
mod watch;

pub use process::ProcessSource;
pub use runtime::{RuntimeLag, RuntimeMonitor};
