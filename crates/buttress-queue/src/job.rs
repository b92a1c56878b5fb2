//! What is pushed, what is kept, and what a processor is given.

mod envelope;
mod id;
mod outcome;
mod priority;

pub use envelope::{Envelope, Trace};
pub use id::{InvalidId, JobId};
pub use outcome::{Outcome, Reason};
pub use priority::{Priority, UnknownPriority};

use std::sync::Arc;
use std::time::Duration;

use buttress::context::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Work to be done later: a type, data, and how urgent it is.
///
/// ```
/// use buttress_queue::{Job, JobId, Priority};
/// use serde_json::json;
///
/// let job = Job::new("order.created", &json!({ "order": 17 }))?
///     // Whoever pushes this id again is told so, and it is done once.
///     .id(JobId::new("order-17-created")?)
///     .priority(Priority::High)
///     .key("customer-5");
/// # let _ = job;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a job does nothing until it is pushed"]
pub struct Job {
    pub(crate) id: Option<JobId>,
    pub(crate) kind: Arc<str>,
    pub(crate) priority: Priority,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) delay: Duration,
    pub(crate) data: Box<RawValue>,
}

impl Job {
    /// A job of this type with this data, as JSON.
    ///
    /// The type is a name of few values (`order.created`): processors are found by it, and it is a label of metrics.
    ///
    /// # Errors
    ///
    /// When the data cannot be written as JSON.
    pub fn new<T: Serialize + ?Sized>(kind: impl Into<Arc<str>>, data: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(data).map(|data| Self::raw(kind, data))
    }

    /// A job whose data is JSON already.
    pub fn raw(kind: impl Into<Arc<str>>, data: Box<RawValue>) -> Self {
        Self { id: None, kind: kind.into(), priority: Priority::default(), key: None, delay: Duration::ZERO, data }
    }

    /// Its id, by which it is known and done once. A UUID of version 7 when none is given.
    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// How urgent it is. [`Priority::Normal`] by default.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// What it is about: a customer, a destination. For whoever looks, and for processors.
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Not to be done before this time is over. At once by default.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// What [`Queue::push`](crate::Queue::push) did. Complete by nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    New(JobId),
    /// A job of this id is known already, and nothing was pushed.
    Duplicate {
        /// The id of both.
        id: JobId,
        /// What became of the one that is known.
        state: JobState,
    },
}

impl Pushed {
    /// The id of the job, new or known.
    pub const fn id(&self) -> &JobId {
        match self {
            Self::New(id) | Self::Duplicate { id, .. } => id,
        }
    }

    /// Whether it was known already.
    pub const fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate { .. })
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// It can be claimed.
    Waiting,
    /// Its time has not come.
    Delayed,
    /// A worker has it.
    Active,
    /// It was done, and its id is remembered.
    Done,
    /// It was given up and can be replayed.
    Dead,
}

/// A job as a processor is given it: the request of its `tower::Service`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery<T = Box<RawValue>> {
    /// Its id, the same on every attempt: what the receiver of a side effect can tell repeats by.
    pub id: JobId,
    /// Its type.
    pub kind: Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// What it is about.
    pub key: Option<Arc<str>>,
    /// When it was pushed, in Unix milliseconds.
    pub created: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The context that it was pushed in.
    pub producer: Option<Context>,
    /// Its data.
    pub data: T,
}

impl Delivery {
    /// The same delivery with its data read.
    ///
    /// # Errors
    ///
    /// When the data is not what a `T` is written as. The delivery is lost; nothing about it will be better next time.
    pub fn read<T: DeserializeOwned>(self) -> Result<Delivery<T>, serde_json::Error> {
        let data = serde_json::from_str(self.data.get())?;
        let Self { id, kind, priority, key, created, attempt, producer, data: _ } = self;
        Ok(Delivery { id, kind, priority, key, created, attempt, producer, data })
    }
}
