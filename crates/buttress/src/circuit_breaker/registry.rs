//! A circuit for each host, route or tenant, as many as there may be.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{Circuit, CircuitConfig};
use crate::clock::{self, Instant};
use crate::signal::Signals;

/// Longer keys have no circuit of their own: they are no names of anything.
const MAX_KEY: usize = 256;
/// How often circuits that are not used any more are looked for, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// Circuits of one name, one for each key. Clones share them.
///
/// A circuit is made when its key is first asked for. Beyond `max_circuits` those that have not been used for
/// `idle` make room, the longest unused first; while none has, calls with new keys share one circuit whose key is
/// [`Circuits::OVERFLOW`].
///
/// ```
/// use buttress::circuit_breaker::{CircuitConfig, Circuits};
///
/// let circuits = Circuits::new("shards", CircuitConfig::default()).max_circuits(100);
/// circuits.get("eu-1").force_open("moves house", None);
/// assert!(!circuits.get("eu-1").is_available());
/// assert!(circuits.get("eu-2").is_available());
/// ```
#[derive(Clone)]
pub struct Circuits {
    name: Arc<str>,
    configure: Arc<dyn Fn(&str) -> CircuitConfig + Send + Sync>,
    signals: Option<Signals>,
    max_circuits: usize,
    idle: Duration,
    shared: Arc<Shared>,
}

struct Shared {
    known: papaya::HashMap<Arc<str>, Entry, RandomState>,
    /// Entries that are there or about to be.
    reserved: AtomicUsize,
    evicted: AtomicU64,
    overflow: std::sync::OnceLock<Circuit>,
    origin: Instant,
    /// Milliseconds after the origin at which the next sweep is due.
    next_sweep: AtomicU64,
}

struct Entry {
    circuit: Circuit,
    /// Milliseconds after the origin, to a second.
    used: AtomicU64,
}

impl Circuits {
    /// The key of the circuit that keys without one of their own share.
    pub const OVERFLOW: &str = "_OTHER";

    /// Circuits that are configured alike.
    pub fn new(name: impl Into<Arc<str>>, config: CircuitConfig) -> Self {
        Self::configured(name, move |_| config.clone())
    }

    /// Circuits that are configured by their key.
    pub fn configured(
        name: impl Into<Arc<str>>,
        configure: impl Fn(&str) -> CircuitConfig + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            known: papaya::HashMap::with_hasher(RandomState::default()),
            reserved: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            overflow: std::sync::OnceLock::new(),
            origin: clock::now(),
            next_sweep: AtomicU64::new(0),
        };
        Self {
            name: name.into(),
            configure: Arc::new(configure),
            signals: None,
            max_circuits: 1000,
            idle: Duration::from_secs(600),
            shared: Arc::new(shared),
        }
    }

    /// How many there may be at once; 1,000 by default.
    #[must_use]
    pub fn max_circuits(mut self, max_circuits: usize) -> Self {
        self.max_circuits = max_circuits;
        self
    }

    /// How long a circuit has to be unused before it may make room; 10 minutes by default.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Tells the transitions of circuits that are made from now on.
    #[must_use]
    pub fn signals(mut self, signals: Signals) -> Self {
        self.signals = Some(signals);
        self
    }

    /// The name of all of them.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The circuit of this key.
    pub fn get(&self, key: &str) -> Circuit {
        self.visit(key, clock::now(), Circuit::clone)
    }

    /// Every circuit there is, with that of the overflow.
    pub fn all(&self) -> Vec<Circuit> {
        let known = self.shared.known.pin();
        known.values().map(|entry| entry.circuit.clone()).chain(self.shared.overflow.get().cloned()).collect()
    }

    /// How many circuits have made room for others.
    pub fn evicted(&self) -> u64 {
        self.shared.evicted.load(Relaxed)
    }

    /// Shows the circuit of this key, which is made if there is none.
    pub(super) fn visit<T>(&self, key: &str, now: Instant, work: impl FnOnce(&Circuit) -> T) -> T {
        let known = self.shared.known.pin();
        let now = self.shared.millis(now);
        let entry = match known.get(key) {
            Some(entry) => entry,
            None => match self.make(key, now, &known) {
                Some(entry) => entry,
                None => return work(self.overflow()),
            },
        };
        // Not at each call: whoever writes takes the cache line from those who read the circuit.
        if now.saturating_sub(entry.used.load(Relaxed)) >= 1000 {
            entry.used.store(now, Relaxed);
        }
        work(&entry.circuit)
    }

    #[cold]
    fn make<'a>(&self, key: &str, now: u64, known: &'a Pinned<'_>) -> Option<&'a Entry> {
        if key.len() > MAX_KEY {
            return None;
        }
        self.sweep(now, known);
        let shared = &*self.shared;
        if shared.reserved.fetch_add(1, Relaxed) >= self.max_circuits {
            shared.reserved.fetch_sub(1, Relaxed);
            return None;
        }
        let text: Arc<str> = key.into();
        let circuit = self.circuit(&text, (self.configure)(key));
        match known.try_insert(text, Entry { circuit, used: AtomicU64::new(now) }) {
            Ok(entry) => Some(entry),
            // Somebody else was faster.
            Err(occupied) => {
                shared.reserved.fetch_sub(1, Relaxed);
                Some(occupied.current)
            }
        }
    }

    /// Makes room, if there is need of it and it has not just been tried.
    fn sweep(&self, now: u64, known: &Pinned<'_>) {
        let shared = &*self.shared;
        let due = shared.next_sweep.load(Relaxed);
        let next = now + SWEEP.as_millis() as u64;
        let is_full = shared.reserved.load(Relaxed) >= self.max_circuits;
        if !is_full || now < due || shared.next_sweep.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return;
        }
        let idle = u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX);
        let unused_for = |entry: &Entry| now.saturating_sub(entry.used.load(Relaxed));
        let mut unused: Vec<_> = known
            .iter()
            .filter(|(_, entry)| unused_for(entry) >= idle)
            .map(|(key, entry)| (unused_for(entry), Arc::clone(key)))
            .collect();
        unused.sort_unstable_by(|one, other| other.cmp(one));
        // Room for a while, and not only for this one.
        for (_, key) in unused.into_iter().take(self.max_circuits.div_ceil(10)) {
            if known.remove(&key).is_some() {
                shared.reserved.fetch_sub(1, Relaxed);
                shared.evicted.fetch_add(1, Relaxed);
            }
        }
    }

    fn overflow(&self) -> &Circuit {
        self.shared.overflow.get_or_init(|| self.circuit(&Self::OVERFLOW.into(), (self.configure)(Self::OVERFLOW)))
    }

    fn circuit(&self, key: &Arc<str>, config: CircuitConfig) -> Circuit {
        let circuit = Circuit::keyed(Arc::clone(&self.name), Some(Arc::clone(key)), config);
        match &self.signals {
            Some(signals) => circuit.with_signals(signals.clone()),
            None => circuit,
        }
    }
}

type Pinned<'a> = papaya::HashMapRef<'a, Arc<str>, Entry, RandomState, papaya::LocalGuard<'a>>;

impl Shared {
    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX / 2)
    }
}

impl fmt::Debug for Circuits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuits")
            .field("name", &self.name)
            .field("circuits", &self.shared.known.len())
            .finish_non_exhaustive()
    }
}
