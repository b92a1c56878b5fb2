//! The handle of a queue: what is pushed goes through here, and whoever looks asks here.

mod error;
mod push;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use buttress::Telemetry;
use buttress::signal::Signals;
use tokio::sync::Notify;

pub use error::PushError;
pub use push::Handed;

use crate::clock::Clock;
use crate::delivered::Delivered;
use crate::engine::{Contents, Engine, EngineError, Found};
use crate::job::JobId;
use crate::meters::Meters;
use crate::stats::Flows;

/// Longest name of a type, in bytes.
const LONGEST_KIND: usize = 200;

/// A queue: jobs go in here, and [workers](crate::Worker) take them out. Clones are the same queue.
///
/// See the [crate](crate) for an example.
#[derive(Clone)]
pub struct Queue {
    pub(crate) name: Arc<str>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Clock,
    pub(crate) telemetry: Option<Telemetry>,
    pub(crate) signals: Signals,
    pub(crate) meters: Option<Arc<Meters>>,
    pub(crate) shared: Arc<Shared>,
    keep_baggage: Arc<[Box<str>]>,
    largest: usize,
}

#[derive(Default)]
pub(crate) struct Shared {
    /// Something was done or thrown away: there may be room.
    pub(crate) room: Notify,
    /// Whether it has been told that there is no room.
    full: AtomicBool,
    /// What was delivered without having been pushed.
    pub(crate) delivered: Delivered,
    /// What goes through it here.
    pub(crate) flows: Flows,
}

impl Queue {
    /// A queue of this name in this engine.
    pub fn new(name: impl Into<Arc<str>>, engine: impl Engine) -> Self {
        Self {
            name: name.into(),
            engine: Arc::new(engine),
            clock: Clock::new(),
            telemetry: None,
            signals: Signals::new(),
            meters: None,
            shared: Arc::default(),
            keep_baggage: Arc::default(),
            largest: 1 << 20,
        }
    }

    /// Records spans, metrics and signals there. Without, nothing is recorded, and the context still travels with the job.
    #[must_use]
    pub fn telemetry(mut self, telemetry: &Telemetry) -> Self {
        self.signals = telemetry.signals().clone();
        self.meters = Some(Arc::new(Meters::new(telemetry.metrics(), &self.name, self.engine.name())));
        self.telemetry = Some(telemetry.clone());
        self
    }

    /// The members of the baggage that are kept with a job. None by default: what is kept may be kept for long, and be
    /// read by others.
    #[must_use]
    pub fn keep_baggage(mut self, keys: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.keep_baggage = keys.into_iter().map(Into::into).collect();
        self
    }

    /// The most bytes of data that a job may have. 1 MiB by default.
    #[must_use]
    pub const fn largest(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// Its name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it tells: dead letters, and that it is full.
    pub const fn signals(&self) -> &Signals {
        &self.signals
    }

    /// What is in it now.
    ///
    /// # Errors
    ///
    /// When the engine cannot say.
    pub async fn contents(&self) -> Result<Contents, EngineError> {
        self.engine.contents(self.clock.now()).await
    }

    /// What is known of a job; `None` when nothing is.
    ///
    /// # Errors
    ///
    /// When the engine cannot say.
    pub async fn find(&self, id: &JobId) -> Result<Option<Found>, EngineError> {
        self.engine.find(id, self.clock.now()).await
    }

    /// Writes what is to be written and lets go of the storage; every handle is closed then.
    ///
    /// # Errors
    ///
    /// When the engine could not.
    pub async fn close(&self) -> Result<(), EngineError> {
        self.engine.close().await
    }

    /// What says of a span to which queue it belongs.
    pub(crate) fn described<J>(&self, operation: buttress::trace::Operation<J>) -> buttress::trace::Operation<J> {
        let operation = operation.attribute("messaging.system", self.engine.name());
        operation.attribute("messaging.destination.name", self.name.to_string())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).field("engine", &self.engine).finish_non_exhaustive()
    }
}
