use std::borrow::Cow;
use std::sync::Arc;

use crate::context::Value;

/// What a field of `#[observe]` can record as it is: numbers, texts, booleans, and options of them.
///
/// Whatever else is displayed or debugged: `fields(%order, request = ?request)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be recorded as a field",
    note = "write `%` before it to record what it displays, or `?` for what it debugs",
    note = "a type of one's own can implement `buttress::function::FieldValue`"
)]
pub trait FieldValue {
    /// The value of the attribute; none where there is nothing to tell.
    fn field_value(&self) -> Option<Value>;
}

macro_rules! field_values {
    ($($number:ty => $as:ty),* $(,)?) => {
        $(impl FieldValue for $number {
            fn field_value(&self) -> Option<Value> {
                Some(Value::from(<$as>::from(*self)))
            }
        })*
    };
}

field_values! {
    bool => bool, i8 => i32, i16 => i32, i32 => i32, i64 => i64, u8 => u32, u16 => u32, u32 => u32, u64 => u64,
    usize => usize, f32 => f64, f64 => f64, char => String,
}

impl FieldValue for isize {
    fn field_value(&self) -> Option<Value> {
        (*self as i64).field_value()
    }
}

impl FieldValue for str {
    fn field_value(&self) -> Option<Value> {
        Some(Value::from(self.to_owned()))
    }
}

impl FieldValue for String {
    fn field_value(&self) -> Option<Value> {
        self.as_str().field_value()
    }
}

impl FieldValue for Cow<'_, str> {
    fn field_value(&self) -> Option<Value> {
        (**self).field_value()
    }
}

impl FieldValue for Value {
    fn field_value(&self) -> Option<Value> {
        Some(self.clone())
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn field_value(&self) -> Option<Value> {
        self.as_ref()?.field_value()
    }
}

macro_rules! passed_on {
    ($($pointer:ty),*) => {
        $(impl<T: FieldValue + ?Sized> FieldValue for $pointer {
            fn field_value(&self) -> Option<Value> {
                (**self).field_value()
            }
        })*
    };
}

passed_on!(&T, &mut T, Box<T>, Arc<T>);
