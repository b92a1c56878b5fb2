//! The spans of all services, put together to traces again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::classify::Outcome;
use buttress::context::{TraceId, Value};
use buttress::trace::{SpanKind, SpanRecord, SpanSink};
use serde::Serialize;

pub(crate) const STOREFRONT: &str = "storefront";
pub(crate) const INVENTORY: &str = "inventory";
pub(crate) const PAYMENTS: &str = "payments";

/// Traces that are kept to be looked at. What is counted is counted for good.
const KEPT_TRACES: usize = 2000;
/// Durations of each operation that are kept for the percentiles.
const KEPT_DURATIONS: usize = 4096;

/// A span, and whose it is.
#[derive(Clone, Serialize)]
pub(crate) struct Told {
    pub(crate) service: &'static str,
    #[serde(flatten)]
    pub(crate) span: Arc<SpanRecord>,
}

/// Everything that the sinks were given. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Traces(Arc<Mutex<Collected>>);

#[derive(Default)]
pub(crate) struct Collected {
    traces: HashMap<TraceId, Trace>,
    /// Oldest first.
    order: VecDeque<TraceId>,
    pub(crate) outcomes: Outcomes,
    pub(crate) cross_service: u64,
    pub(crate) operations: BTreeMap<Operation, Seen>,
}

#[derive(Default)]
struct Trace {
    spans: Vec<Told>,
    is_cross_service: bool,
}

#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Outcomes {
    pub(crate) ok: u64,
    pub(crate) error: u64,
    pub(crate) cancelled: u64,
}

impl Outcomes {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Cancelled => self.cancelled += 1,
            _ => self.error += 1,
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.ok + self.error + self.cancelled
    }
}

/// A row of the summary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    /// Callers before callees.
    order: usize,
    pub(crate) service: &'static str,
    pub(crate) is_client: bool,
    pub(crate) name: String,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) outcomes: Outcomes,
    pub(crate) errors: BTreeMap<String, u64>,
    durations: VecDeque<Duration>,
}

impl Seen {
    /// Of the latest durations.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let mut sorted: Vec<_> = self.durations.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * share) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Traces {
    /// The sink of one service.
    pub(crate) fn sink(&self, service: &'static str) -> impl SpanSink {
        Sink { service, traces: self.clone() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Sink {
    service: &'static str,
    traces: Traces,
}

impl SpanSink for Sink {
    fn export(&self, spans: &[Arc<SpanRecord>]) {
        let mut collected = self.traces.lock();
        for span in spans {
            collected.add(Told { service: self.service, span: Arc::clone(span) });
        }
    }
}

impl Collected {
    fn add(&mut self, told: Told) {
        if told.service == STOREFRONT && told.span.kind == SpanKind::Server {
            self.outcomes.count(told.span.outcome);
        }
        self.operations.entry(Operation::of(&told)).or_default().add(&told.span);

        let id = told.span.trace_id;
        let trace = self.traces.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Trace::default()
        });
        trace.spans.push(told);
        if !trace.is_cross_service && trace.crosses_all_services() {
            trace.is_cross_service = true;
            self.cross_service += 1;
        }
        if self.order.len() > KEPT_TRACES
            && let Some(oldest) = self.order.pop_front()
        {
            self.traces.remove(&oldest);
        }
    }

    /// The spans of a trace, in the order of their start.
    pub(crate) fn spans(&self, id: TraceId) -> Option<Vec<Told>> {
        let mut spans = self.traces.get(&id)?.spans.clone();
        // Who starts at the same time and ends later is the caller.
        spans.sort_by_key(|told| (told.span.start_unix_nanos, Reverse(told.span.end_unix_nanos)));
        Some(spans)
    }

    /// The latest traces, newest first.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (TraceId, Vec<Told>)> {
        self.order.iter().rev().filter_map(|id| Some((*id, self.spans(*id)?)))
    }
}

impl Trace {
    /// Whether the storefront called both others and each link of both chains is there: the callee's server span is the
    /// child, across processes, of a client span that is the child of the storefront's server span.
    fn crosses_all_services(&self) -> bool {
        let find =
            |service, kind| self.spans.iter().filter(move |told| told.service == service && told.span.kind == kind);
        find(STOREFRONT, SpanKind::Server).any(|front| {
            let calls = |callee| {
                find(STOREFRONT, SpanKind::Client)
                    .filter(|call| is_child(&call.span, &front.span, false))
                    .any(|call| find(callee, SpanKind::Server).any(|served| is_child(&served.span, &call.span, true)))
            };
            calls(INVENTORY) && calls(PAYMENTS)
        })
    }
}

fn is_child(child: &SpanRecord, parent: &SpanRecord, across_processes: bool) -> bool {
    child.parent_span_id == Some(parent.span_id) && child.parent_is_remote == across_processes
}

impl Operation {
    fn of(told: &Told) -> Self {
        let is_client = told.span.kind == SpanKind::Client;
        let order = [STOREFRONT, INVENTORY, PAYMENTS].iter().position(|service| *service == told.service);
        let mut name = told.span.name.to_string();
        // A client knows no route; the shop's own URLs are few enough to name the call.
        if is_client && let Some(path) = told.span.attribute("url.full").and_then(path_of) {
            name = format!("{name} {path}");
        }
        Self { order: order.unwrap_or(usize::MAX), service: told.service, is_client, name }
    }
}

impl Seen {
    fn add(&mut self, span: &SpanRecord) {
        self.outcomes.count(span.outcome);
        if let Some(error) = span.error_type {
            *self.errors.entry(error.to_string()).or_default() += 1;
        }
        if self.durations.len() == KEPT_DURATIONS {
            self.durations.pop_front();
        }
        self.durations.push_back(span.duration());
    }
}

fn path_of(url: &Value) -> Option<String> {
    let Value::Text(url) = url else { return None };
    let (_, after) = url.split_once("://")?;
    after.find('/').map(|at| after[at..].to_owned())
}
