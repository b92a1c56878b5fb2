use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::config::MetricsConfig;
use super::family::{Family, FamilyCore};
use super::instrument::{Counter, Gauge, Histogram, Instrument, TimeCounter, Timer, UpDownCounter};
use super::measure::Measure;
use super::performance::{self, Performance};
use super::requests::{Requests, Side};
use super::snapshot::{self, Overflowed, Snapshot};
use super::source::Unwrapped;
use super::table::{self, Table};
use super::ticker;
use super::windows::{WindowUsage, Windows};
use crate::clock::{self, Instant};

/// Families that one registry may have: names are the program's, so that more would be a mistake of it.
const MAX_FAMILIES: usize = 4096;

/// Every metric of a service. Clones share everything.
///
/// See the [module](crate::metrics) for an example.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

/// Whether a registry is still there, and which it is.
#[derive(Clone)]
pub(super) struct WeakRegistry(Weak<Inner>);

impl WeakRegistry {
    pub(super) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }

    pub(super) fn is(&self, registry: &Registry) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&registry.0))
    }

    pub(super) fn upgrade(&self) -> Option<Registry> {
        self.0.upgrade().map(Registry)
    }
}

struct Inner {
    config: MetricsConfig,
    started_unix_nanos: u64,
    families: Table<Arc<str>, Arc<FamilyCore>>,
    windows: Arc<Windows>,
    server: OnceLock<Arc<Requests>>,
    client: OnceLock<Arc<Requests>>,
    unwrapped: Arc<Unwrapped>,
    /// Held while they are asked: a tick that returns has asked every one.
    sources: Mutex<Vec<Box<dyn Source>>>,
    /// Apart, so that a source may add another one.
    added: Mutex<Vec<Box<dyn Source>>>,
    /// Of this crate: cheap enough to be asked by every reader, and changing too fast to be told at a tick.
    live: Mutex<Vec<Box<dyn Source>>>,
    conflicts: Mutex<Vec<String>>,
}

/// Something that knows numbers of its own, and is asked for them at each tick; never at a scrape.
///
/// Closures are sources.
///
/// ```
/// use buttress::metrics::Registry;
///
/// let registry = Registry::new();
/// let depth = registry.gauge("jobs.waiting").unit("{job}").with(());
/// let jobs = std::sync::Arc::new(std::sync::Mutex::new(vec!["one", "two"]));
/// registry.add_source(move |_now| depth.set(jobs.lock().unwrap().len() as f64));
/// registry.tick();
/// assert_eq!(registry.gauge("jobs.waiting").with(()).value(), 2.0);
/// ```
pub trait Source: Send {
    /// Puts the numbers of now into instruments.
    fn tick(&mut self, now: Instant);
}

impl<F: FnMut(Instant) + Send> Source for F {
    fn tick(&mut self, now: Instant) {
        self(now);
    }
}

impl Registry {
    /// With the default bounds.
    pub fn new() -> Self {
        Self::with_config(MetricsConfig::default())
    }

    /// With these bounds.
    pub fn with_config(config: MetricsConfig) -> Self {
        let windows = Windows::new(config.span, config.precision, config.window_budget);
        Self(Arc::new(Inner {
            started_unix_nanos: clock::unix_nanos(clock::now()),
            families: Table::new(MAX_FAMILIES),
            windows: Arc::new(windows),
            server: OnceLock::new(),
            client: OnceLock::new(),
            unwrapped: Arc::default(),
            sources: Mutex::default(),
            added: Mutex::default(),
            live: Mutex::default(),
            conflicts: Mutex::default(),
            config,
        }))
    }

    /// A sum that only rises.
    pub fn counter(&self, name: &str) -> Family<Counter> {
        self.family(name)
    }

    /// A sum of time that only rises.
    pub fn time_counter(&self, name: &str) -> Family<TimeCounter> {
        self.family(name)
    }

    /// A sum that rises and falls.
    pub fn up_down_counter(&self, name: &str) -> Family<UpDownCounter> {
        self.family(name)
    }

    /// The latest value.
    pub fn gauge(&self, name: &str) -> Family<Gauge> {
        self.family(name)
    }

    /// Counts of whole numbers in buckets.
    pub fn histogram(&self, name: &str) -> Family<Histogram> {
        self.family(name)
    }

    /// Counts of durations in buckets.
    pub fn timer(&self, name: &str) -> Family<Timer> {
        self.family(name)
    }

    /// Asks this for its numbers at each tick.
    pub fn add_source(&self, source: impl Source + 'static) {
        self.added().push(Box::new(source));
    }

    /// Ticks every ten seconds, or as often as [`MetricsConfig::span`] says, from a thread that all registries of the
    /// process share, as long as the registry is there. `Telemetry` has it done.
    pub fn start_ticking(&self) {
        ticker::keep(self);
    }

    /// Adds a source that is asked whenever somebody reads.
    #[cfg(any(feature = "circuit-breaker", feature = "retry"))]
    pub(crate) fn add_live_source(&self, source: impl Source + 'static) {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Asks the sources and moves the windows on. Not for a source to call: it would wait for itself.
    pub fn tick(&self) {
        self.tick_at(clock::now());
    }

    /// As [`tick`](Self::tick), at another time than now: for tests and simulations.
    pub fn tick_at(&self, now: Instant) {
        clock::resync();
        let mut sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.append(&mut self.added());
        ask(&mut sources, now);
        drop(sources);
        self.0.windows.tick(now);
    }

    /// Every number there is now.
    pub fn snapshot(&self) -> Snapshot {
        ask(&mut self.0.live.lock().unwrap_or_else(PoisonError::into_inner), clock::now());
        let mut families: Vec<_> = self.0.families.iter().map(|(_, family)| family.snapshot()).collect();
        let mut overflowed: Vec<Overflowed> =
            self.0.families.iter().filter_map(|(_, family)| family.overflowed()).collect();
        for requests in [&self.0.server, &self.0.client].into_iter().filter_map(OnceLock::get) {
            families.extend(requests.families());
            overflowed.extend(requests.overflowed());
        }
        let windows = self.window_usage();
        families.extend(snapshot::own(&overflowed, &windows));
        families.retain(|family| !family.series.is_empty());
        families.sort_by(|one, other| one.name.cmp(&other.name));
        overflowed.sort_by(|one, other| one.metric.cmp(&other.metric));
        Snapshot {
            start_unix_nanos: self.0.started_unix_nanos,
            unix_nanos: clock::unix_nanos(clock::now()),
            families,
            overflowed,
            conflicts: self.0.conflicts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            windows,
        }
    }

    /// How the requests that were served have done in the last minutes.
    pub fn performance(&self) -> Performance {
        self.performance_of(&self.0.server)
    }

    /// How the requests that were sent have done in the last minutes.
    pub fn client_performance(&self) -> Performance {
        self.performance_of(&self.0.client)
    }

    fn performance_of(&self, requests: &OnceLock<Arc<Requests>>) -> Performance {
        let of = |requests: &Arc<Requests>| performance::of(requests, self.0.config.apdex_target, clock::now());
        requests.get().map(of).unwrap_or_default()
    }

    /// Memory of the sliding windows.
    pub fn window_usage(&self) -> WindowUsage {
        self.0.windows.usage()
    }

    /// For who has to end with the registry, and must not keep it.
    pub(super) fn downgrade(&self) -> WeakRegistry {
        WeakRegistry(Arc::downgrade(&self.0))
    }

    /// Of durations that have none of their own, in seconds.
    pub(super) fn duration_bounds(&self) -> Arc<[f64]> {
        Measure::Time.bounds(&self.0.config.duration_buckets)
    }

    pub(super) fn tick_interval(&self) -> Duration {
        self.0.config.span.tick()
    }

    pub(super) fn requests(&self, side: Side) -> &Arc<Requests> {
        let inner = &*self.0;
        let of = match side {
            Side::Server => &inner.server,
            Side::Client => &inner.client,
        };
        of.get_or_init(|| Arc::new(Requests::new(side, &inner.config, &inner.windows)))
    }

    pub(super) fn unwrapped(&self) -> &Arc<Unwrapped> {
        &self.0.unwrapped
    }

    fn family<I: Instrument>(&self, name: &str) -> Family<I> {
        let make = || Arc::new(FamilyCore::new(name, I::KIND, I::MEASURE, &self.0.config, &self.0.windows));
        let same = |known: &Arc<str>| **known == *name;
        let found = self.0.families.find_or_make(table::hash_of(name), same, |_| (name.into(), make()));
        match found {
            Some(core) if core.is(I::KIND, I::MEASURE) => Family::new(Arc::clone(core)),
            // Counting must not fail, and must not count apples as pears: this one is counted where nobody looks.
            _ => {
                self.note_conflict(name);
                Family::new(make())
            }
        }
    }

    #[cold]
    fn note_conflict(&self, name: &str) {
        let mut conflicts = self.0.conflicts.lock().unwrap_or_else(PoisonError::into_inner);
        if conflicts.len() < 16 && !conflicts.iter().any(|known| known == name) {
            conflicts.push(name.to_owned());
        }
    }

    fn added(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Source>>> {
        self.0.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that panics must not end the thread that ticks for everybody, nor a scrape.
fn ask(sources: &mut [Box<dyn Source>], now: Instant) {
    for source in sources {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| source.tick(now)));
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("config", &self.0.config).finish_non_exhaustive()
    }
}
