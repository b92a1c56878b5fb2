//! `tracestate`: what tracing systems tell their own kind along the trace (W3C Trace Context level 2, section 3.3).

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::list::{self, Class};

pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The members of a `tracestate`, most recent first.
///
/// Kept as the header that came: cloning it is a reference count, passing it on allocates nothing, and it is written
/// anew only when a member changes or the whole is longer than [`TraceState::MAX_LENGTH`].
///
/// ```
/// use buttress::context::TraceState;
///
/// let mut state = TraceState::parse([b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7".as_slice()])?;
/// assert_eq!(state.get("rojo"), Some("00f067aa0ba902b7"));
/// state.insert("rojo", "b7ad6b7169203331")?;
/// assert_eq!(state.as_str(), "rojo=b7ad6b7169203331,congo=t61rcWkgMzE");
/// # Ok::<(), buttress::context::TraceStateError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TraceState(Option<HeaderValue>);

impl TraceState {
    /// More members than this make the whole invalid.
    pub const MAX_MEMBERS: usize = 32;
    /// Longer states lose whole members until they fit: those over 128 characters first, then from the right.
    /// W3C asks for at least 512.
    pub const MAX_LENGTH: usize = 2048;
    const MAX_KEY: usize = 256;
    const MAX_VALUE: usize = 256;
    const LONG_MEMBER: usize = 128;

    /// No member at all, for constants.
    pub const EMPTY: Self = Self(None);

    /// Reads the values of all `tracestate` headers, in order.
    ///
    /// Empty members and white space around members are dropped; of a repeated key the first member stays.
    ///
    /// # Errors
    ///
    /// [`TraceStateError`] for a malformed member or more than 32: the whole state has to be dropped then.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, TraceStateError> {
        let members = Members::read(values)?;
        Ok(Self(members.join(0)))
    }

    /// Reads the `tracestate` of a request; the empty state when there is none.
    ///
    /// A single header that needs no change is kept as it is, without copying it.
    ///
    /// # Errors
    ///
    /// As [`TraceState::parse`].
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, TraceStateError> {
        let mut values = headers.get_all(&TRACESTATE).iter();
        let Some(first) = values.next() else {
            return Ok(Self::default());
        };
        if values.next().is_some() {
            return Self::parse(headers.get_all(&TRACESTATE).iter().map(HeaderValue::as_bytes));
        }
        if first.len() <= Self::MAX_LENGTH && is_plain(first.as_bytes()) {
            return Ok(Self(Some(first.clone())));
        }
        let members = Members::read([first.as_bytes()])?;
        if members.length() == first.len() && members.fits() {
            return Ok(Self((!first.is_empty()).then(|| first.clone())));
        }
        Ok(Self(members.join(0)))
    }

    /// The value of this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Keys and values, most recent first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.as_str().split(',').filter_map(|member| member.split_once('='))
    }

    /// Puts this member leftmost and drops an older one of the same key.
    ///
    /// Where that makes the state too long or too many, others have to go, never this one.
    ///
    /// # Errors
    ///
    /// [`TraceStateError`] when the key or the value does not fit the grammar; the state is unchanged then.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), TraceStateError> {
        let member = [key, "=", value].concat();
        split(member.as_bytes())?;
        if value.len() != value.trim_end_matches(' ').len() {
            return Err(TraceStateError::Value);
        }
        let rest = self.as_str().split(',').filter(|old| !old.is_empty() && key_of(old) != key);
        let mut members = Members::default();
        for member in std::iter::once(member.as_str()).chain(rest.take(Self::MAX_MEMBERS - 1)) {
            members.push(member.as_bytes())?;
        }
        let joined = members.join(1);
        *self = Self(joined);
        Ok(())
    }

    /// Drops the member of this key.
    pub fn remove(&mut self, key: &str) {
        if self.get(key).is_some() {
            let rest = self.as_str().split(',').filter(|member| key_of(member) != key);
            *self = Self(list::join(rest.map(str::as_bytes)));
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The header to send; `None` when there is no member, since an empty header is never sent.
    pub fn header(&self) -> Option<&HeaderValue> {
        self.0.as_ref()
    }

    /// The members as they are sent.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceState({:?})", self.as_str())
    }
}

fn key_of(member: &str) -> &str {
    member.split_once('=').map_or(member, |(key, _)| key)
}

/// The members while they are read: slices of the headers, on the stack, bounded before anything is allocated.
struct Members<'a> {
    found: [&'a [u8]; TraceState::MAX_MEMBERS],
    count: usize,
}

impl Default for Members<'_> {
    fn default() -> Self {
        Self { found: [&[]; TraceState::MAX_MEMBERS], count: 0 }
    }
}

impl<'a> Members<'a> {
    fn read(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, TraceStateError> {
        let mut members = Self::default();
        for member in values.into_iter().flat_map(list::members) {
            members.push(member)?;
        }
        Ok(members)
    }

    fn push(&mut self, member: &'a [u8]) -> Result<(), TraceStateError> {
        let (key, _) = split(member)?;
        let repeated = self.as_slice().iter().any(|old| old.starts_with(key) && old.get(key.len()) == Some(&b'='));
        if repeated {
            return Ok(());
        }
        if self.count == TraceState::MAX_MEMBERS {
            return Err(TraceStateError::Members);
        }
        self.found[self.count] = member;
        self.count += 1;
        Ok(())
    }

    fn as_slice(&self) -> &[&'a [u8]] {
        &self.found[..self.count]
    }

    /// What the members take when they are joined.
    fn length(&self) -> usize {
        let members: usize = self.as_slice().iter().map(|member| member.len()).sum();
        members + self.count.saturating_sub(1)
    }

    fn fits(&self) -> bool {
        self.length() <= TraceState::MAX_LENGTH
    }

    /// Cuts whole members until the rest fits, but none of the `kept` leftmost.
    fn join(mut self, kept: usize) -> Option<HeaderValue> {
        while !self.fits() {
            let others = &self.as_slice()[kept..];
            let long = others.iter().rposition(|member| member.len() > TraceState::LONG_MEMBER);
            let cut = long.map_or(self.count - 1, |at| kept + at);
            self.found.copy_within(cut + 1..self.count, cut);
            self.count -= 1;
        }
        list::join(self.as_slice().iter().copied())
    }
}

/// Whether these are members that differ in their keys, and nothing else: one pass over what nearly always comes. What is not
/// plain need not be wrong.
fn is_plain(mut rest: &[u8]) -> bool {
    let (mut keys, mut count) = ([0; TraceState::MAX_MEMBERS], 0);
    loop {
        let (mut hash, mut equals) = (0_u32, 0);
        while let Some(&byte) = rest.get(equals)
            && KEY.has(byte)
        {
            hash = hash.wrapping_mul(31).wrapping_add(byte.into());
            equals += 1;
        }
        let starts = rest.first().is_some_and(u8::is_ascii_alphanumeric);
        if !starts || equals > TraceState::MAX_KEY || rest.get(equals) != Some(&b'=') {
            return false;
        }
        let value = &rest[equals + 1..];
        let end = VALUE.run(value);
        // A space at the end is not part of it.
        if !(1..=TraceState::MAX_VALUE).contains(&end) || value[end - 1] == b' ' {
            return false;
        }
        // Keys that only look alike are told apart by whoever is more exact.
        if count == keys.len() || keys[..count].contains(&hash) {
            return false;
        }
        keys[count] = hash;
        count += 1;
        match value.get(end) {
            None => return true,
            Some(b',') => rest = &value[end + 1..],
            Some(_) => return false,
        }
    }
}

static KEY: Class = Class::new(b"abcdefghijklmnopqrstuvwxyz0123456789_-*/@");
static VALUE: Class = Class::printable_but(b",=");

/// Key and value of one member, both checked.
fn split(member: &[u8]) -> Result<(&[u8], &[u8]), TraceStateError> {
    let equals = member.iter().position(|byte| *byte == b'=').ok_or(TraceStateError::Key)?;
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let first_is_fine = matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'));
    if !first_is_fine || key.len() > TraceState::MAX_KEY || KEY.run(key) < key.len() {
        return Err(TraceStateError::Key);
    }
    let value_is_fine = !value.is_empty() && value.len() <= TraceState::MAX_VALUE && VALUE.run(value) == value.len();
    if !value_is_fine {
        return Err(TraceStateError::Value);
    }
    Ok((key, value))
}

/// Why a `tracestate` was dropped; the `traceparent` is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceStateError {
    /// A key outside the grammar.
    Key,
    /// A value outside the grammar.
    Value,
    /// More than 32 members.
    Members,
}

impl fmt::Display for TraceStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a tracestate key is 1 to 256 of a-z 0-9 _ - * / @ and starts with a letter or a digit",
            Self::Value => {
                "a tracestate value is 1 to 256 printable ASCII characters without ',' and '=' that do not end in a space"
            }
            Self::Members => "a tracestate has at most 32 members",
        })
    }
}

impl std::error::Error for TraceStateError {}
