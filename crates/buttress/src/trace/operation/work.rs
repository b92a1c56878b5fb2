//! One run of an operation, from its beginning to its one end.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::judge::Judge;
use super::report::{Ended, Report};
use crate::classify::{ErrorType, Outcome};
use crate::clock::{self, Instant};
use crate::context::{self, Annotations, Context, Key, Value};
use crate::trace::flow::FlowState;
use crate::trace::recording::{Finish, Recording, Subject};
use crate::trace::sampler::Sampler;
use crate::trace::span::{SpanKind, SpanLink};
use crate::trace::spans::Spans;
use crate::trace::started::SamplingResult;

/// What every run of an operation needs. Cloned for each, and so made of reference counts.
#[derive(Clone)]
pub(in crate::trace) struct Core {
    pub(in crate::trace) spans: Spans,
    pub(in crate::trace) sampler: Sampler,
    pub(in crate::trace) report: Option<Arc<dyn Report>>,
    pub(in crate::trace) name: Cow<'static, str>,
    pub(in crate::trace) attributes: Option<Arc<Vec<(Key, Value)>>>,
    /// The flow that this is a step of.
    pub(in crate::trace) flow: Option<Arc<FlowState>>,
    pub(in crate::trace) place: Place,
    /// What takes longer is told to be slow.
    pub(in crate::trace) slow: Option<Duration>,
    /// What is to be done within it.
    pub(in crate::trace) slo: Option<Duration>,
    /// The event that the span has at its end.
    pub(in crate::trace) event: Option<Cow<'static, str>>,
    pub(in crate::trace) kind: SpanKind,
    pub(in crate::trace) statistics: bool,
    /// Tells how many bytes there are, or were taken so far.
    pub(in crate::trace) memory: Option<fn() -> u64>,
    pub(in crate::trace) enabled: bool,
}

/// Where a span belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::trace) enum Place {
    /// Below the span that started it.
    Child,
    /// In a trace of its own, linked to what started it; the sampler decides.
    Root,
    /// In a trace of its own, linked to what started it, and sampled as that is.
    RootSampledAsStarter,
}

impl Core {
    pub(in crate::trace) fn new(name: Cow<'static, str>, spans: &Spans) -> Self {
        Self {
            spans: spans.clone(),
            sampler: Sampler::always_on(),
            report: None,
            name,
            attributes: None,
            flow: None,
            place: Place::Child,
            slow: None,
            slo: None,
            event: None,
            kind: SpanKind::Internal,
            statistics: false,
            memory: None,
            enabled: true,
        }
    }
}

/// The core of a run: a clone of its operation's, or of a place in the code, which stays.
pub(in crate::trace) enum Held {
    Own(Core),
    #[cfg_attr(not(feature = "macros"), allow(dead_code, reason = "only observed functions are such places"))]
    Place(&'static Core),
}

impl Deref for Held {
    type Target = Core;

    fn deref(&self) -> &Core {
        match self {
            Self::Own(core) => core,
            Self::Place(core) => core,
        }
    }
}

impl From<Core> for Held {
    fn from(core: Core) -> Self {
        Self::Own(core)
    }
}

pub(crate) struct Work {
    core: Held,
    /// Moves in and out of the task-local.
    context: Option<Context>,
    /// Nothing, unless it is sampled.
    recording: Option<Box<Recording>>,
    started: Instant,
    /// User code is running; whoever is dropped meanwhile has panicked.
    inside: bool,
    is_over: bool,
    polls: u64,
    busy: Duration,
    /// By how many bytes the memory has grown while it worked.
    grown: i64,
}

impl Work {
    /// Begins below `starter`, the context in which the operation was asked for.
    pub(in crate::trace) fn begin(core: impl Into<Held>, starter: Option<Context>) -> Self {
        let started = clock::now();
        let mut work = Self {
            core: core.into(),
            context: None,
            recording: None,
            started,
            inside: false,
            is_over: false,
            polls: 0,
            busy: Duration::ZERO,
            grown: 0,
        };
        if !work.core.enabled {
            work.context = starter;
            work.is_over = true;
            return work;
        }
        let core = &*work.core;
        let mut context = core.context_of(starter.as_ref());
        let is_decided = core.place != Place::Root && context.origin().decided;
        let sampled = match is_decided {
            true => context.is_sampled(),
            false => core.sampler.settle(&mut context, core.kind, None, started, &core.spans),
        };
        context.claim(sampled);
        let result = if sampled { SamplingResult::RecordAndSample } else { SamplingResult::Drop };
        core.spans.count_started(&context, result);
        if let Some(flow) = &core.flow {
            context = flow.carried_by(context);
            flow.step_begins(core.name.clone());
        }
        work.recording = sampled.then(|| core.record(&mut context, starter.as_ref(), started));
        work.context = Some(context);
        if let Some(report) = &work.core.report {
            report.operation_began(&work.core.name);
        }
        work
    }

    /// The context in which the work is done; none where telemetry is off and there was none.
    pub(in crate::trace) fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Does some of the work.
    pub(crate) fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let begun = self.core.statistics.then(clock::now);
        let before = self.core.memory.map(|bytes| bytes());
        let done = self.within(work);
        if let (Some(bytes), Some(before)) = (self.core.memory, before) {
            // Either way: memory may have been given back.
            self.grown = self.grown.wrapping_add(bytes().wrapping_sub(before) as i64);
        }
        if let Some(begun) = begun {
            self.polls += 1;
            self.busy += clock::now().saturating_duration_since(begun);
        }
        done
    }

    /// Drops what did the work, in its context, and ends with what the judge says of the output.
    pub(crate) fn finish_with<T>(&mut self, output: &T, judge: &impl Judge<T>, release: impl FnOnce()) {
        let error_type = self.within(|| {
            release();
            judge.error_type(output)
        });
        self.end(error_type);
    }

    /// Does in its context what is no part of the work.
    pub(crate) fn within<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.inside = true;
        let done = context::enter(&mut self.context, work);
        self.inside = false;
        done
    }

    /// Whether user code has panicked in here.
    pub(in crate::trace) fn is_inside(&self) -> bool {
        self.inside
    }

    /// Ends with what the judge said.
    pub(in crate::trace) fn end(&mut self, error_type: Option<&'static str>) {
        self.finish(Outcome::of_error(error_type), error_type);
    }

    /// Whether there is a span to add to.
    #[cfg(feature = "macros")]
    pub(crate) fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// Adds to the span, if there is one.
    pub(crate) fn note(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        if let Some(Subject::Named { attributes, .. }) = self.recording.as_mut().map(|recording| &mut recording.subject)
        {
            attributes.push((key.into(), value.into()));
        }
    }

    /// Ends it, unless it is over.
    pub(in crate::trace) fn finish(&mut self, outcome: Outcome, error_type: Option<&'static str>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let ended = clock::now();
        let error_type = if outcome == Outcome::Panicked { Some("panic") } else { error_type };
        if let Some(flow) = &self.core.flow {
            flow.step_ended(self.core.name.clone(), outcome, error_type);
        }
        let took = ended.saturating_duration_since(self.started);
        let is_slow = self.core.slow.is_some_and(|slow| took > slow);
        let met_slo = self.core.slo.and_then(|slo| met(slo, outcome, took));
        if let Some(report) = &self.core.report {
            let (name, report) = (&self.core.name, &**report);
            let ended = Ended { outcome, error_type: error_type.map(ErrorType::Name), took, is_slow, met_slo };
            context::enter(&mut self.context, || report.operation_ended(name, ended));
        }
        if self.recording.is_some() {
            self.tell_end(outcome, error_type, is_slow, met_slo);
        }
        if let Some(mut recording) = self.recording.take() {
            recording.ended = ended;
            recording.verdict = Finish { outcome, ending: None, error_type: error_type.map(ErrorType::Name) };
            self.core.spans.hand_over(recording);
        }
    }

    /// What the span has besides outcome and duration.
    fn tell_end(&mut self, outcome: Outcome, error_type: Option<&'static str>, is_slow: bool, met_slo: Option<bool>) {
        if is_slow {
            self.note("operation.slow", true);
        }
        if let Some(met) = met_slo {
            self.note("operation.slo_met", met);
        }
        if self.core.memory.is_some() {
            self.note("operation.memory_growth", self.grown);
        }
        if self.core.statistics {
            let (polls, busy) = (self.polls, self.busy.as_secs_f64());
            self.note("operation.polls", polls);
            self.note("operation.busy_time", busy);
        }
        if let Some((event, context)) = self.core.event.clone().zip(self.context.as_ref()) {
            let outcome = ("buttress.outcome", outcome.as_str());
            let error_type = error_type.map(|error_type| ("error.type", error_type));
            context.add_event(event, [outcome].into_iter().chain(error_type));
        }
    }
}

/// Whether the objective was met; none when nobody can tell, because the caller did not wait for as long.
fn met(slo: Duration, outcome: Outcome, took: Duration) -> Option<bool> {
    match outcome {
        Outcome::Ok => Some(took <= slo),
        Outcome::Cancelled if took <= slo => None,
        _ => Some(false),
    }
}

impl Core {
    fn context_of(&self, starter: Option<&Context>) -> Context {
        match (self.place, starter) {
            (Place::Child, Some(starter)) => starter.below_recorded(),
            (Place::RootSampledAsStarter, Some(starter)) if starter.origin().decided => {
                let mut root = Context::root();
                root.claim(starter.is_sampled());
                root
            }
            _ => Context::root(),
        }
    }

    fn record(&self, context: &mut Context, starter: Option<&Context>, started: Instant) -> Box<Recording> {
        let annotations = Arc::<Annotations>::default();
        context.set_annotations(Arc::clone(&annotations));
        let mut attributes = self.attributes.as_deref().cloned().unwrap_or_default();
        let mut links = Vec::new();
        if let Some(starter) = starter.filter(|_| self.place != Place::Child) {
            links.push(SpanLink::new(starter.trace(), "started_by"));
        }
        if let Some(flow) = &self.flow {
            flow.describe(&mut attributes);
            links.extend(flow.span().map(|span| SpanLink::new(span, "flow")));
        }
        Box::new(Recording {
            context: context.clone(),
            annotations,
            kind: self.kind,
            subject: Subject::Named { name: self.name.clone(), attributes },
            links,
            started,
            ended: started,
            verdict: Finish::OK,
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let outcome = if self.inside { Outcome::Panicked } else { Outcome::Cancelled };
        self.finish(outcome, None);
    }
}
