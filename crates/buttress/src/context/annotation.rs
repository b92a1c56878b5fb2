//! What a handler adds to the span that is being recorded around it.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::text::Text;
use crate::clock::Instant;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    I64(i64),
    /// A number.
    F64(f64),
    /// Text; cut at 256 characters when the span is finished.
    Text(Text),
    /// Several texts, as OpenTelemetry asks for captured headers.
    Texts(Vec<String>),
}

/// The name of an attribute.
pub type Key = Cow<'static, str>;

macro_rules! value_from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool, i64 => I64, i32 => I64, u32 => I64, u16 => I64, f64 => F64, f32 => F64,
    &'static str => Text, String => Text, Cow<'static, str> => Text, Arc<str> => Text, Text => Text,
}

impl From<u64> for Value {
    /// Saturates at `i64::MAX`: OpenTelemetry has no unsigned attributes.
    fn from(value: u64) -> Self {
        Self::I64(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Texts(values) => f.debug_list().entries(values).finish(),
        }
    }
}

/// Attributes and events that user code added; empty, and free of any lock, until the first one.
#[derive(Debug, Default)]
pub(crate) struct Annotations(OnceLock<Box<Mutex<Notes>>>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) attributes: Vec<(Key, Value)>,
    pub(crate) events: Vec<Event>,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) dropped_attributes: u32,
    pub(crate) dropped_events: u32,
}

/// Something that happened at one moment of a span.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "trace"), allow(dead_code, reason = "read where spans are finished"))]
pub(crate) struct Event {
    pub(crate) name: Cow<'static, str>,
    pub(crate) at: Instant,
    pub(crate) attributes: Vec<(Key, Value)>,
}

/// OpenTelemetry's default limits (`OTEL_SPAN_EVENT_COUNT_LIMIT` is 128); attributes are the house's 64.
pub(crate) const MAX_ATTRIBUTES: usize = 64;
const MAX_EVENTS: usize = 128;

impl Annotations {
    pub(crate) fn set_attribute(&self, key: Key, value: Value) {
        self.with(|notes| {
            if let Some(old) = notes.attributes.iter_mut().find(|(name, _)| *name == key) {
                old.1 = value;
            } else if notes.attributes.len() < MAX_ATTRIBUTES {
                notes.attributes.push((key, value));
            } else {
                notes.dropped_attributes += 1;
            }
        });
    }

    pub(crate) fn add_event(&self, event: Event) {
        self.with(|notes| {
            if notes.events.len() < MAX_EVENTS {
                notes.events.push(event);
            } else {
                notes.dropped_events += 1;
            }
        });
    }

    pub(crate) fn set_name(&self, name: Cow<'static, str>) {
        self.with(|notes| notes.name = Some(name));
    }

    /// Takes what was added; `None` when nothing was.
    #[cfg(feature = "trace")]
    pub(crate) fn take(&self) -> Option<Notes> {
        let notes = self.0.get()?;
        Some(std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(&self, change: impl FnOnce(&mut Notes)) {
        let notes = self.0.get_or_init(Box::default);
        change(&mut notes.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
