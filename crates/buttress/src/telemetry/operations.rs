//! What is counted of operations and flows.

use std::sync::Arc;
#[cfg(feature = "macros")]
use std::sync::OnceLock;
use std::time::Duration;

use crate::classify::ErrorType;
#[cfg(feature = "macros")]
use crate::classify::Outcome;
use crate::metrics::{Buckets, Counter, Family, LabelValue, Labels, Registry, Timer, UpDownCounter};
use crate::trace::FlowEnd;
use crate::trace::operation::{Ended, Report};

const OPERATION: &str = "operation.name";
const FLOW: &str = "flow.name";

pub(super) struct OperationMetrics {
    duration: Family<Timer>,
    active: Family<UpDownCounter>,
    slow: Family<Counter>,
    slo: Family<Counter>,
    flow_duration: Family<Timer>,
    flow_completed: Family<Counter>,
    flow_active: Family<UpDownCounter>,
}

/// As what operations and flows are told.
pub(super) fn told(metrics: &Option<Arc<OperationMetrics>>) -> Option<Arc<dyn Report>> {
    metrics.clone().map(|metrics| metrics as Arc<dyn Report>)
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
            slow: metrics
                .counter("buttress.operation.slow")
                .unit("{operation}")
                .description("Operations that took longer than they should"),
            slo: metrics
                .counter("buttress.operation.slo")
                .unit("{operation}")
                .description("Operations with an objective, by whether they met it"),
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

    /// Counts an end beside those that are under way.
    fn ended(&self, who: Who<'_>, ended: Ended) {
        let error_type = ended.error_type.as_ref().map(ErrorType::as_str);
        let [name, domain] = who.0;
        let outcome = ("buttress.outcome", Some(ended.outcome.as_str().into()));
        let labels = Given([name, domain, outcome, ("error.type", error_type.map(LabelValue::from))]);
        self.duration.with(labels).record(ended.took);
        if ended.is_slow {
            self.slow.with(who).add(1);
        }
        if let Some(met) = ended.met_slo {
            self.slo_of(who, met).add(1);
        }
    }

    fn slo_of(&self, who: Who<'_>, met: bool) -> Counter {
        let [name, domain] = who.0;
        self.slo.with(Given([name, domain, ("operation.slo_met", Some(met.into()))]))
    }
}

impl Report for OperationMetrics {
    fn operation_began(&self, operation: &str) {
        self.active.with(who(operation, None)).add(1);
    }

    fn operation_ended(&self, operation: &str, ended: Ended) {
        self.active.with(who(operation, None)).add(-1);
        self.ended(who(operation, None), ended);
    }

    fn flow_started(&self, flow: &str) {
        self.flow_active.with([(FLOW, flow)]).add(1);
    }

    fn flow_ended(&self, flow: &str, end: FlowEnd, failed_step: Option<&str>, took: Duration) {
        self.flow_active.with([(FLOW, flow)]).add(-1);
        let (flow, end) = ((FLOW, Some(flow.into())), ("buttress.outcome", Some(end.as_str().into())));
        let failed_step = ("flow.failed_step", failed_step.map(LabelValue::from));
        self.flow_completed.with(Given([flow, end, failed_step])).add(1);
        self.flow_duration.with(Given([flow, end])).record(took);
    }
}

/// What is counted of one place in the code: the series of those that go well are resolved.
#[cfg(feature = "macros")]
pub(super) struct PlaceMetrics {
    all: Arc<OperationMetrics>,
    domain: Option<&'static str>,
    active: UpDownCounter,
    ok: Timer,
    met_slo: OnceLock<Counter>,
}

#[cfg(feature = "macros")]
impl PlaceMetrics {
    pub(super) fn new(all: &Arc<OperationMetrics>, name: &'static str, domain: Option<&'static str>) -> Self {
        let who = who(name, domain);
        let [name, in_domain] = who.0;
        let ok = ("buttress.outcome", Some(Outcome::Ok.as_str().into()));
        Self {
            active: all.active.with(who),
            ok: all.duration.with(Given([name, in_domain, ok])),
            met_slo: OnceLock::new(),
            domain,
            all: Arc::clone(all),
        }
    }
}

#[cfg(feature = "macros")]
impl Report for PlaceMetrics {
    fn operation_began(&self, _operation: &str) {
        self.active.add(1);
    }

    fn operation_ended(&self, operation: &str, ended: Ended) {
        self.active.add(-1);
        let who = who(operation, self.domain);
        if ended.outcome != Outcome::Ok || ended.is_slow || ended.met_slo == Some(false) {
            return self.all.ended(who, ended);
        }
        self.ok.record(ended.took);
        if ended.met_slo.is_some() {
            self.met_slo.get_or_init(|| self.all.slo_of(who, true)).add(1);
        }
    }

    fn flow_started(&self, flow: &str) {
        self.all.flow_started(flow);
    }

    fn flow_ended(&self, flow: &str, end: FlowEnd, failed_step: Option<&str>, took: Duration) {
        self.all.flow_ended(flow, end, failed_step, took);
    }
}

/// Labels, of which some may be missing.
#[derive(Clone, Copy)]
struct Given<'a, const N: usize>([(&'static str, Option<LabelValue<'a>>); N]);

type Who<'a> = Given<'a, 2>;

fn who<'a>(operation: &'a str, domain: Option<&'a str>) -> Who<'a> {
    Given([(OPERATION, Some(operation.into())), ("buttress.domain", domain.map(LabelValue::from))])
}

impl<const N: usize> Labels for Given<'_, N> {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        for (key, value) in self.0 {
            if let Some(value) = value {
                visit(key, value);
            }
        }
    }
}
