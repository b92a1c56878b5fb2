//! What is known of one flow.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{FLOW_ID, FLOW_NAME, FlowEnd, FlowId};
use crate::classify::Outcome;
use crate::clock::Instant;
use crate::context::{Context, Key, TraceContext, Value};
use crate::trace::operation::Work;

/// Attributes of a flow: they are on each of its steps, which have others too.
const MAX_ATTRIBUTES: usize = 32;

pub(in crate::trace) struct FlowState {
    pub(super) id: FlowId,
    pub(super) name: Cow<'static, str>,
    /// Only where it was started.
    pub(super) here: Option<Here>,
}

pub(super) struct Here {
    pub(super) started: Instant,
    span: Option<TraceContext>,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Taken at the end.
    work: Option<Work>,
    attributes: Vec<(Key, Value)>,
    steps: u64,
    last_step: Option<Cow<'static, str>>,
    failed: Option<(Cow<'static, str>, Option<&'static str>)>,
}

/// What became of a flow.
pub(super) struct Ended {
    pub(super) step: Option<Cow<'static, str>>,
}

impl Here {
    pub(super) fn new(started: Instant, work: Work) -> Self {
        let span = work.context().filter(|context| context.is_sampled()).map(Context::trace);
        let progress = Progress { work: Some(work), attributes: Vec::new(), steps: 0, last_step: None, failed: None };
        Self { started, span, progress: Mutex::new(progress) }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FlowState {
    /// The context with this flow in its baggage. Baggage that is full stays as it is: the flow then ends at this process.
    pub(in crate::trace) fn carried_by(&self, context: Context) -> Context {
        if super::id_in(context.baggage()) == Some(self.id) {
            return context;
        }
        let mut baggage = context.baggage().clone();
        let carried =
            baggage.insert(FLOW_ID, &self.id.to_string()).and_then(|()| baggage.insert(FLOW_NAME, &self.name));
        match carried {
            Ok(()) => context.with_baggage(baggage),
            Err(_) => context,
        }
    }

    /// The span of the flow itself, if it is here and recorded.
    pub(in crate::trace) fn span(&self) -> Option<TraceContext> {
        self.here.as_ref()?.span
    }

    /// What a step's span tells of its flow.
    pub(in crate::trace) fn describe(&self, attributes: &mut Vec<(Key, Value)>) {
        attributes.push((FLOW_ID.into(), self.id.to_string().into()));
        attributes.push((FLOW_NAME.into(), self.name.clone().into()));
        if let Some(here) = &self.here {
            attributes.extend(here.lock().attributes.iter().cloned());
        }
    }

    pub(super) fn set_attribute(&self, key: Key, value: Value) {
        let Some(here) = &self.here else { return };
        let attributes = &mut here.lock().attributes;
        if let Some(known) = attributes.iter_mut().find(|(name, _)| *name == key) {
            known.1 = value;
        } else if attributes.len() < MAX_ATTRIBUTES {
            attributes.push((key, value));
        }
    }

    pub(in crate::trace) fn step_begins(&self, step: Cow<'static, str>) {
        let Some(here) = &self.here else { return };
        let mut progress = here.lock();
        progress.steps += 1;
        progress.last_step = Some(step);
    }

    pub(in crate::trace) fn step_ended(
        &self,
        step: Cow<'static, str>,
        outcome: Outcome,
        error_type: Option<&'static str>,
    ) {
        let Some(here) = &self.here else { return };
        let mut progress = here.lock();
        if outcome.is_error() {
            progress.failed = Some((step, error_type));
        } else if outcome == Outcome::Ok && progress.failed.as_ref().is_some_and(|(failed, _)| *failed == step) {
            // It was tried again.
            progress.failed = None;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.here.as_ref().is_some_and(|here| here.lock().work.is_some())
    }

    /// Ends it, unless it has ended or is kept elsewhere. `reason` is for a failure whose step did not say why.
    pub(super) fn end(&self, end: FlowEnd, reason: Option<&'static str>) -> Option<Ended> {
        let mut progress = self.here.as_ref()?.lock();
        // What ends with it may be anybody's, so that the lock is not held meanwhile.
        let mut work = progress.work.take()?;
        let attributes = std::mem::take(&mut progress.attributes);
        let (failed, last, steps) = (progress.failed.take(), progress.last_step.take(), progress.steps);
        drop(progress);

        let (failed, why) = failed.unzip();
        let why = reason.or_else(|| why.flatten()).unwrap_or("_OTHER");
        let step = failed.or(last).filter(|_| end != FlowEnd::Completed);
        for (key, value) in attributes {
            work.note(key, value);
        }
        work.note("flow.outcome", end.as_str());
        work.note("flow.steps", steps);
        if let Some(step) = &step {
            work.note("flow.failed_step", step.clone());
        }
        match end {
            FlowEnd::Completed => work.finish(Outcome::Ok, None),
            FlowEnd::Failed => work.finish(Outcome::Error, Some(why)),
            FlowEnd::Abandoned => work.finish(Outcome::Cancelled, None),
        }
        Some(Ended { step })
    }
}
