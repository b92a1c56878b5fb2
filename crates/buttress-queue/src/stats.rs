//! What a queue has in it and how fast it goes, for a page: by type and priority.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use buttress::window::{Precision, SlidingWindow, Span};
use serde::Serialize;
use tokio::time::Instant;

use crate::engine::{Depth, EngineError};
use crate::job::Priority;
use crate::queue::Queue;

/// Types and priorities whose rates are told apart; those that come later are one.
const MOST: usize = 256;

/// As what later ones are counted.
const OTHERS: &str = "_OTHER";

/// What a queue has in it, and how fast it goes. Serialises for a page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Its name.
    pub queue: Arc<str>,
    /// Where it is: `memory`, `sqlite`, `redis`.
    pub engine: &'static str,
    /// Dead letters.
    pub dead: u64,
    /// Of each type and priority of which there is something, or was in the last minute; sorted.
    pub types: Vec<TypeStats>,
}

/// What there is of one type and priority. Depths are of the whole queue, rates and times of the last minute of this
/// process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TypeStats {
    /// The type; empty where the engine cannot tell the depths of types apart, `_OTHER` for types beyond the 256th.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// The priority that it was pushed with.
    pub priority: Priority,
    /// Jobs that can be claimed.
    pub waiting: u64,
    /// Jobs whose time has not come.
    pub delayed: u64,
    /// Jobs that somebody has.
    pub active: u64,
    /// Bytes of all of these.
    pub bytes: u64,
    /// For how long the oldest could have been claimed, in seconds.
    pub oldest_age: f64,
    /// New jobs a second.
    pub pushed_per_second: f64,
    /// Attempts that ended, well or not, a second; what was deferred or handed back is none.
    pub processed_per_second: f64,
    /// Attempts that failed, panicked, took too long or ended as a dead letter, a second.
    pub errors_per_second: f64,
    /// The time that half of the attempts took at most, in seconds.
    pub p50: Option<f64>,
    /// The time that 99 of 100 attempts took at most, in seconds.
    pub p99: Option<f64>,
}

impl TypeStats {
    fn none(kind: Arc<str>, priority: Priority) -> Self {
        Self {
            kind,
            priority,
            waiting: 0,
            delayed: 0,
            active: 0,
            bytes: 0,
            oldest_age: 0.0,
            pushed_per_second: 0.0,
            processed_per_second: 0.0,
            errors_per_second: 0.0,
            p50: None,
            p99: None,
        }
    }

    fn deep(depth: Depth, now: u64) -> Self {
        let oldest_age = depth.age(now).as_secs_f64();
        let Depth { kind, priority, waiting, delayed, active, bytes, .. } = depth;
        Self { waiting, delayed, active, bytes, oldest_age, ..Self::none(kind, priority) }
    }

    fn flowing(&mut self, flow: &Flow, now: Instant) {
        let (pushed, processed) = (flow.pushed.read(now), flow.processed.read(now));
        self.pushed_per_second = pushed.rate();
        self.processed_per_second = processed.rate();
        self.errors_per_second = processed.rate() * processed.error_ratio();
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
        (self.p50, self.p99) = (processed.quantile(0.5).map(seconds), processed.quantile(0.99).map(seconds));
    }
}

impl Queue {
    /// What is in it by type and priority, and how fast it goes.
    ///
    /// ```
    /// use buttress_queue::{EngineConfig, Job, Memory, Queue};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = Queue::new("mail", Memory::new(EngineConfig::default()));
    /// queue.push(Job::new("mail.welcome", "ada@example.com")?).await?;
    /// let page = serde_json::to_value(queue.stats().await?)?;
    /// assert_eq!(page["types"][0]["type"], "mail.welcome");
    /// assert_eq!(page["types"][0]["waiting"], 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the engine cannot say what is in it.
    pub async fn stats(&self) -> Result<Stats, EngineError> {
        let contents = self.contents().await?;
        let (now, wall) = (Instant::now(), self.clock.now());
        let deep = contents.depths.into_iter().map(|depth| TypeStats::deep(depth, wall));
        let mut types: HashMap<_, _> = deep.map(|stats| ((stats.kind.clone(), stats.priority), stats)).collect();
        for (at, flow) in self.shared.flows.all() {
            let stats = types.entry(at).or_insert_with_key(|(kind, priority)| TypeStats::none(kind.clone(), *priority));
            stats.flowing(&flow, now);
        }
        let mut types: Vec<_> = types.into_values().filter(TypeStats::is_something).collect();
        types.sort_by(|one, other| (&one.kind, one.priority).cmp(&(&other.kind, other.priority)));
        Ok(Stats { queue: Arc::clone(&self.name), engine: self.engine.name(), dead: contents.dead, types })
    }
}

impl TypeStats {
    fn is_something(&self) -> bool {
        self.waiting + self.delayed + self.active > 0 || self.pushed_per_second + self.processed_per_second > 0.0
    }
}

type At = (Arc<str>, Priority);

/// What goes through a queue, by type and priority.
#[derive(Default)]
pub(crate) struct Flows(RwLock<HashMap<At, Arc<Flow>>>);

pub(crate) struct Flow {
    pushed: SlidingWindow,
    processed: SlidingWindow,
}

impl Flow {
    fn new() -> Self {
        let span = Span::new(Duration::from_secs(60), Duration::from_secs(5)).expect("five seconds go into a minute");
        let window = || SlidingWindow::new(span, Precision::DEFAULT);
        Self { pushed: window(), processed: window() }
    }
}

impl Flows {
    /// A new job, of so many bytes.
    pub(crate) fn pushed(&self, kind: &Arc<str>, priority: Priority, size: u64) {
        self.of(kind, priority).pushed.record(size);
    }

    /// An attempt ended so.
    pub(crate) fn ended(&self, kind: &Arc<str>, priority: Priority, outcome: &str, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match outcome {
            "ack" => self.of(kind, priority).processed.record(micros),
            "retry" | "bury" | "panic" | "timeout" => self.of(kind, priority).processed.record_error(micros),
            _ => {}
        }
    }

    /// Forgets what is older than the window; called now and then.
    pub(crate) fn tick(&self, now: Instant) {
        for (_, flow) in self.all() {
            flow.pushed.tick(now);
            flow.processed.tick(now);
        }
    }

    fn of(&self, kind: &Arc<str>, priority: Priority) -> Arc<Flow> {
        let at = (Arc::clone(kind), priority);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&at).cloned();
        known.unwrap_or_else(|| {
            let mut flows = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let is_one_more = flows.len() >= MOST && !flows.contains_key(&at);
            let at = if is_one_more { (OTHERS.into(), priority) } else { at };
            Arc::clone(flows.entry(at).or_insert_with(|| Arc::new(Flow::new())))
        })
    }

    fn all(&self) -> Vec<(At, Arc<Flow>)> {
        let flows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        flows.iter().map(|(at, flow)| (at.clone(), Arc::clone(flow))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_without_end_are_counted_as_one() {
        let flows = Flows::default();
        for nth in 0..10_000 {
            flows.pushed(&format!("type-{nth}").into(), Priority::Normal, 1);
        }
        let all = flows.all();
        assert_eq!(all.len(), MOST + 1);
        let (_, others) = all.iter().find(|((kind, _), _)| &**kind == OTHERS).unwrap();
        assert_eq!(others.pushed.read(Instant::now()).count(), 10_000 - MOST as u64);
    }
}
