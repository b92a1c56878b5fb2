//! What is counted of operations and flows.

use std::time::Duration;

use crate::classify::{ErrorType, Outcome};
use crate::metrics::{Buckets, Counter, Family, LabelValue, Labels, Registry, Timer, UpDownCounter};
use crate::trace::FlowEnd;
use crate::trace::operation::Report;

const OPERATION: &str = "operation.name";
const FLOW: &str = "flow.name";

pub(super) struct OperationMetrics {
    duration: Family<Timer>,
    active: Family<UpDownCounter>,
    flow_duration: Family<Timer>,
    flow_completed: Family<Counter>,
    flow_active: Family<UpDownCounter>,
}

impl OperationMetrics {
    pub(super) fn new(metrics: &Registry) -> Self {
        // A user takes minutes where a request takes milliseconds.
        let minutes = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 14_400, 86_400].map(Duration::from_secs);
        let minutes = Buckets::durations(minutes).expect("they rise");
        Self {
            duration: metrics.timer("buttress.operation.duration").description("How long operations took"),
            active: metrics
                .up_down_counter("buttress.operation.active")
                .unit("{operation}")
                .description("Operations that are under way"),
            flow_duration: metrics
                .timer("buttress.flow.duration")
                .description("How long flows took, from their start to their end")
                .buckets(minutes),
            flow_completed: metrics
                .counter("buttress.flow.completed")
                .unit("{flow}")
                .description("Flows that have ended, by how and by the step at which they failed or were left"),
            flow_active: metrics
                .up_down_counter("buttress.flow.active")
                .unit("{flow}")
                .description("Flows that are open"),
        }
    }
}

impl Report for OperationMetrics {
    fn operation_began(&self, operation: &str) {
        self.active.with([(OPERATION, operation)]).add(1);
    }

    fn operation_ended(&self, operation: &str, outcome: Outcome, error_type: Option<ErrorType>, took: Duration) {
        self.active.with([(OPERATION, operation)]).add(-1);
        let error_type = error_type.as_ref().map(ErrorType::as_str);
        let ended = Ended { who: (OPERATION, operation), outcome: outcome.as_str(), why: ("error.type", error_type) };
        self.duration.with(ended).record(took);
    }

    fn flow_started(&self, flow: &str) {
        self.flow_active.with([(FLOW, flow)]).add(1);
    }

    fn flow_ended(&self, flow: &str, end: FlowEnd, failed_step: Option<&str>, took: Duration) {
        self.flow_active.with([(FLOW, flow)]).add(-1);
        let ended = Ended { who: (FLOW, flow), outcome: end.as_str(), why: ("flow.failed_step", failed_step) };
        self.flow_completed.with(&ended).add(1);
        self.flow_duration.with(Ended { why: ("", None), ..ended }).record(took);
    }
}

struct Ended<'a> {
    who: (&'static str, &'a str),
    outcome: &'a str,
    why: (&'static str, Option<&'a str>),
}

impl Labels for Ended<'_> {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        visit(self.who.0, self.who.1.into());
        visit("buttress.outcome", self.outcome.into());
        if let (key, Some(why)) = self.why {
            visit(key, why.into());
        }
    }
}
