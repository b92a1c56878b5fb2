//! Label sets: found by what they borrow, stored once.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::table;

/// Bytes of a label's value. Callers may choose what becomes one, and a cap on series alone would not bound their memory.
pub(super) const LONGEST_VALUE: usize = 512;

/// The value of a label, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelValue<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
}

macro_rules! value_from {
    ($($source:ty => $make:expr),* $(,)?) => {
        $(impl<'a> From<$source> for LabelValue<'a> {
            fn from(value: $source) -> Self {
                let make: fn($source) -> Self = $make;
                make(value)
            }
        })*
    };
}

value_from! {
    &'a str => Self::Text, &'a String => |text| Self::Text(text), &'a Arc<str> => |text| Self::Text(text),
    i64 => Self::Int, i32 => |number| Self::Int(number.into()), u32 => |number| Self::Int(number.into()),
    u16 => |number| Self::Int(number.into()), u8 => |number| Self::Int(number.into()), bool => Self::Bool,
}

/// What can be the value of a label; by derive (feature `derive`) an enum too.
pub trait AsLabelValue {
    /// The value; `None` where the label is left out.
    fn as_label_value(&self) -> Option<LabelValue<'_>>;
}

macro_rules! as_value {
    ($($source:ty),*) => {
        $(impl AsLabelValue for $source {
            fn as_label_value(&self) -> Option<LabelValue<'_>> {
                Some((*self).into())
            }
        })*
    };
}

as_value!(i64, i32, u32, u16, u8, bool);

impl AsLabelValue for str {
    fn as_label_value(&self) -> Option<LabelValue<'_>> {
        Some(self.into())
    }
}

impl AsLabelValue for String {
    fn as_label_value(&self) -> Option<LabelValue<'_>> {
        Some(self.into())
    }
}

impl<T: AsLabelValue> AsLabelValue for Option<T> {
    fn as_label_value(&self) -> Option<LabelValue<'_>> {
        self.as_ref()?.as_label_value()
    }
}

impl<T: AsLabelValue + ?Sized> AsLabelValue for &T {
    fn as_label_value(&self) -> Option<LabelValue<'_>> {
        (**self).as_label_value()
    }
}

impl<T: AsLabelValue + ?Sized> AsLabelValue for Arc<T> {
    fn as_label_value(&self) -> Option<LabelValue<'_>> {
        (**self).as_label_value()
    }
}

impl<T: AsLabelValue + ToOwned + ?Sized> AsLabelValue for Cow<'_, T> {
    fn as_label_value(&self) -> Option<LabelValue<'_>> {
        (**self).as_label_value()
    }
}

/// The labels of a series: arrays of pairs, `()` for none, or a type of one's own, by derive (feature `derive`) or by hand.
///
/// Order does not matter. A series is found by all of its keys and values, never by their hash alone.
///
/// ```
/// use buttress::metrics::{LabelValue, Labels, Registry};
///
/// struct Placed<'a> {
///     tenant: &'a str,
///     express: bool,
/// }
///
/// impl Labels for Placed<'_> {
///     fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
///         visit("tenant", self.tenant.into());
///         visit("express", self.express.into());
///     }
/// }
///
/// let placed = Registry::new().counter("orders.placed");
/// placed.with(Placed { tenant: "acme", express: true }).add(1);
/// placed.with([("express", true.into()), ("tenant", LabelValue::Text("acme"))]).add(1);
/// assert_eq!(placed.with(Placed { tenant: "acme", express: true }).value(), 2);
/// ```
pub trait Labels {
    /// Shows each label once.
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>));
}

impl Labels for () {
    fn visit(&self, _visit: &mut dyn FnMut(&str, LabelValue<'_>)) {}
}

impl<'a, V: Copy + Into<LabelValue<'a>>, const N: usize> Labels for [(&str, V); N] {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        self.iter().for_each(|(key, value)| visit(key, (*value).into()));
    }
}

impl Labels for [Label] {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        self.iter().for_each(|label| visit(&label.key, label.value.as_label_value()));
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn visit(&self, visit: &mut dyn FnMut(&str, LabelValue<'_>)) {
        (**self).visit(visit);
    }
}

/// A label as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// OpenTelemetry's name of the attribute, or one's own.
    pub key: Cow<'static, str>,
    /// Its value.
    pub value: Stored,
}

/// The value of a label as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stored {
    /// Text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
}

impl Label {
    pub(crate) fn new(key: impl Into<Cow<'static, str>>, value: impl Into<Stored>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

impl Stored {
    fn as_label_value(&self) -> LabelValue<'_> {
        match self {
            Self::Text(text) => LabelValue::Text(text),
            Self::Int(number) => LabelValue::Int(*number),
            Self::Bool(value) => LabelValue::Bool(*value),
        }
    }
}

impl From<LabelValue<'_>> for Stored {
    fn from(value: LabelValue<'_>) -> Self {
        match value {
            LabelValue::Text(text) => Self::Text(text.to_owned().into()),
            LabelValue::Int(number) => Self::Int(number),
            LabelValue::Bool(value) => Self::Bool(value),
        }
    }
}

impl From<&'static str> for Stored {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<Cow<'static, str>> for Stored {
    fn from(text: Cow<'static, str>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Stored {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<String> for Stored {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl PartialEq<LabelValue<'_>> for Stored {
    fn eq(&self, value: &LabelValue<'_>) -> bool {
        match (self, value) {
            (Self::Text(own), LabelValue::Text(text)) => own == text,
            (Self::Int(own), LabelValue::Int(number)) => own == number,
            (Self::Bool(own), LabelValue::Bool(value)) => own == value,
            _ => false,
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Int(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

/// The same for every order of the same labels.
pub(super) fn hash(labels: &impl Labels) -> u64 {
    let mut hash = 0_u64;
    labels.visit(&mut |key, value| {
        // Key and value at once: to begin and to finish is most of what a hash of short text costs.
        hash = hash.wrapping_add(match value {
            LabelValue::Text(text) => table::hash_of(&(key, text)),
            LabelValue::Int(number) => table::hash_of(&(key, number)),
            LabelValue::Bool(value) => table::hash_of(&(key, value)),
        });
    });
    // The sum of few low bits would crowd the slots.
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Whether these are the labels that were stored, in whatever order.
pub(super) fn are(stored: &[Label], labels: &impl Labels) -> bool {
    let (mut count, mut all) = (0, true);
    labels.visit(&mut |key, value| {
        // Nearly always in the order in which they were stored.
        let is = |label: &Label| label.key == key && label.value == value;
        all = all && (stored.get(count).is_some_and(is) || stored.iter().any(is));
        count += 1;
    });
    all && count == stored.len()
}

/// Whether no value is longer than a label's should be.
pub(super) fn fit(labels: &impl Labels) -> bool {
    let mut all = true;
    labels.visit(&mut |_, value| all &= !matches!(value, LabelValue::Text(text) if text.len() > LONGEST_VALUE));
    all
}

/// The labels in a line, each value cut at 64 characters: one that does not fit need not be copied to say so.
pub(super) fn shown(labels: &impl Labels) -> String {
    let mut shown = String::new();
    labels.visit(&mut |key, value| {
        let separator = if shown.is_empty() { "" } else { "," };
        let value = match value {
            LabelValue::Text(text) => text.chars().take(64).collect(),
            LabelValue::Int(number) => number.to_string(),
            LabelValue::Bool(value) => value.to_string(),
        };
        shown.push_str(&format!("{separator}{key}={value}"));
    });
    shown
}

pub(super) fn store(labels: &impl Labels) -> Arc<[Label]> {
    let mut stored = Vec::new();
    labels.visit(&mut |key, value| stored.push(Label::new(key.to_owned(), Stored::from(value))));
    stored.into()
}
