//! Whether something can be reached: judged by what comes of real calls and by asking, never by a flag of the system.
//!
//! ```
//! use buttress_queue::Connectivity;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let backend = Connectivity::new("backend", async || tokio::net::TcpStream::connect("127.0.0.1:9").await.is_ok());
//! assert!(backend.is_online());
//! for _ in 0..3 {
//!     backend.unreachable();
//! }
//! assert!(!backend.is_online());
//! # }
//! ```

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::signal::{Signal, Signals};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

type Probe = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;
type IsUnreachable = Arc<dyn Fn(&(dyn StdError + 'static)) -> bool + Send + Sync>;

/// Whether something can be reached; clones are the same.
///
/// It goes offline after three calls in a row that reached nobody, and online again after two in a row that reached
/// somebody, probes among them: one lucky call in an outage changes nothing, and neither does one unlucky one.
#[derive(Clone)]
pub struct Connectivity {
    shared: Arc<Shared>,
    is_unreachable: IsUnreachable,
    signals: Option<Signals>,
    every: Duration,
    ramp: Duration,
}

struct Shared {
    name: Arc<str>,
    probe: Probe,
    state: Mutex<State>,
    online: watch::Sender<bool>,
    /// Of whoever asks the probe: one for all, however many workers there are.
    probing: tokio::sync::Mutex<()>,
}

struct State {
    /// Calls in a row that say the other than what is believed.
    against: u32,
    /// Since when it is online again.
    back: Option<Instant>,
}

/// What the system says when nobody was reached.
const UNREACHABLE: [ErrorKind; 8] = [
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::ConnectionAborted,
    ErrorKind::TimedOut,
    ErrorKind::HostUnreachable,
    ErrorKind::NetworkUnreachable,
    ErrorKind::NetworkDown,
    ErrorKind::NotConnected,
];

/// Calls in a row that make it offline, and online again.
const OFFLINE_AFTER: u32 = 3;
const ONLINE_AFTER: u32 = 2;

impl Connectivity {
    /// Online until something else is found out; the probe says whether somebody can be reached, and is asked by workers
    /// while offline. One that panics has reached nobody.
    pub fn new<P, F>(name: impl Into<Arc<str>>, probe: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = bool> + Send + 'static,
    {
        let shared = Shared {
            name: name.into(),
            probe: Box::new(move || Box::pin(probe())),
            state: Mutex::new(State { against: 0, back: None }),
            online: watch::Sender::new(true),
            probing: tokio::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            is_unreachable: Arc::new(says_unreachable),
            signals: None,
            every: Duration::from_secs(2),
            ramp: Duration::from_secs(10),
        }
    }

    /// Tells changes there.
    #[must_use]
    pub fn signals(mut self, signals: &Signals) -> Self {
        self.signals = Some(signals.clone());
        self
    }

    /// How often the probe is asked while offline, and how long it may take. 2 s by default.
    #[must_use]
    pub const fn probe_every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// For how long workers hold back once it is online again. 10 s by default; zero for not at all.
    #[must_use]
    pub const fn ramp(mut self, ramp: Duration) -> Self {
        self.ramp = ramp;
        self
    }

    /// Which errors say that nobody was reached. By default those with an `io::Error` among their sources that says so:
    /// connections refused, reset, aborted or timed out, networks and hosts unreachable.
    #[must_use]
    pub fn unreachable_when(
        mut self,
        says: impl Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.is_unreachable = Arc::new(says);
        self
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Whether it can be reached, as far as is known.
    pub fn is_online(&self) -> bool {
        *self.shared.online.borrow()
    }

    /// Every change from now on, with what is true now as the first value.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.shared.online.subscribe()
    }

    /// A call reached somebody, whatever the answer was.
    pub fn reached(&self) {
        self.heard(true);
    }

    /// A call reached nobody.
    pub fn unreachable(&self) {
        self.heard(false);
    }

    /// Whether this error says that nobody was reached.
    pub fn is_unreachable(&self, error: &(dyn StdError + 'static)) -> bool {
        (self.is_unreachable)(error)
    }

    fn heard(&self, reached: bool) {
        let mut state = self.state();
        if reached == self.is_online() {
            state.against = 0;
            return;
        }
        state.against += 1;
        if state.against < if reached { ONLINE_AFTER } else { OFFLINE_AFTER } {
            return;
        }
        state.against = 0;
        state.back = reached.then(Instant::now);
        self.shared.online.send_replace(reached);
        if let Some(signals) = &self.signals {
            signals.send(Signal::Connectivity { name: Arc::clone(&self.shared.name), online: reached });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves as soon as it is online.
    pub async fn online(&self) {
        // The sender lives in here.
        let _ = self.watch().wait_for(|online| *online).await;
    }

    /// How many calls of `most` there may be at a time: one when it has just come back, all of them after the ramp.
    pub(crate) fn allowance(&self, most: usize) -> usize {
        let Some(back) = self.state().back else { return most };
        let since = back.elapsed();
        if since >= self.ramp {
            self.state().back = None;
            return most;
        }
        let share = since.as_secs_f64() / self.ramp.as_secs_f64();
        1 + ((most.saturating_sub(1)) as f64 * share) as usize
    }

    /// Asks the probe for as long as it is offline, each time that it is.
    pub(crate) async fn probe_for_ever(&self) {
        // Dropped with the worker that asks; another one takes over.
        let _asking = self.shared.probing.lock().await;
        let mut online = self.watch();
        while online.wait_for(|online| !*online).await.is_ok() {
            sleep(self.every).await;
            self.heard(self.probe().await);
        }
    }

    /// Whether the probe reached somebody in time. On a task of its own, where a panic stays: it has reached nobody.
    async fn probe(&self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut asking = JoinSet::new();
        asking.spawn(async move { (shared.probe)().await });
        matches!(timeout(self.every, asking.join_next()).await, Ok(Some(Ok(true))))
    }
}

impl fmt::Debug for Connectivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectivity")
            .field("name", self.name())
            .field("online", &self.is_online())
            .finish_non_exhaustive()
    }
}

fn says_unreachable(error: &(dyn StdError + 'static)) -> bool {
    let by_itself = error.downcast_ref::<io::Error>().is_some_and(|error| {
        // What such an error is made of is none of its sources.
        UNREACHABLE.contains(&error.kind()) || error.get_ref().is_some_and(|inside| says_unreachable(inside))
    });
    by_itself || error.source().is_some_and(says_unreachable)
}
