use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Text that is never changed: to clone it copies nothing, so that a span goes from ring to exporter as it is.
///
/// ```
/// use buttress::context::Text;
///
/// let text = Text::from(String::from("an order"));
/// assert_eq!(text.clone(), "an order");
/// assert_eq!(Text::from("GET").as_static(), Some("GET"));
/// ```
#[derive(Clone)]
pub struct Text(Storage);

#[derive(Clone)]
enum Storage {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Storage::Static(text) => text,
            Storage::Shared(text) => text,
        }
    }

    /// The text, if the program holds it anyway.
    pub fn as_static(&self) -> Option<&'static str> {
        match self.0 {
            Storage::Static(text) => Some(text),
            Storage::Shared(_) => None,
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Storage::Static(text))
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self(Storage::Shared(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Storage::Shared(text.into()))
    }
}

impl From<Cow<'static, str>> for Text {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Text> for Arc<str> {
    /// Copies what is static.
    fn from(text: Text) -> Self {
        match text.0 {
            Storage::Static(text) => text.into(),
            Storage::Shared(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
