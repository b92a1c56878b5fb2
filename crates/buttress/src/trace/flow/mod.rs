//! What a user does in several steps, over several requests: how long it took, and at which step it failed or was left.
//!
//! ```
//! use buttress::context::{self, Context};
//! use buttress::trace::{Flows, Spans};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let spans = Spans::new();
//! let flows = Flows::new(&spans);
//!
//! // One request: the recording starts, and goes on when the request is over.
//! let flow = flows.start("recording");
//! flow.attribute("room.id", "blue");
//! let baggage = flow.step("start").infallible().call(|| context::current().unwrap().baggage().clone());
//! flow.leave_open();
//!
//! // Another one, whose caller sends the baggage back.
//! let next = Context::root().with_baggage(baggage);
//! next.scope(async {
//!     let flow = flows.current().unwrap();
//!     let uploaded = flow.step("upload").run(async { Err::<(), _>(std::io::Error::other("disk full")) });
//!     if uploaded.await.is_err() {
//!         flow.fail("upload_failed");
//!     }
//! })
//! .await;
//!
//! let flow = &spans.latest(1)[0];
//! assert_eq!((flow.name.as_ref(), flow.outcome.as_str()), ("recording", "error"));
//! assert_eq!(flow.attribute("flow.failed_step").unwrap().to_string(), "upload");
//! assert_eq!(flow.attribute("room.id").unwrap().to_string(), "blue");
//! # }
//! ```
//!
//! # Where it is kept
//!
//! A flow is known in the process that started it, by [`Flows`]; `Telemetry::flows` has those of a service. Its id and its name
//! travel in the baggage, as `flow.id` and `flow.name`, to whatever its steps call. Another process that
//! [finds it there](Flows::current) can run steps of it, whose spans tell id and name; that a step failed there is known
//! here when the step here, which called, fails too. A [trust policy](crate::propagate::TrustPolicy) that lets no baggage in must
//! allow these two keys, or the id be told by other means and [resumed](Flows::resume). One flow travels at a time: within a
//! step of another flow, that one does.
//!
//! # What is told
//!
//! Each step is a span in the trace of its request, linked to that of the flow, with `flow.id`, `flow.name` and the attributes
//! of the flow. The flow is a span of its own trace, from start to end, linked to what started it and sampled as that, with
//! `flow.outcome` (`completed`, `failed`, `abandoned`), `flow.steps` (how many were begun) and `flow.failed_step`: the last
//! step that failed and was not repeated with success, else the last that was begun.

mod flows;
mod id;
mod state;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use flows::{FlowStats, Flows};
pub use id::FlowId;
pub(super) use state::FlowState;

use super::operation::Operation;
use crate::context::{self, Baggage, Context, Key, Value};

const FLOW_ID: &str = "flow.id";
const FLOW_NAME: &str = "flow.name";

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowEnd {
    /// `completed`
    Completed,
    /// `failed`
    Failed,
    /// `abandoned`: nobody said how it ended.
    Abandoned,
}

impl FlowEnd {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A handle on a flow; of [`Flows`].
///
/// The handle that started it abandons it when it is dropped; others leave it open.
#[must_use = "the flow is abandoned when the handle that started it is dropped"]
pub struct Flow {
    flows: Flows,
    state: Arc<FlowState>,
    abandons: bool,
}

impl Flow {
    fn new(flows: Flows, state: Arc<FlowState>, abandons: bool) -> Self {
        Self { flows, state, abandons }
    }

    /// The id, to be resumed by.
    pub fn id(&self) -> FlowId {
        self.state.id
    }

    /// The name; `_OTHER` when it came from another process and was too long.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Whether it was started in this process and has not ended.
    pub fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// What the flow is about: a room, an order. On the span of the flow and of each step from now on; 32 keys are kept,
    /// and none of a flow of another process.
    pub fn attribute(&self, key: impl Into<Key>, value: impl Into<Value>) -> &Self {
        self.state.set_attribute(key.into(), value.into());
        self
    }

    /// A step of this name, which is of few values. It runs what any operation runs, in a context that carries the flow;
    /// when it fails the flow has not failed yet, as it may be tried again.
    pub fn step(&self, name: impl Into<Cow<'static, str>>) -> Operation {
        self.flows.step(name.into(), Arc::clone(&self.state))
    }

    /// The context of here, or a new one, that carries the flow: for what is no step.
    pub fn context(&self) -> Context {
        self.state.carried_by(context::active().unwrap_or_else(Context::root))
    }

    /// Ends it well. False when it had ended before or was started in another process.
    pub fn complete(self) -> bool {
        self.flows.end(&self.state, FlowEnd::Completed, None)
    }

    /// Ends it with an error; `reason` is of few values and becomes its `error.type`. False as with
    /// [`complete`](Self::complete).
    pub fn fail(self, reason: &'static str) -> bool {
        self.flows.end(&self.state, FlowEnd::Failed, Some(reason))
    }

    /// Lets it go on after this request.
    pub fn leave_open(mut self) -> FlowId {
        self.abandons = false;
        self.id()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if !self.abandons {
            return;
        }
        if std::thread::panicking() {
            self.flows.end(&self.state, FlowEnd::Failed, Some("panic"));
        } else {
            self.flows.end(&self.state, FlowEnd::Abandoned, None);
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("id", &self.id()).field("open", &self.is_open()).finish_non_exhaustive()
    }
}

/// The flow that the baggage names.
fn id_in(baggage: &Baggage) -> Option<FlowId> {
    baggage.get(FLOW_ID)?.parse().ok()
}
