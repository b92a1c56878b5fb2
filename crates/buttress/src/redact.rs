//! What may not be told: secrets in headers, query strings and URLs.
//!
//! Everything that a span, a log line or a page shows of a request passes through here first.
//!
//! ```
//! use buttress::redact;
//!
//! assert_eq!(redact::query("page=2&Access_Token=s3cret"), "page=2&Access_Token=REDACTED");
//! assert_eq!(redact::text("see https://bob:pw@host/a?sig=1"), "see https://REDACTED:REDACTED@host/a?sig=REDACTED");
//! ```

use std::borrow::Cow;

use http::HeaderName;

/// What stands in the place of a secret.
pub const REDACTED: &str = "REDACTED";

/// A key is sensitive when it is one of these, whatever its case and without `-`, `_`, `.` and spaces.
const EXACT: [&str; 16] = [
    "sig",
    "key",
    "pwd",
    "pass",
    "auth",
    "jwt",
    "otp",
    "pin",
    "sid",
    "code",
    "assertion",
    "credentials",
    "nonce",
    "samlresponse",
    "samlrequest",
    "bearer",
];

/// Or when it contains one of these. Among them the keys that OpenTelemetry names: `X-Amz-Signature`,
/// `X-Amz-Credential`, `X-Amz-Security-Token`, `AWSAccessKeyId`, `Signature`, `sig`, `X-Goog-Signature`.
const CONTAINED: [&str; 17] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "accesskey",
    "privatekey",
    "signature",
    "credential",
    "authorization",
    "session",
    "cookie",
    "accountkey",
    "subscriptionkey",
    "authkey",
    "csrf",
];

/// Headers that are never captured, but by a switch whose name says `unsafe`.
const FORBIDDEN_HEADERS: [HeaderName; 4] =
    [http::header::AUTHORIZATION, http::header::PROXY_AUTHORIZATION, http::header::COOKIE, http::header::SET_COOKIE];

/// Whether a value under this key is a secret: of a query parameter, a form field, an attribute.
pub fn is_sensitive_key(key: &str) -> bool {
    let plain: String = percent_decoded(key)
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | '.' | ' ' | '+' | '[' | ']' | '$'))
        .flat_map(char::to_lowercase)
        .collect();
    EXACT.contains(&plain.as_str()) || CONTAINED.iter().any(|part| plain.contains(part))
}

/// Whether this header can hold a secret: `authorization`, cookies, and every name that is a sensitive key, such as
/// `x-api-key`.
pub fn is_sensitive_header(name: &HeaderName) -> bool {
    FORBIDDEN_HEADERS.contains(name) || is_sensitive_key(name.as_str())
}

/// A query string without the values of sensitive keys, and without values that hold secrets of their own.
pub fn query(query: &str) -> Cow<'_, str> {
    pairs(query, '&')
}

/// Text with the secrets of the URLs in it replaced: userinfo, and the values of sensitive keys.
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(['?', '&', '#', '@', ';']) {
        return Cow::Borrowed(text);
    }
    let words: Vec<Cow<'_, str>> = text.split(' ').map(url).collect();
    match words.iter().all(|word| matches!(word, Cow::Borrowed(_))) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(words.join(" ")),
    }
}

fn url(word: &str) -> Cow<'_, str> {
    let (start, query_part) = match word.find(['?', '#']) {
        Some(at) => (&word[..at], &word[at..]),
        None => (word, ""),
    };
    let start = userinfo(start);
    if query_part.is_empty() {
        return start;
    }
    let (mark, rest) = query_part.split_at(1);
    match (start, pairs(rest, '&')) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Cow::Borrowed(word),
        (start, rest) => Cow::Owned(format!("{start}{mark}{rest}")),
    }
}

/// `scheme://user:password@host` without user and password.
fn userinfo(start: &str) -> Cow<'_, str> {
    let Some(authority) = start.find("//").map(|slashes| slashes + 2) else {
        return Cow::Borrowed(start);
    };
    let end = start[authority..].find('/').map_or(start.len(), |slash| authority + slash);
    match start[authority..end].rfind('@') {
        Some(at) => {
            let host = &start[authority + at..];
            Cow::Owned(format!("{}{REDACTED}:{REDACTED}{host}", &start[..authority]))
        }
        None => Cow::Borrowed(start),
    }
}

fn pairs(query: &str, separator: char) -> Cow<'_, str> {
    let hides = |pair: &str| pair.split_once('=').is_some_and(|(key, value)| hides_secret(key, value));
    if !query.split([separator, ';']).any(hides) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    for piece in query.split_inclusive([separator, ';']) {
        let pair = piece.trim_end_matches([separator, ';']);
        match pair.split_once('=') {
            Some((key, value)) if hides_secret(key, value) => {
                out.push_str(key);
                out.push('=');
                out.push_str(REDACTED);
                out.push_str(&piece[pair.len()..]);
            }
            _ => out.push_str(piece),
        }
    }
    Cow::Owned(out)
}

/// A sensitive key, or a value in which a URL with a secret is nested.
fn hides_secret(key: &str, value: &str) -> bool {
    if value.is_empty() {
        return false;
    }
    is_sensitive_key(key) || nested_secret(value)
}

fn nested_secret(value: &str) -> bool {
    let once = percent_decoded(value);
    let twice = percent_decoded(&once);
    [&once, &twice].into_iter().any(|decoded| {
        let pieces = decoded.split(['?', '&', '#', ';', ',', '{', '}']).skip(1);
        let has_pair = pieces.into_iter().any(|piece| match piece.split_once(['=', ':']) {
            Some((key, value)) => !value.is_empty() && is_sensitive_key(key.trim_matches(['"', ' ', '\''])),
            None => false,
        });
        has_pair || matches!(userinfo(decoded), Cow::Owned(_))
    })
}

pub(crate) fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_sensitive_keys_are_hidden_whatever_their_spelling() {
        for attack in [
            "token=S3",
            "Access-Token=S3",
            "API_KEY=S3",
            "aPi.kEy=S3",
            "x-amz-signature=S3",
            "AWSAccessKeyId=S3",
            "%74oken=S3",
            "pass%77ord=S3",
            "a=1;password=S3",
            "filter[token]=S3",
            "client_secret=S3&x=1",
            "sig=S3",
            "next=https%3A%2F%2Fh%2F%3Ftoken%3DS3",
            "next=https%253A%252F%252Fh%253Fapi_key%253DS3",
            "to=https://bob:S3@host/",
            "body={\"a\":1,\"password\":\"S3\"}",
            "JSESSIONID=S3",
        ] {
            assert!(!query(attack).contains("S3"), "{attack} became {}", query(attack));
        }
    }

    #[test]
    fn other_values_and_every_key_are_kept() {
        for harmless in ["", "page=2", "q=a+b&sort=asc", "flag", "token=", "a=b=c", "mail=a@b.example"] {
            assert_eq!(query(harmless), harmless);
        }
        assert_eq!(query("a=1&token=x&b=2"), "a=1&token=REDACTED&b=2");
    }

    #[test]
    fn userinfo_is_hidden_in_text() {
        assert_eq!(text("http://u:p@h:1/x"), "http://REDACTED:REDACTED@h:1/x");
        assert_eq!(text("http://u@h"), "http://REDACTED:REDACTED@h");
        assert_eq!(text("/path?x=1"), "/path?x=1");
    }
}
