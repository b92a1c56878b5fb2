//! Jobs as BullMQ keeps them: fields of a hash.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ids;
use crate::job::{Envelope, Priority, Trace};

/// The numbers that BullMQ knows priorities by, the most urgent first and lowest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers(pub(super) [u32; 4]);

impl Numbers {
    pub(super) const fn of(&self, priority: Priority) -> u32 {
        self.0[priority.rank()]
    }

    /// The most urgent priority whose number is not above; normal for 0, which is what a job has that was given none.
    pub(super) fn priority(&self, number: u32) -> Priority {
        if number == 0 {
            return Priority::Normal;
        }
        let known = Priority::ALL.into_iter().rev().find(|&priority| self.of(priority) <= number);
        known.unwrap_or(Priority::Critical)
    }
}

/// What BullMQ calls options, as far as it matters to us or to workers in other languages.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    job_id: &'a str,
    priority: u32,
    #[serde(skip_serializing_if = "is_zero")]
    delay: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_on_complete: Option<Keep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_on_fail: Option<Keep>,
    /// The carrier of the producer's context, as text: what Node's telemetry writes and reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    tm: Option<String>,
}

/// For how many seconds something is kept.
#[derive(Serialize)]
struct Keep {
    age: u64,
}

impl Keep {
    fn of(age: Duration) -> Option<Self> {
        (age != Duration::MAX).then_some(Self { age: age.as_secs() })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The options of a job.
pub(super) fn options(
    envelope: &Envelope,
    priority: u32,
    delay: u64,
    remember: Duration,
    keep_dead: Duration,
) -> Result<String, serde_json::Error> {
    let tm = envelope.trace.traceparent.is_some().then(|| serde_json::to_string(&envelope.trace)).transpose()?;
    serde_json::to_string(&Options {
        job_id: &ids::encode(&envelope.id),
        priority,
        delay,
        remove_on_complete: Keep::of(remember),
        remove_on_fail: Keep::of(keep_dead),
        tm,
    })
}

/// What is read of a job; empty where there is nothing.
pub(super) struct Fields<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) data: String,
    pub(super) options: &'a str,
    pub(super) created: u64,
    pub(super) priority: &'a str,
    pub(super) key: &'a str,
}

impl Fields<'_> {
    /// The job, unless its id is none of ours.
    pub(super) fn envelope(self, numbers: &Numbers) -> Option<Envelope> {
        let priority = self.priority.parse().unwrap_or_default();
        Some(Envelope {
            v: Envelope::VERSION,
            id: ids::decode(self.id)?,
            kind: self.name.into(),
            priority: numbers.priority(priority),
            key: (!self.key.is_empty()).then(|| self.key.into()),
            created: self.created,
            trace: trace(self.options),
            data: json(self.data),
        })
    }
}

/// The trace that the options of a job carry. Of what cannot be read nothing is taken.
fn trace(options: &str) -> Trace {
    #[derive(Deserialize)]
    struct Carried {
        tm: Option<String>,
    }
    // Most jobs carry none, and their options need not be read.
    if !options.contains(r#""tm""#) {
        return Trace::default();
    }
    let carrier = serde_json::from_str::<Carried>(options).ok().and_then(|options| options.tm);
    carrier.and_then(|carrier| serde_json::from_str(&carrier).ok()).unwrap_or_default()
}

/// Data as JSON; a text that is none becomes a string.
fn json(data: String) -> Box<RawValue> {
    RawValue::from_string(data.clone())
        .unwrap_or_else(|_| serde_json::value::to_raw_value(&data).expect("a text can be written as JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    const NUMBERS: Numbers = Numbers([1, 2, 5, 10]);

    #[test]
    fn a_number_between_two_priorities_is_the_more_urgent_of_them() {
        let read = [0, 1, 2, 4, 5, 9, 10, 2_000_000].map(|number| NUMBERS.priority(number));
        use Priority::{Critical, High, Low, Normal};
        assert_eq!(read, [Normal, Critical, High, High, Normal, Normal, Low, Low]);
        assert_eq!(Numbers([3, 4, 5, 6]).priority(1), Critical);
    }

    #[test]
    fn the_trace_is_carried_where_nodes_telemetry_looks_for_it() {
        let trace = Trace {
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..Trace::default()
        };
        let envelope = Envelope {
            v: 1,
            id: JobId::new("evt:1").unwrap(),
            kind: "order".into(),
            priority: Priority::High,
            key: None,
            created: 1,
            trace: trace.clone(),
            data: json("{}".to_owned()),
        };
        let day = Duration::from_secs(86_400);
        let written = options(&envelope, 2, 0, day, Duration::MAX).unwrap();
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["jobId"], "evt%3A1");
        assert_eq!(read["removeOnComplete"]["age"], 86_400);
        assert!(read.get("removeOnFail").is_none() && read.get("delay").is_none());
        let carrier: serde_json::Value = serde_json::from_str(read["tm"].as_str().unwrap()).unwrap();
        assert_eq!(carrier["traceparent"], &**trace.traceparent.as_ref().unwrap());
        assert_eq!(super::trace(&written), trace);
        assert_eq!(super::trace(r#"{"tm":"nonsense"}"#), Trace::default());
    }

    #[test]
    fn data_that_is_no_json_is_a_string() {
        assert_eq!(json("{\"a\": 1}".to_owned()).get(), "{\"a\": 1}");
        assert_eq!(json("a b".to_owned()).get(), "\"a b\"");
    }
}
