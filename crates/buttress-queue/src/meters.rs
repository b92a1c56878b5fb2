//! What a queue counts and times, by OpenTelemetry's conventions for messaging where they have a name.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress::metrics::{Counter, Family, Gauge, LabelValue, Registry, Timer};

use crate::engine::{Admitted, Contents};
use crate::job::Priority;

pub(crate) struct Meters {
    queue: Arc<str>,
    system: &'static str,
    sent: Family<Counter>,
    evicted: Family<Counter>,
    consumed: Family<Counter>,
    process: Family<Timer>,
    outcomes: Family<Counter>,
    lost: Family<Counter>,
    depth: Family<Gauge>,
    bytes: Family<Gauge>,
    age: Family<Gauge>,
    dead: Family<Gauge>,
    /// What was shown last, so that what is gone goes to 0.
    shown: Mutex<HashSet<(Arc<str>, Priority)>>,
}

impl Meters {
    pub(crate) fn new(registry: &Registry, queue: &Arc<str>, system: &'static str) -> Self {
        let counter =
            |name, unit: &'static str, tells: &'static str| registry.counter(name).unit(unit).description(tells);
        let gauge = |name, unit: &'static str, tells: &'static str| registry.gauge(name).unit(unit).description(tells);
        Self {
            queue: Arc::clone(queue),
            system,
            sent: counter("messaging.client.sent.messages", "{message}", "Jobs pushed, by what became of the push."),
            evicted: counter("buttress.queue.evicted", "{job}", "Jobs thrown away for others."),
            consumed: counter("messaging.client.consumed.messages", "{message}", "Jobs claimed."),
            process: registry.timer("messaging.process.duration").description("Time that processors took."),
            outcomes: counter("buttress.queue.outcomes", "{job}", "What came of attempts."),
            lost: counter("buttress.queue.leases_lost", "{job}", "Jobs whose lease was over before they were settled."),
            depth: gauge("buttress.queue.depth", "{job}", "Jobs in the queue."),
            bytes: gauge("buttress.queue.size", "By", "Bytes of the jobs in the queue."),
            age: gauge("buttress.queue.oldest_age", "s", "For how long the oldest job could have been claimed."),
            dead: gauge("buttress.queue.dead_letters", "{job}", "Jobs that were given up."),
            shown: Mutex::default(),
        }
    }

    pub(crate) fn pushed(&self, kind: &str, priority: Priority, admitted: &Admitted) {
        let result = match admitted {
            Admitted::New { evicted } => {
                for (_, priority) in evicted {
                    // Of whose type nothing is known here.
                    self.evicted.with(self.labels("", [("buttress.job.priority", priority.as_str())])).add(1);
                }
                "new"
            }
            Admitted::Duplicate(_) => "duplicate",
            Admitted::Full(_) => "full",
        };
        let more = [("buttress.job.priority", priority.as_str()), ("buttress.queue.result", result)];
        self.sent.with(self.labels(kind, more)).add(1);
    }

    pub(crate) fn claimed(&self, kind: &str, priority: Priority) {
        self.consumed.with(self.labels(kind, [("buttress.job.priority", priority.as_str())])).add(1);
    }

    pub(crate) fn processed(&self, kind: &str, priority: Priority, outcome: &'static str, took: Option<Duration>) {
        let labels = [("buttress.job.priority", priority.as_str()), ("buttress.job.outcome", outcome)];
        self.outcomes.with(self.labels(kind, labels)).add(1);
        if let Some(took) = took {
            self.process.with(self.labels(kind, [("buttress.job.outcome", outcome)])).record(took);
        }
    }

    pub(crate) fn lease_lost(&self, kind: &str) {
        self.lost.with(self.labels(kind, [])).add(1);
    }

    pub(crate) fn show(&self, contents: &Contents, now: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *shown);
        for depth in &contents.depths {
            let at = (Arc::clone(&depth.kind), depth.priority);
            gone.remove(&at);
            shown.insert(at);
            let age = depth.age(now).as_secs_f64();
            self.show_one(&depth.kind, depth.priority, [depth.waiting, depth.delayed, depth.active], depth.bytes, age);
        }
        for (kind, priority) in gone {
            self.show_one(&kind, priority, [0; 3], 0, 0.0);
        }
        self.dead.with([("messaging.destination.name", LabelValue::Text(&self.queue))]).set(contents.dead as f64);
    }

    fn show_one(&self, kind: &str, priority: Priority, counts: [u64; 3], bytes: u64, age: f64) {
        let priority = ("buttress.job.priority", priority.as_str());
        for (state, count) in ["waiting", "delayed", "active"].into_iter().zip(counts) {
            self.depth.with(self.labels(kind, [priority, ("buttress.job.state", state)])).set(count as f64);
        }
        self.bytes.with(self.labels(kind, [priority])).set(bytes as f64);
        self.age.with(self.labels(kind, [priority])).set(age);
    }

    fn labels<'a, const N: usize>(&'a self, kind: &'a str, more: [(&'a str, &'a str); N]) -> Labelled<'a, N> {
        Labelled { queue: &self.queue, system: self.system, kind, more }
    }
}

struct Labelled<'a, const N: usize> {
    queue: &'a str,
    system: &'a str,
    kind: &'a str,
    more: [(&'a str, &'a str); N],
}

impl<const N: usize> buttress::metrics::Labels for Labelled<'_, N> {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        visit("messaging.destination.name", self.queue.into());
        visit("messaging.system", self.system.into());
        if !self.kind.is_empty() {
            visit("buttress.job.type", self.kind.into());
        }
        self.more.iter().for_each(|(key, value)| visit(key, (*value).into()));
    }
}
