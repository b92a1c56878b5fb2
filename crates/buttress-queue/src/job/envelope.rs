use std::sync::Arc;

use buttress::context::{Baggage, Context, TraceContext, TraceState};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{JobId, Priority};

/// A job as it is kept: what every engine stores, and what goes over the wire of those that have one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Envelope {
    /// Of this form: 1.
    pub v: u8,
    /// Its id.
    pub id: JobId,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// When it was pushed, in Unix milliseconds.
    pub created: u64,
    /// The trace that it was pushed in.
    #[serde(flatten)]
    pub trace: Trace,
    /// Its data: JSON.
    pub data: Box<RawValue>,
}

/// The W3C headers of the context that a job was pushed in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Box<str>>,
    /// `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<Box<str>>,
    /// `baggage`, as much of it as may be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baggage: Option<Box<str>>,
}

impl Envelope {
    /// The number of this form.
    pub(crate) const VERSION: u8 = 1;

    /// A job of normal priority, about nothing, pushed in no trace.
    pub fn new(id: JobId, kind: impl Into<Arc<str>>, created: u64, data: Box<RawValue>) -> Self {
        let (kind, priority) = (kind.into(), Priority::default());
        Self { v: Self::VERSION, id, kind, priority, key: None, created, trace: Trace::default(), data }
    }

    /// The bytes that it is counted as: its data, its texts, and what keeping it costs.
    pub fn size(&self) -> u64 {
        const KEEPING: usize = 128;
        let texts = [&self.trace.traceparent, &self.trace.tracestate, &self.trace.baggage];
        let trace: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let key = self.key.as_ref().map_or(0, |key| key.len());
        (KEEPING + self.id.as_str().len() + self.kind.len() + key + trace + self.data.get().len()) as u64
    }
}

impl Trace {
    /// The current context, with the members of its baggage that may be kept.
    pub(crate) fn current(keep: &[Box<str>]) -> Self {
        buttress::context::with_current(|context| context.map(|context| Self::of(context, keep)).unwrap_or_default())
    }

    fn of(context: &Context, keep: &[Box<str>]) -> Self {
        let mut baggage = context.baggage().clone();
        baggage.retain(|key| keep.iter().any(|kept| **kept == *key));
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        let parent = context.recorded().unwrap_or_else(|| context.trace());
        Self {
            traceparent: Some(String::from_utf8_lossy(&parent.encode()).into()),
            tracestate: text(context.tracestate().as_str()),
            baggage: text(baggage.as_str()),
        }
    }

    /// The context that is written here, if one is. Of what cannot be read nothing is taken: who pushes may be anybody.
    pub fn context(&self) -> Option<Context> {
        let parent = TraceContext::parse(self.traceparent.as_ref()?.as_bytes()).ok()?;
        let bytes = |text: &Option<Box<str>>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let state = bytes(&self.tracestate);
        let state = TraceState::parse(state.iter().map(Vec::as_slice)).unwrap_or_default();
        let baggage = bytes(&self.baggage);
        let baggage = Baggage::parse(baggage.iter().map(Vec::as_slice));
        Some(Context::from_trace(parent).with_tracestate(state).with_baggage(baggage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_of_the_producer_is_read_back() {
        let mut baggage = Baggage::default();
        baggage.insert("flow", "17").unwrap();
        baggage.insert("secret", "x").unwrap();
        let producer = Context::root().with_baggage(baggage);
        let trace = producer.enter(|| Trace::current(&["flow".into()]));
        let read = trace.context().unwrap();
        assert_eq!(read.trace_id(), producer.trace_id());
        assert_eq!(read.baggage().as_str(), "flow=17");
    }

    #[test]
    fn it_is_written_as_one_object_and_read_again() {
        let mut envelope = Envelope::new(
            JobId::new("order-17").unwrap(),
            "order.created",
            1_800_000_000_000,
            RawValue::NULL.to_owned(),
        );
        envelope.data = serde_json::value::to_raw_value(&[17]).unwrap();
        envelope.priority = Priority::High;
        envelope.key = Some("acme".into());
        envelope.trace = Trace {
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            tracestate: Some("a=b".into()),
            baggage: Some("flow=17".into()),
        };
        let written = r#"{"v":1,"id":"order-17","type":"order.created","priority":"high","key":"acme","#.to_owned()
            + r#""created":1800000000000,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","#
            + r#""tracestate":"a=b","baggage":"flow=17","data":[17]}"#;
        assert_eq!(serde_json::to_string(&envelope).unwrap(), written);
        let read: Envelope = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
    }

    #[test]
    fn a_trace_that_cannot_be_read_is_none() {
        let trace = Trace { traceparent: Some("00-nonsense".into()), ..Trace::default() };
        assert!(trace.context().is_none());
        assert!(Trace::current(&[]).traceparent.is_none());
    }
}
