//! The attributes of a span while it is finished: bounded in number and in length, and what was cut is counted.

use std::borrow::Cow;

use crate::context::{Key, MAX_ATTRIBUTES, Value};
use crate::redact;

/// Longer texts are cut, in characters.
const MAX_CHARACTERS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub(super) list: Vec<(Key, Value)>,
    pub(super) dropped: u32,
    pub(super) cut: u32,
}

impl Attributes {
    /// None yet, in the memory of others.
    pub(super) fn within(mut list: Vec<(Key, Value)>) -> Self {
        list.clear();
        Self { list, ..Self::default() }
    }

    #[inline]
    pub(super) fn push(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        if self.list.len() < MAX_ATTRIBUTES {
            let mut value = value.into();
            if is_long(&value) {
                value = self.bounded(value);
            }
            self.list.push((key.into(), value));
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn push_some(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.push(key, value);
        }
    }

    /// An attribute from user code: a later value replaces an earlier one, and secrets are taken out.
    pub(super) fn set(&mut self, key: Key, value: Value) {
        let value = redacted(&key, value);
        match self.list.iter().position(|(name, _)| *name == key) {
            Some(at) => self.list[at].1 = self.bounded(value),
            None => self.push(key, value),
        }
    }

    /// A name from user code, without secrets and not too long.
    pub(super) fn text(&mut self, text: Cow<'static, str>) -> Cow<'static, str> {
        let clean = match redact::text(&text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(clean) => Some(clean),
        };
        let text = clean.map_or(text, Cow::Owned);
        match self.cut(&text) {
            Some(start) => Cow::Owned(start.to_owned()),
            None => text,
        }
    }

    fn bounded(&mut self, value: Value) -> Value {
        match value {
            Value::Text(text) => match self.cut(&text) {
                Some(start) => start.to_owned().into(),
                None => Value::Text(text),
            },
            Value::Texts(mut texts) => {
                self.cut += u32::from(texts.len() > MAX_ATTRIBUTES);
                texts.truncate(MAX_ATTRIBUTES);
                texts.iter_mut().for_each(|text| {
                    if let Some(length) = self.cut(text).map(str::len) {
                        text.truncate(length);
                    }
                });
                Value::Texts(texts)
            }
            other => other,
        }
    }

    /// What is left of a text that is too long, counted.
    fn cut<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        if text.len() <= MAX_CHARACTERS {
            return None;
        }
        let (end, _) = text.char_indices().nth(MAX_CHARACTERS)?;
        self.cut += 1;
        Some(&text[..end])
    }
}

/// Whether a value may have to be cut; most are short.
#[inline]
fn is_long(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.len() > MAX_CHARACTERS,
        Value::Texts(_) => true,
        _ => false,
    }
}

/// The value of a user's attribute without secrets.
fn redacted(key: &str, value: Value) -> Value {
    match value {
        Value::Text(_) | Value::Texts(_) if redact::is_sensitive_key(key) => redact::REDACTED.into(),
        Value::Text(text) => match redact::text(&text) {
            Cow::Borrowed(_) => Value::Text(text),
            Cow::Owned(clean) => clean.into(),
        },
        Value::Texts(texts) => Value::Texts(texts.iter().map(|text| redact::text(text).into_owned()).collect()),
        other => other,
    }
}
