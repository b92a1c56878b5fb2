//! Numbers that no layer records: the runtime's, the process's, those of caches and streams.
//!
//! [`RuntimeMonitor`] measures how late tokio's runtime is, and whether a worker is stuck. [`ProcessSource`] reads CPU,
//! memory and I/O of the process and of its system at each tick. [`CacheMetrics`] and [`StreamMetrics`] are told by who has
//! a cache or a stream.
//!
//! ```
//! use buttress::metrics::Registry;
//! use buttress::metrics::source::{self, CacheMetrics, ProcessSource, RuntimeMonitor, StreamKind, StreamMetrics};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let registry = Registry::new();
//! registry.add_source(ProcessSource::new(&registry));
//! // As long as this lives, the runtime is watched.
//! let monitor = RuntimeMonitor::start(&registry);
//! registry.tick();
//! assert!(monitor.lag().monitoring_active);
//!
//! let prices = CacheMetrics::new(&registry, "prices");
//! let known = std::collections::HashMap::from([("tea", 3)]);
//! assert_eq!(prices.lookup(known.get("tea")), Some(&3));
//! assert_eq!(prices.lookup(known.get("milk")), None);
//! assert_eq!(prices.stats().hit_ratio, Some(0.5));
//!
//! let chats = StreamMetrics::new(&registry, StreamKind::Websocket);
//! let chat = chats.open();
//! chat.message_in(5);
//! let snapshot = registry.snapshot();
//! assert_eq!(source::stream_totals(&snapshot, StreamKind::Websocket).open, 1);
//! assert_eq!(source::cache_totals(&snapshot).misses, 1);
//! # }
//! ```

mod cache;
mod cgroup;
mod hit_ratio;
mod io;
#[cfg(feature = "stream")]
mod metered;
#[cfg(feature = "moka")]
mod moka;
mod probe;
mod process;
mod procfs;
mod runtime;
mod stall;
mod stream;
mod system;
mod totals;
mod unstable;
mod watch;
#[cfg(feature = "websocket")]
mod websocket;

pub use cache::{CacheMetrics, EvictionCause};
pub use io::MeteredIo;
#[cfg(feature = "stream")]
pub use metered::{MessageSize, Metered};
#[cfg(feature = "moka")]
pub use moka::MokaSource;
pub use process::ProcessSource;
pub use runtime::{RuntimeLag, RuntimeMonitor};
pub(super) use stream::Unwrapped;
#[cfg(all(feature = "websocket", feature = "trace"))]
pub(crate) use stream::{Follow, Side};
pub use stream::{OpenStream, StreamKind, StreamMetrics};
pub use totals::{CacheStats, StreamStats, cache_totals, stream_totals};
