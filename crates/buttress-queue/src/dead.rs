//! Dead letters: what was given up, to be looked at, replayed or thrown away.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::{DeadLetter, EngineError};
use crate::job::{JobId, Priority};
use crate::queue::Queue;

/// Dead letters that are asked for at a time.
const PAGE: usize = 500;

/// Which dead letters are meant: those of which everything holds that is said. All of them by default.
#[derive(Clone, Debug, Default)]
#[must_use = "a filter does nothing until it is asked with"]
pub struct DeadFilter {
    ids: Option<Vec<JobId>>,
    kind: Option<Arc<str>>,
    key: Option<Arc<str>>,
    reason: Option<Box<str>>,
    before: Option<u64>,
}

impl DeadFilter {
    /// Of these ids.
    pub fn ids(mut self, ids: impl IntoIterator<Item = JobId>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }

    /// Of this type.
    pub fn kind(mut self, kind: impl Into<Arc<str>>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// About this.
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this in the reason.
    pub fn reason_contains(mut self, text: impl Into<Box<str>>) -> Self {
        self.reason = Some(text.into());
        self
    }

    /// Buried before this time, in Unix milliseconds.
    pub const fn buried_before(mut self, unix_millis: u64) -> Self {
        self.before = Some(unix_millis);
        self
    }

    fn holds(&self, letter: &DeadLetter) -> bool {
        let envelope = &letter.envelope;
        self.ids.as_ref().is_none_or(|ids| ids.contains(&envelope.id))
            && self.kind.as_ref().is_none_or(|kind| *kind == envelope.kind)
            && self.key.as_ref().is_none_or(|key| envelope.key.as_ref() == Some(key))
            && self.reason.as_ref().is_none_or(|reason| letter.reason.as_str().contains(&**reason))
            && self.before.is_none_or(|before| letter.buried < before)
    }
}

/// A dead letter as people may see it: of its data only the form is there, names and types without values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadLetterView {
    /// The job's id.
    pub id: JobId,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// What it is about.
    pub key: Option<Arc<str>>,
    /// When it was pushed, in Unix milliseconds.
    pub created: u64,
    /// When it was given up, in Unix milliseconds.
    pub buried: u64,
    /// Why.
    pub reason: Box<str>,
    /// How many attempts had failed.
    pub attempts: u32,
    /// How often its processor was never heard of again.
    pub crashes: u32,
    /// The trace in which it was pushed.
    pub traceparent: Option<Box<str>>,
    /// Its data, with what kind of value stands where in place of each value.
    pub data: Value,
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { envelope, reason, attempts, crashes, buried } = letter;
        Self {
            id: envelope.id,
            kind: envelope.kind,
            priority: envelope.priority,
            key: envelope.key,
            created: envelope.created,
            buried,
            reason: reason.as_str().into(),
            attempts,
            crashes,
            traceparent: envelope.trace.traceparent,
            data: serde_json::from_str(envelope.data.get()).map_or(Value::Null, form),
        }
    }
}

/// The form of a value.
fn form(value: Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(text) => format!("string of {} bytes", text.len()).into(),
        Value::Array(values) => values.into_iter().map(form).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, form(value))).collect(),
    }
}

impl Queue {
    /// The dead letters that are meant, the oldest first, at most so many: with their data, for programs.
    ///
    /// # Errors
    ///
    /// When the engine cannot say.
    pub async fn dead_letters(&self, filter: &DeadFilter, most: usize) -> Result<Vec<DeadLetter>, EngineError> {
        self.each_dead(filter, most, |letter| letter).await
    }

    /// This of each dead letter that is meant, a page of them in memory at a time.
    async fn each_dead<T>(
        &self,
        filter: &DeadFilter,
        most: usize,
        take: impl Fn(DeadLetter) -> T,
    ) -> Result<Vec<T>, EngineError> {
        let mut found = Vec::new();
        let mut last = None;
        while found.len() < most {
            let page = self.engine.dead(last.as_ref(), PAGE).await?;
            let Some(end) = page.last().cloned() else { break };
            let meant = page.into_iter().filter(|letter| filter.holds(letter));
            found.extend(meant.take(most - found.len()).map(&take));
            last = Some(end);
        }
        Ok(found)
    }

    /// The same as people may see them: without the values of their data.
    ///
    /// # Errors
    ///
    /// When the engine cannot say.
    pub async fn inspect_dead_letters(
        &self,
        filter: &DeadFilter,
        most: usize,
    ) -> Result<Vec<DeadLetterView>, EngineError> {
        self.each_dead(filter, most, Into::into).await
    }

    /// Puts the dead letters that are meant back into the queue, at most so many a second, with all their attempts before
    /// them. Answers how many it were. Cancelled, some are back and some are not.
    ///
    /// # Errors
    ///
    /// When the engine fails; what is back by then stays so.
    ///
    /// # Panics
    ///
    /// When `per_second` is 0.
    pub async fn replay(&self, filter: &DeadFilter, per_second: u32) -> Result<u64, EngineError> {
        assert!(per_second > 0, "a replay of 0 jobs a second never ends");
        // A batch ten times a second; one at a time when there are fewer.
        let batch = (per_second / 10).max(1);
        let mut ticks = interval(Duration::from_secs(1) * batch / per_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut replayed = 0;
        for ids in self.ids_of_dead(filter).await?.chunks(batch as usize) {
            ticks.tick().await;
            replayed += self.engine.replay(ids, self.clock.now()).await?;
        }
        Ok(replayed)
    }

    /// Throws the dead letters away that are meant. Answers how many it were.
    ///
    /// # Errors
    ///
    /// When the engine fails; what is gone by then stays so.
    pub async fn discard(&self, filter: &DeadFilter) -> Result<u64, EngineError> {
        let mut discarded = 0;
        for ids in self.ids_of_dead(filter).await?.chunks(PAGE) {
            discarded += self.engine.discard(ids).await?;
        }
        Ok(discarded)
    }

    async fn ids_of_dead(&self, filter: &DeadFilter) -> Result<Vec<JobId>, EngineError> {
        if let DeadFilter { ids: Some(ids), kind: None, key: None, reason: None, before: None } = filter {
            // Nobody has to be asked which these are; of what is no dead letter engines leave their hands.
            return Ok(ids.clone());
        }
        self.each_dead(filter, usize::MAX, |letter| letter.envelope.id).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_data_only_the_form_is_shown() {
        let data = json!({ "card": "4111", "amount": 17, "lines": [{ "gift": true, "note": null }] });
        let shown = form(data);
        let lines = json!([{ "gift": "bool", "note": null }]);
        assert_eq!(shown, json!({ "card": "string of 4 bytes", "amount": "number", "lines": lines }));
    }
}
