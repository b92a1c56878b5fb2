//! Packs: what caches and streams are measured by, under fixed names.
//!
//! ```
//! use buttress::metrics::Registry;
//! use buttress::metrics::source::{self, CacheMetrics, StreamKind, StreamMetrics};
//!
//! let registry = Registry::new();
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
//! ```

mod cache;
mod hit_ratio;
#[cfg(feature = "stream")]
mod metered;
#[cfg(feature = "moka")]
mod moka;
mod stream;
mod totals;
#[cfg(feature = "websocket")]
mod websocket;

pub use cache::{CacheMetrics, EvictionCause};
#[cfg(feature = "stream")]
pub use metered::{MessageSize, Metered};
#[cfg(feature = "moka")]
pub use moka::MokaSource;
pub use stream::{OpenStream, StreamKind, StreamMetrics};
pub use totals::{CacheStats, StreamStats, cache_totals, stream_totals};
