//! The flows that were started here and have not ended.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::state::{FlowState, Here};
use super::{FLOW_ID, FLOW_NAME, Flow, FlowEnd, FlowId};
use crate::clock::{self, Instant};
use crate::context::{self, Baggage};
use crate::trace::operation::{Core, Operation, Place, Work};
use crate::trace::{Sampler, Spans};

/// Longer names of flows that came from elsewhere are not believed.
const LONGEST_NAME: usize = 64;

/// The flows of a process. Clones share everything.
///
/// Only [`start`](Self::start) adds one, at most [`capacity`](Self::capacity) are open, and none stays open longer than
/// [`expire_after`](Self::expire_after): whatever baggage strangers send, nothing is kept of it.
///
/// See the [module](super) for an example.
#[derive(Clone)]
pub struct Flows {
    core: Core,
    open: Arc<Mutex<Open>>,
}

struct Open {
    by_id: HashMap<FlowId, (u64, Arc<FlowState>)>,
    /// The oldest first.
    by_age: BTreeMap<u64, FlowId>,
    next: u64,
    capacity: usize,
    expire_after: Duration,
    stats: FlowStats,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowStats {
    /// Flows that are open now.
    pub open: usize,
    /// Flows that were started.
    pub started: u64,
    /// Of these, flows that were completed.
    pub completed: u64,
    /// Of these, flows that failed.
    pub failed: u64,
    /// Of these, flows that were dropped, took too long or had to make room.
    pub abandoned: u64,
}

impl Flows {
    /// Room for 10,000 open flows, each for an hour.
    pub fn new(spans: &Spans) -> Self {
        let open = Open {
            by_id: HashMap::new(),
            by_age: BTreeMap::new(),
            next: 0,
            capacity: 10_000,
            expire_after: Duration::from_secs(3600),
            stats: FlowStats::default(),
        };
        let mut core = Core::new(Cow::Borrowed("flow"), spans);
        core.place = Place::RootSampledAsStarter;
        Self { core, open: Arc::new(Mutex::new(open)) }
    }

    /// Decides about flows and steps that nobody has decided about. All of them by default.
    #[must_use]
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.core.sampler = sampler;
        self
    }

    /// How many may be open, at least one. The oldest is abandoned when there is no room for another one. Holds for all
    /// clones.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        self.lock().capacity = capacity.max(1);
        self
    }

    /// After which time a flow that has not ended is abandoned. Holds for all clones.
    #[must_use]
    pub fn expire_after(self, expire_after: Duration) -> Self {
        self.lock().expire_after = expire_after;
        self
    }

    /// Tracks nothing when false. On by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.core.enabled = enabled;
        self
    }

    #[cfg(feature = "telemetry")]
    pub(crate) fn reported_to(mut self, report: Option<Arc<dyn crate::trace::operation::Report>>) -> Self {
        self.core.report = report;
        self
    }

    /// Starts a flow of this name, which is of few values: `room.create`. It is abandoned when the handle is dropped,
    /// unless that is told to [leave it open](Flow::leave_open).
    pub fn start(&self, name: impl Into<Cow<'static, str>>) -> Flow {
        let (id, name, now) = (FlowId::random(), name.into(), clock::now());
        if !self.core.enabled {
            return Flow::new(self.clone(), FlowState { id, name, here: None }.into(), false);
        }
        let mut core = self.core.clone();
        core.name = name.clone();
        core.report = None;
        let mut work = Work::begin(core, context::active());
        work.note(FLOW_ID, id.to_string());
        work.note(FLOW_NAME, name.clone());
        let state = Arc::new(FlowState { id, name, here: Some(Here::new(now, work)) });
        if let Some(report) = &self.core.report {
            report.flow_started(&state.name);
        }
        let made_room = self.lock().add(Arc::clone(&state));
        for oldest in made_room {
            self.end(&oldest, FlowEnd::Abandoned, None);
        }
        self.expire();
        Flow::new(self.clone(), state, true)
    }

    /// The flow that the baggage of the current context names, wherever it was started; none when it names none.
    ///
    /// One that has ended cannot be told from one of another process: it takes steps, and keeps nothing of them.
    pub fn current(&self) -> Option<Flow> {
        context::current().and_then(|context| self.of(context.baggage()))
    }

    /// The flow that this baggage names.
    pub fn of(&self, baggage: &Baggage) -> Option<Flow> {
        let id = super::id_in(baggage)?;
        if let Some(flow) = self.resume(id) {
            return Some(flow);
        }
        // Of another process, or over: what is told about it goes to spans only, which are bounded.
        let name = baggage.get(FLOW_NAME).filter(|name| name.chars().count() <= LONGEST_NAME);
        let name = name.map_or(Cow::Borrowed("_OTHER"), |name| Cow::Owned(name.into_owned()));
        Some(Flow::new(self.clone(), FlowState { id, name, here: None }.into(), false))
    }

    /// The flow of this id, if it was started here and has not ended. Dropping what this returns leaves it open.
    pub fn resume(&self, id: FlowId) -> Option<Flow> {
        self.expire();
        let state = self.lock().by_id.get(&id).map(|(_, state)| Arc::clone(state))?;
        Some(Flow::new(self.clone(), state, false))
    }

    /// Abandons what has been open for too long. Starting and resuming do so too; call it where few flows start.
    pub fn expire(&self) {
        let now = clock::now();
        while let Some(expired) = self.take_expired(now) {
            self.end(&expired, FlowEnd::Abandoned, None);
        }
    }

    fn take_expired(&self, now: Instant) -> Option<Arc<FlowState>> {
        self.lock().take_expired(now)
    }

    /// How many there were, and are.
    pub fn stats(&self) -> FlowStats {
        let open = self.lock();
        FlowStats { open: open.by_id.len(), ..open.stats }
    }

    pub(super) fn step(&self, name: Cow<'static, str>, flow: Arc<FlowState>) -> Operation {
        let mut core = self.core.clone();
        core.name = name;
        core.flow = Some(flow);
        core.place = Place::Child;
        Operation::of(core)
    }

    /// Whether it ended by this.
    pub(super) fn end(&self, state: &FlowState, end: FlowEnd, reason: Option<&'static str>) -> bool {
        let Some((ended, here)) = state.end(end, reason).zip(state.here.as_ref()) else {
            return false;
        };
        self.lock().remove(state.id, end);
        if let Some(report) = &self.core.report {
            let took = clock::now().saturating_duration_since(here.started);
            report.flow_ended(&state.name, end, ended.step.as_deref(), took);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Adds a flow; returns those that had to make room.
    fn add(&mut self, state: Arc<FlowState>) -> Vec<Arc<FlowState>> {
        let mut made_room = Vec::new();
        while self.by_id.len() >= self.capacity
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            made_room.extend(self.by_id.remove(&oldest).map(|(_, state)| state));
        }
        self.by_age.insert(self.next, state.id);
        self.by_id.insert(state.id, (self.next, state));
        self.next += 1;
        self.stats.started += 1;
        made_room
    }

    fn take_expired(&mut self, now: Instant) -> Option<Arc<FlowState>> {
        let (_, oldest) = self.by_age.first_key_value()?;
        let (_, state) = self.by_id.get(oldest)?;
        let open_for = now.saturating_duration_since(state.here.as_ref()?.started);
        if open_for < self.expire_after {
            return None;
        }
        let (_, oldest) = self.by_age.pop_first()?;
        self.by_id.remove(&oldest).map(|(_, state)| state)
    }

    fn remove(&mut self, id: FlowId, end: FlowEnd) {
        if let Some((age, _)) = self.by_id.remove(&id) {
            self.by_age.remove(&age);
        }
        match end {
            FlowEnd::Completed => self.stats.completed += 1,
            FlowEnd::Failed => self.stats.failed += 1,
            FlowEnd::Abandoned => self.stats.abandoned += 1,
        }
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flows").field(&self.stats()).finish()
    }
}
