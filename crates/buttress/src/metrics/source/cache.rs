use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::hit_ratio::{Gets, HitRatio};
use super::totals::CacheStats;
use crate::clock;
use crate::metrics::{Counter, Family, Gauge, Instrument, Registry, Timed, Timer};

pub(super) const NAME: &str = "cache.name";
pub(super) const GETS: &str = "cache.gets";
pub(super) const RESULT: &str = "cache.result";
pub(super) const HIT: &str = "hit";
pub(super) const MISS: &str = "miss";
pub(super) const PUTS: &str = "cache.puts";
pub(super) const EVICTIONS: &str = "cache.evictions";
pub(super) const CAUSE: &str = "cache.eviction.cause";
pub(super) const ENTRIES: &str = "cache.entries";
pub(super) const SIZE: &str = "cache.size";

/// What a cache is measured by, whichever it is. Make it once for each cache; clones share everything.
///
/// | metric | kind | labels beside `cache.name` |
/// |---|---|---|
/// | `cache.gets` | counter | `cache.result`: `hit`, `miss` |
/// | `cache.puts` | counter | |
/// | `cache.evictions` | counter | `cache.eviction.cause`: [`EvictionCause`] |
/// | `cache.hit_ratio` | gauge, 0 to 1 | |
/// | `cache.entries` | gauge | |
/// | `cache.size` | gauge, bytes | |
/// | `cache.load.duration` | timer | |
///
/// `cache.hit_ratio` is that of the last five minutes, as of the latest [tick](Registry::tick), and not a number when
/// nobody asked in them: 0 would look like a cache that never hits. The ratio since the start is in
/// [`stats`](Self::stats), and follows from `cache.gets`. The last three metrics are there as soon as somebody tells
/// them: a size of 0 that nobody measured would be a lie.
///
/// Counting takes no lock and allocates nothing.
///
/// ```
/// use buttress::metrics::Registry;
/// use buttress::metrics::source::{CacheMetrics, EvictionCause};
///
/// let registry = Registry::new();
/// let sessions = CacheMetrics::new(&registry, "sessions");
/// sessions.miss();
/// let loading = sessions.start_load();
/// // ... ask the database ...
/// drop(loading);
/// sessions.put();
/// sessions.hit();
/// sessions.evicted(EvictionCause::Expired);
/// sessions.set_entries(0);
/// let stats = sessions.stats();
/// assert_eq!((stats.hits, stats.misses, stats.evictions), (1, 1, 1));
/// assert_eq!((stats.entries, stats.bytes), (Some(0), None));
/// ```
#[derive(Clone)]
pub struct CacheMetrics(Arc<Inner>);

struct Inner {
    name: Box<str>,
    hits: Counter,
    misses: Counter,
    puts: Counter,
    evictions: [Counter; EvictionCause::ALL.len()],
    hit_ratio: Gauge,
    entries: WhenTold<Gauge>,
    size: WhenTold<Gauge>,
    load: WhenTold<Timer>,
}

/// Why an entry is no longer in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictionCause {
    /// The cache was full.
    Capacity,
    /// Its time was over.
    Expired,
    /// It was overwritten.
    Replaced,
    /// Somebody removed it.
    Explicit,
}

impl EvictionCause {
    pub(super) const ALL: [Self; 4] = [Self::Capacity, Self::Expired, Self::Replaced, Self::Explicit];

    /// The value of the label `cache.eviction.cause`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Explicit => "explicit",
        }
    }

    /// Whether the cache itself gave the entry up: what [`CacheStats::evictions`] counts.
    pub const fn is_by_cache(self) -> bool {
        matches!(self, Self::Capacity | Self::Expired)
    }
}

impl CacheMetrics {
    /// Of the cache with this name. Two of the same name count into the same series.
    pub fn new(registry: &Registry, name: &str) -> Self {
        let of_cache = [(NAME, name)];
        let gets = registry.counter(GETS).unit("{get}").description("Lookups in a cache");
        let evictions = registry.counter(EVICTIONS).unit("{entry}").description("Entries that left a cache");
        let ratio =
            registry.gauge("cache.hit_ratio").unit("1").description("Hits among the gets of the last 5 minutes");
        let puts = registry.counter(PUTS).unit("{entry}").description("Entries that were put into a cache");
        let entries = registry.gauge(ENTRIES).unit("{entry}").description("Entries in a cache");
        let size = registry.gauge(SIZE).unit("By").description("Size of the entries in a cache");
        let load = registry.timer("cache.load.duration").description("How long it took to load what a cache missed");
        let inner = Arc::new(Inner {
            name: name.into(),
            hits: gets.with([(NAME, name), (RESULT, HIT)]),
            misses: gets.with([(NAME, name), (RESULT, MISS)]),
            puts: puts.with(of_cache),
            evictions: EvictionCause::ALL.map(|cause| evictions.with([(NAME, name), (CAUSE, cause.as_str())])),
            hit_ratio: ratio.with(of_cache),
            entries: WhenTold::new(entries),
            size: WhenTold::new(size),
            load: WhenTold::new(load),
        });
        inner.keep_ratio(registry);
        Self(inner)
    }

    /// Somebody asked, and it was there.
    pub fn hit(&self) {
        self.0.hits.add(1);
    }

    /// Somebody asked, and it was not there.
    pub fn miss(&self) {
        self.0.misses.add(1);
    }

    /// Counts a hit for something and a miss for nothing, and hands it on: `metrics.lookup(cache.get(&key))`.
    pub fn lookup<T>(&self, found: Option<T>) -> Option<T> {
        match found {
            Some(_) => self.hit(),
            None => self.miss(),
        }
        found
    }

    /// An entry was put in.
    pub fn put(&self) {
        self.0.puts.add(1);
    }

    /// An entry is no longer there.
    pub fn evicted(&self, cause: EvictionCause) {
        self.0.evictions[cause as usize].add(1);
    }

    /// How many entries there are now.
    pub fn set_entries(&self, entries: u64) {
        self.0.entries.of(&self.0.name).set(entries as f64);
    }

    /// How large they are together, in bytes.
    pub fn set_bytes(&self, bytes: u64) {
        self.0.size.of(&self.0.name).set(bytes as f64);
    }

    /// Loading what was missing took this long.
    pub fn load(&self, duration: Duration) {
        self.0.load.of(&self.0.name).record(duration);
    }

    /// Counts the time until the guard is dropped as that of a load, however it ends.
    #[must_use = "the load ends when the guard is dropped"]
    pub fn start_load(&self) -> Timed {
        self.0.load.of(&self.0.name).start()
    }

    /// The numbers of now.
    pub fn stats(&self) -> CacheStats {
        let gets = self.0.gets();
        let by_cache = EvictionCause::ALL.iter().filter(|cause| cause.is_by_cache());
        let number = |told: &WhenTold<Gauge>| told.handle.get().map(|gauge| gauge.value() as u64);
        CacheStats {
            hits: gets.hits,
            misses: gets.misses,
            evictions: by_cache.map(|cause| self.0.evictions[*cause as usize].value()).sum(),
            hit_ratio: gets.ratio(),
            entries: number(&self.0.entries),
            bytes: number(&self.0.size),
        }
    }
}

impl Inner {
    fn gets(&self) -> Gets {
        Gets { hits: self.hits.value(), misses: self.misses.value() }
    }

    /// Keeps the gauge up to date for as long as anybody can count.
    fn keep_ratio(self: &Arc<Self>, registry: &Registry) {
        let mut window = HitRatio::new(clock::now(), self.gets());
        self.hit_ratio.set(f64::NAN);
        let cache = Arc::downgrade(self);
        registry.add_source(move |now| {
            if let Some(cache) = cache.upgrade() {
                cache.hit_ratio.set(window.tick(now, cache.gets()).unwrap_or(f64::NAN));
            }
        });
    }
}

impl fmt::Debug for CacheMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMetrics").field("name", &self.0.name).field("stats", &self.stats()).finish()
    }
}

/// An instrument whose series is made when it is first used.
struct WhenTold<I> {
    family: Family<I>,
    handle: OnceLock<I>,
}

impl<I: Instrument> WhenTold<I> {
    fn new(family: Family<I>) -> Self {
        Self { family, handle: OnceLock::new() }
    }

    fn of(&self, name: &str) -> &I {
        self.handle.get_or_init(|| self.family.with([(NAME, name)]))
    }
}
