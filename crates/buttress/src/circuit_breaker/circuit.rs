//! The handle that services and operators hold.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::config::CircuitConfig;
use super::core::{Core, Role, to_millis};
use super::permit::{CallError, CallResult, Permit, Rejected, Ticket};
use super::state::{NEVER, Phase, Status};
use super::transition::{Reason, State, Transition};
use crate::clock::{self, Instant};
use crate::shard::{Shard, Sharded};
use crate::signal::{Listener, Signal, Signals};

/// Lets calls pass, or rejects them, by what came of those before. Clones are handles of the same circuit.
///
/// The [module](crate::circuit_breaker) says how it decides.
#[derive(Clone)]
pub struct Circuit(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
    tickets: Sharded<Arc<Ticket>>,
}

impl Circuit {
    /// Closed.
    pub fn new(name: impl Into<Arc<str>>, config: CircuitConfig) -> Self {
        Self::keyed(name.into(), None, config)
    }

    /// One of those of that name.
    pub(crate) fn keyed(name: Arc<str>, key: Option<Arc<str>>, config: CircuitConfig) -> Self {
        let core = Arc::new(Core::new(name, key, config, clock::now()));
        Self(Arc::new(Handle { core, tickets: Sharded::new() }))
    }

    /// Tells its transitions there too; for all its clones.
    #[must_use]
    pub fn with_signals(self, signals: Signals) -> Self {
        self.core().log().signals = Some(signals);
        self
    }

    /// Lets a call pass, or says when to come again.
    ///
    /// While the circuit is closed this is two loads and a count of the thread's own.
    ///
    /// # Errors
    ///
    /// [`Rejected`] when the call is not to be made.
    // Always, because what it returns is large where it is refused.
    #[inline(always)]
    pub fn admit(&self, now: Instant) -> Result<Permit, Rejected> {
        let shard = Shard::mine();
        let micros = self.core().micros(now);
        match self.core().admit(shard, micros) {
            Some(generation) => Ok(Permit::new(Arc::clone(self.ticket(shard)), (Role::Counted, generation), micros)),
            None => self.admit_with_care(shard, micros),
        }
    }

    #[cold]
    fn admit_with_care(&self, shard: Shard, micros: u64) -> Result<Permit, Rejected> {
        match self.core().admit_with_care(shard, micros / 1000) {
            Ok(admitted) => Ok(Permit::new(Arc::clone(self.ticket(shard)), admitted, micros)),
            Err((wait, because)) => Err(self.ticket(shard).rejected(wait, because)),
        }
    }

    /// Makes a call if it may be made, and reports what `judge` makes of its result.
    ///
    /// The call is not begun before this is awaited; dropped while it is under way, it counts as cancelled.
    ///
    /// # Errors
    ///
    /// [`Rejected`] when the call was not made.
    pub async fn run<F: Future>(
        &self,
        call: impl FnOnce() -> F,
        judge: impl FnOnce(&F::Output) -> CallResult,
    ) -> Result<F::Output, Rejected> {
        let permit = self.admit(clock::now())?;
        let output = call().await;
        permit.report(judge(&output), clock::now());
        Ok(output)
    }

    /// Makes a call if it may be made; each of its errors is a failure.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the call was not made, or failed.
    pub async fn call<F, T, E>(&self, call: impl FnOnce() -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let judge = |result: &Result<T, E>| if result.is_ok() { CallResult::Ok } else { CallResult::FAILED };
        match self.run(call, judge).await {
            Ok(result) => result.map_err(CallError::Failed),
            Err(rejected) => Err(CallError::Rejected(rejected)),
        }
    }

    /// What it does with calls now.
    pub fn state(&self) -> State {
        self.settled().phase.state()
    }

    /// Whose circuit it is.
    pub fn name(&self) -> &Arc<str> {
        &self.core().name
    }

    /// Which one of those of that name, where there is one for each host, route or tenant.
    pub fn key(&self) -> Option<&Arc<str>> {
        self.core().key.as_ref()
    }

    /// What it was told.
    pub fn config(&self) -> &CircuitConfig {
        &self.core().config
    }

    /// Rejects every call until [released](Self::release), for so long at most.
    pub fn force_open(&self, reason: impl Into<Arc<str>>, lasts: Option<Duration>) {
        self.force(Phase::ForcedOpen, reason, lasts);
    }

    /// Lets every call pass, whatever comes of it, until [released](Self::release), for so long at most.
    pub fn force_closed(&self, reason: impl Into<Arc<str>>, lasts: Option<Duration>) {
        self.force(Phase::ForcedClosed, reason, lasts);
    }

    /// Does nothing until [released](Self::release), for so long at most.
    pub fn disable(&self, reason: impl Into<Arc<str>>, lasts: Option<Duration>) {
        self.force(Phase::Disabled, reason, lasts);
    }

    /// Ends what was forced: the circuit is closed with an empty window, after being open by a ramp. If nothing is
    /// forced, ends that it [only observes](Self::observe_only): the circuit stays in its state, and rejects. Does nothing
    /// if it does not.
    pub fn release(&self, reason: impl Into<Arc<str>>) {
        let (core, now, reason) = (self.core(), self.now(), reason.into());
        // What is over needs no release, and takes none from what is not.
        core.settled(now);
        let forced = Reason::Forced(Arc::clone(&reason));
        if !core.change(now, &forced, |status, rules| status.phase.is_forced().then(|| status.release(now, rules))) {
            core.enforce(reason, now);
        }
    }

    /// Closed, as if new; what was counted stays counted, and who [only observes](Self::observe_only) still does.
    pub fn reset(&self, reason: impl Into<Arc<str>>) {
        self.core().change(self.now(), &Reason::Reset(reason.into()), |status, _| Some(status.reset()));
    }

    /// Hears its transitions from now on.
    pub fn watch(&self) -> Watch {
        Watch(self.core().watchers.get_or_init(Signals::new).subscribe())
    }

    fn force(&self, phase: Phase, reason: impl Into<Arc<str>>, lasts: Option<Duration>) {
        let now = self.now();
        let until = lasts.map_or(NEVER, |lasts| now.saturating_add(to_millis(lasts)));
        self.core().change(now, &Reason::Forced(reason.into()), |status, _| Some(status.force(phase, until)));
    }

    pub(super) fn core(&self) -> &Core {
        &self.0.core
    }

    pub(super) fn now(&self) -> u64 {
        self.core().millis(clock::now())
    }

    fn settled(&self) -> Status {
        self.core().settled(self.now())
    }

    #[cold]
    #[inline]
    fn ticket(&self, shard: Shard) -> &Arc<Ticket> {
        let Handle { core, tickets } = &*self.0;
        let copy = |text: &Arc<str>| Arc::from(&**text);
        tickets.of(shard, || {
            Arc::new(Ticket { core: Arc::clone(core), name: copy(&core.name), key: core.key.as_ref().map(copy) })
        })
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Circuit");
        debug.field("name", self.name());
        if let Some(key) = self.key() {
            debug.field("key", key);
        }
        debug.field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Hears the transitions of a circuit; of [`Circuit::watch`].
#[derive(Debug)]
pub struct Watch(Listener);

impl Watch {
    /// The next transition; `None` when there is no handle of the circuit left.
    ///
    /// A listener that falls behind by 256 misses the oldest. Can be cancelled without a loss.
    pub async fn next(&mut self) -> Option<Transition> {
        loop {
            if let Signal::Circuit(transition) = self.0.next().await? {
                return Some(transition);
            }
        }
    }
}
