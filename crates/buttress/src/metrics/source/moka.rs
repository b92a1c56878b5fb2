//! Caches of moka, which counts nothing itself.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use ::moka::Entry;
use ::moka::notification::RemovalCause;
use ::moka::sync::Cache;

use super::cache::{CacheMetrics, EvictionCause};
use crate::clock::Instant;
use crate::metrics::Source;

impl CacheMetrics {
    /// Counts what leaves a cache of moka, for the `eviction_listener` of its builder; `sync` and `future` alike.
    ///
    /// ```
    /// use buttress::metrics::Registry;
    /// use buttress::metrics::source::CacheMetrics;
    /// use moka::sync::Cache;
    ///
    /// let registry = Registry::new();
    /// let metrics = CacheMetrics::new(&registry, "prices");
    /// let prices = Cache::builder().max_capacity(1000).eviction_listener(metrics.moka_listener()).build();
    /// registry.add_source(metrics.moka_source(prices.clone()));
    ///
    /// // Nothing there yet: a miss, a load, and an entry that is put in.
    /// let load = || {
    ///     let _loading = metrics.start_load();
    ///     3
    /// };
    /// assert_eq!(metrics.moka_entry(prices.entry("tea").or_insert_with(load)), 3);
    /// // There now: a hit.
    /// assert_eq!(metrics.lookup(prices.get("tea")), Some(3));
    ///
    /// registry.tick();
    /// let stats = metrics.stats();
    /// assert_eq!((stats.hits, stats.misses, stats.entries), (1, 1, Some(1)));
    /// ```
    pub fn moka_listener<K, V>(&self) -> impl Fn(Arc<K>, V, RemovalCause) + Send + Sync + 'static {
        let metrics = self.clone();
        move |_key, _value, cause| metrics.evicted(cause.into())
    }

    /// Counts a hit, or a miss and a put when the entry was made just now, and hands its value on; of the `entry` of a
    /// cache of moka. Who waited while somebody else loaded it has a hit.
    pub fn moka_entry<K, V>(&self, entry: Entry<K, V>) -> V {
        if entry.is_fresh() {
            self.miss();
            self.put();
        } else {
            self.hit();
        }
        entry.into_value()
    }

    /// Tells at each tick how many entries there are, for [`add_source`](crate::metrics::Registry::add_source), which
    /// keeps the cache alive from then on.
    ///
    /// A cache of moka does its housekeeping while it is used. The tick lets it do that, so that an idle one does not go
    /// on telling of entries whose time is over: the eviction listener may be called by the thread that ticks.
    /// For caches of `moka::future`, call [`set_entries`](Self::set_entries) in a source of your own.
    pub fn moka_source<K, V, S>(&self, cache: Cache<K, V, S>) -> MokaSource<K, V, S> {
        MokaSource { metrics: self.clone(), cache, weighs_bytes: false }
    }
}

impl From<RemovalCause> for EvictionCause {
    fn from(cause: RemovalCause) -> Self {
        match cause {
            RemovalCause::Size => Self::Capacity,
            RemovalCause::Expired => Self::Expired,
            RemovalCause::Replaced => Self::Replaced,
            RemovalCause::Explicit => Self::Explicit,
        }
    }
}

/// The size of a cache, at each tick; of [`CacheMetrics::moka_source`].
pub struct MokaSource<K, V, S> {
    metrics: CacheMetrics,
    cache: Cache<K, V, S>,
    weighs_bytes: bool,
}

impl<K, V, S> MokaSource<K, V, S> {
    /// The weigher of the cache answers in bytes, so that its weighted size is told too. Without a weigher each entry
    /// weighs 1.
    #[must_use]
    pub fn weighs_bytes(mut self) -> Self {
        self.weighs_bytes = true;
        self
    }
}

impl<K, V, S> Source for MokaSource<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    fn tick(&mut self, _now: Instant) {
        self.cache.run_pending_tasks();
        self.metrics.set_entries(self.cache.entry_count());
        if self.weighs_bytes {
            self.metrics.set_bytes(self.cache.weighted_size());
        }
    }
}

impl<K, V, S> fmt::Debug for MokaSource<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaSource").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}
