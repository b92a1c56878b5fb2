//! `baggage`: what the application tells itself along the trace (W3C Baggage).

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::list::{self, Class};

pub(crate) static BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Names and values that travel with the trace, in the order in which they came.
///
/// Kept as the header that came: cloning it is a reference count, and passing it on allocates nothing.
///
/// ```
/// use buttress::context::Baggage;
///
/// let mut baggage = Baggage::parse([b"tenant=acme;ttl=60, note=caf%C3%A9".as_slice()]);
/// assert_eq!(baggage.get("note").as_deref(), Some("café"));
/// baggage.insert("share", "50%")?;
/// assert_eq!(baggage.as_str(), "tenant=acme;ttl=60,note=caf%C3%A9,share=50%25");
/// # Ok::<(), buttress::context::BaggageError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Baggage(Option<HeaderValue>);

/// One member of a [`Baggage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaggageMember<'a> {
    /// An RFC 9110 token, never percent-decoded.
    pub key: &'a str,
    /// The value as it travels, percent-encoded.
    pub raw_value: &'a str,
    /// What follows the first `;`, or nothing.
    pub properties: &'a str,
}

impl<'a> BaggageMember<'a> {
    /// The value percent-decoded as UTF-8; sequences that are not UTF-8 become U+FFFD.
    pub fn value(&self) -> Cow<'a, str> {
        if !self.raw_value.contains('%') {
            return Cow::Borrowed(self.raw_value);
        }
        let decoded = percent_decode(self.raw_value.as_bytes());
        Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
    }
}

impl Baggage {
    /// At most this many members are kept.
    pub const MAX_MEMBERS: usize = 64;
    /// At most this many bytes are kept, over all headers.
    pub const MAX_LENGTH: usize = 8192;
    /// No member at all, for constants.
    pub const EMPTY: Self = Self(None);

    /// Reads the values of all `baggage` headers, in order.
    ///
    /// Members with a malformed key, and whole members beyond the limits, are dropped; a value with characters that
    /// baggage does not allow is percent-encoded.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(collect(values.into_iter().flat_map(list::members)))
    }

    /// Reads the `baggage` of a request; the empty baggage when there is none.
    ///
    /// A single header that needs no change is kept as it is, without copying it.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(&BAGGAGE).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::default(),
            (Some(value), None) if passes_unchanged(value.as_bytes()) => Self(Some(value.clone())),
            _ => Self::parse(headers.get_all(&BAGGAGE).iter().map(HeaderValue::as_bytes)),
        }
    }

    /// The decoded value of the first member with this key.
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        self.iter().find(|member| member.key == key).map(|member| member.value())
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = BaggageMember<'_>> + Clone {
        list::members(self.as_str().as_bytes()).filter_map(|member| {
            let member = std::str::from_utf8(member).ok()?;
            let (key, rest) = member.split_once('=')?;
            let (raw_value, properties) = rest.split_once(';').unwrap_or((rest, ""));
            Some(BaggageMember { key: trim(key), raw_value: trim(raw_value), properties: trim(properties) })
        })
    }

    /// Sets one member: in its place when the key is there, else at the end. Percent-encodes what needs it.
    ///
    /// Of a key that is there several times one member is left, since some readers take the last.
    ///
    /// # Errors
    ///
    /// [`BaggageError`] when the key is no RFC 9110 token or the limits do not allow the member; the baggage is
    /// unchanged then.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), BaggageError> {
        if !is_token(key.as_bytes()) {
            return Err(BaggageError::Key);
        }
        // Three characters a byte at worst: refuse before encoding what could never fit.
        if key.len() + value.len() >= Self::MAX_LENGTH {
            return Err(BaggageError::Limit);
        }
        let mut member = BytesMut::with_capacity(key.len() + 1 + value.len());
        member.put_slice(key.as_bytes());
        member.put_u8(b'=');
        percent_encode(value.as_bytes(), &mut member);
        let old = self.as_str();
        let mut members: Vec<&[u8]> = list::members(old.as_bytes()).collect();
        match members.iter().position(|old| key_of(old) == key.as_bytes()) {
            Some(place) => {
                members.retain(|old| key_of(old) != key.as_bytes());
                members.insert(place, &member);
            }
            None => members.push(&member),
        }
        let length: usize = members.iter().map(|member| member.len() + 1).sum();
        if members.len() > Self::MAX_MEMBERS || length > Self::MAX_LENGTH + 1 {
            return Err(BaggageError::Limit);
        }
        *self = Self(list::join(members.into_iter()));
        Ok(())
    }

    /// Drops every member with this key.
    pub fn remove(&mut self, key: &str) {
        self.retain(|name| name != key);
    }

    /// Keeps only the members whose key the closure accepts; it is asked once for each member, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let mut keep = |member: &[u8]| std::str::from_utf8(key_of(member)).is_ok_and(&mut keep);
        let members = list::members(self.as_str().as_bytes());
        let Some(rejected) = members.clone().position(|member| !keep(member)) else {
            return;
        };
        let before = members.clone().take(rejected);
        let kept: Vec<&[u8]> = before.chain(members.skip(rejected + 1).filter(|member| keep(member))).collect();
        *self = Self(list::join(kept.into_iter()));
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The header to send; `None` when there is no member.
    pub fn header(&self) -> Option<&HeaderValue> {
        self.0.as_ref()
    }

    /// The members as they are sent.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl fmt::Debug for Baggage {
    /// Keys only: values may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|member| member.key)).finish()
    }
}

/// Whether this one header can be forwarded as the bytes that came.
fn passes_unchanged(value: &[u8]) -> bool {
    if value.len() > Baggage::MAX_LENGTH {
        return false;
    }
    let mut rest = value;
    for _ in 0..Baggage::MAX_MEMBERS {
        let Some(length) = clean_member(rest) else { return false };
        match rest.get(length) {
            None => return true,
            Some(_) => rest = &rest[length + 1..],
        }
    }
    false
}

/// The length of the first member, if it can be sent as it is.
fn clean_member(rest: &[u8]) -> Option<usize> {
    // One pass over what nearly always comes: no space, property or escape.
    let equals = TOKEN.run(rest);
    if equals > 0 && rest.get(equals) == Some(&b'=') {
        let length = equals + 1 + PLAIN.run(&rest[equals + 1..]);
        if matches!(rest.get(length), None | Some(b',')) {
            return Some(length);
        }
    }
    let length = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    checked(&rest[..length]).is_some_and(is_clean).then_some(length)
}

/// The members that are well formed and fit the limits, as one header.
fn collect<'a>(members: impl Iterator<Item = &'a [u8]>) -> Option<HeaderValue> {
    let mut out = BytesMut::new();
    let mut count = 0;
    for member in members {
        // No other fits, whatever is in it.
        if count == Baggage::MAX_MEMBERS {
            break;
        }
        let Some(rest) = checked(member) else { continue };
        let before = out.len();
        // Bounds what may be allocated: a member that cannot fit is not even encoded.
        if before + member.len() > Baggage::MAX_LENGTH {
            continue;
        }
        if before > 0 {
            out.put_u8(b',');
        }
        put_member(member, rest, &mut out);
        if out.len() > Baggage::MAX_LENGTH {
            out.truncate(before);
        } else {
            count += 1;
        }
    }
    (!out.is_empty()).then(|| list::header(out.freeze()))
}

fn put_member(member: &[u8], rest: &[u8], out: &mut BytesMut) {
    if is_clean(rest) {
        return out.put_slice(member);
    }
    out.put_slice(key_of(member));
    out.put_u8(b'=');
    let mut parts = rest.split(|byte| *byte == b';').map(list::trim);
    recode(parts.next().unwrap_or_default(), out);
    for property in parts.filter(|property| !property.is_empty()) {
        let (key, value) = split_property(property);
        out.put_u8(b';');
        recode(key, out);
        if let Some(value) = value {
            out.put_u8(b'=');
            recode(value, out);
        }
    }
}

/// What follows the `=` of a member whose key is a token.
fn checked(member: &[u8]) -> Option<&[u8]> {
    let equals = member.iter().position(|byte| *byte == b'=')?;
    is_token(list::trim(&member[..equals])).then(|| &member[equals + 1..])
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn key_of(member: &[u8]) -> &[u8] {
    let end = member.iter().position(|byte| *byte == b'=').unwrap_or(member.len());
    list::trim(&member[..end])
}

/// Key and value of one property; white space may stand around its `=`.
fn split_property(property: &[u8]) -> (&[u8], Option<&[u8]>) {
    match property.iter().position(|byte| *byte == b'=') {
        Some(equals) => (list::trim(&property[..equals]), Some(list::trim(&property[equals + 1..]))),
        None => (list::trim(property), None),
    }
}

/// Whether value and properties can be sent as they are.
fn is_clean(rest: &[u8]) -> bool {
    let mut parts = rest.split(|byte| *byte == b';');
    let value = parts.next().unwrap_or_default();
    is_encoded(list::trim(value))
        && parts.map(split_property).all(|(key, value)| is_encoded(key) && value.is_none_or(is_encoded))
}

/// Whether these are allowed characters only, and every `%` starts an escape.
fn is_encoded(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => is_escape(&bytes[at..]),
        _ => PLAIN.has(*byte),
    })
}

fn is_escape(bytes: &[u8]) -> bool {
    bytes.len() >= 3 && bytes[0] == b'%' && bytes[1].is_ascii_hexdigit() && bytes[2].is_ascii_hexdigit()
}

/// RFC 9110 `token`, at least one character.
fn is_token(key: &[u8]) -> bool {
    !key.is_empty() && TOKEN.run(key) == key.len()
}

static TOKEN: Class = Class::new(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~");

/// W3C `baggage-octet`, visible ASCII but `"` `,` `;` `\`, and no `%`, which begins an escape.
static PLAIN: Class = Class::printable_but(b" \",;\\%");

/// Escapes what must be escaped, and every `%`.
fn percent_encode(bytes: &[u8], out: &mut BytesMut) {
    for &byte in bytes {
        put_escaped(byte, PLAIN.has(byte), out);
    }
}

/// Escapes what must be escaped, and a `%` only where it starts no escape.
fn recode(bytes: &[u8], out: &mut BytesMut) {
    for (at, &byte) in bytes.iter().enumerate() {
        put_escaped(byte, PLAIN.has(byte) || is_escape(&bytes[at..]), out);
    }
}

fn put_escaped(byte: u8, plain: bool, out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if plain {
        out.put_u8(byte);
    } else {
        out.put_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0x0f)]]);
    }
}

fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        if is_escape(rest) {
            let digit = |at: usize| (rest[at] as char).to_digit(16).unwrap_or(0) as u8;
            out.push(digit(1) << 4 | digit(2));
            rest = &rest[3..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

/// Why a member was not added to a [`Baggage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaggageError {
    /// The key is no RFC 9110 token.
    Key,
    /// More than 64 members or 8192 bytes.
    Limit,
}

impl fmt::Display for BaggageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a baggage key is an RFC 9110 token: letters, digits and !#$%&'*+-.^_`|~",
            Self::Limit => "baggage holds at most 64 members and 8192 bytes",
        })
    }
}

impl std::error::Error for BaggageError {}
