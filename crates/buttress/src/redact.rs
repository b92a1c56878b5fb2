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

/// Or when it contains one of these, the shortest first. Among them the keys that OpenTelemetry names: `X-Amz-Signature`,
/// `X-Amz-Credential`, `X-Amz-Security-Token`, `AWSAccessKeyId`, `Signature`, `sig`, `X-Goog-Signature`.
const CONTAINED: [&str; 17] = [
    "csrf",
    "token",
    "secret",
    "passwd",
    "apikey",
    "cookie",
    "session",
    "authkey",
    "password",
    "accesskey",
    "signature",
    "passphrase",
    "privatekey",
    "credential",
    "accountkey",
    "authorization",
    "subscriptionkey",
];

/// Headers that are never captured, but by a switch whose name says `unsafe`.
const FORBIDDEN_HEADERS: [HeaderName; 4] =
    [http::header::AUTHORIZATION, http::header::PROXY_AUTHORIZATION, http::header::COOKIE, http::header::SET_COOKIE];

/// Whether a value under this key is a secret: of a query parameter, a form field, an attribute.
pub fn is_sensitive_key(key: &str) -> bool {
    if key.len() > MOST_KEYS {
        return is_sensitive_when_decoded(key);
    }
    let (mut plain, mut length) = ([0; MOST_KEYS], 0);
    for byte in key.bytes() {
        if byte == b'%' || !byte.is_ascii() {
            return is_sensitive_when_decoded(key);
        }
        if !is_between_words(byte as char) {
            plain[length] = byte.to_ascii_lowercase();
            length += 1;
        }
    }
    is_secret(&plain[..length])
}

/// Most keys are shorter, and spared a string.
const MOST_KEYS: usize = 32;

#[inline(never)]
fn is_sensitive_when_decoded(key: &str) -> bool {
    // Twice, as a proxy and the server behind it would.
    let decoded = percent_decoded(&percent_decoded(key)).into_owned();
    let plain: String = decoded.chars().filter(|c| !is_between_words(*c)).flat_map(char::to_lowercase).collect();
    is_secret(plain.as_bytes())
}

fn is_between_words(c: char) -> bool {
    matches!(c, '-' | '_' | '.' | ' ' | '+' | '[' | ']' | '$')
}

/// Of a key in lower case, without what stands between its words.
fn is_secret(plain: &[u8]) -> bool {
    let contains = |part: &str| plain.windows(part.len()).any(|window| window == part.as_bytes());
    let mut short_enough = CONTAINED.iter().take_while(|part| part.len() <= plain.len());
    EXACT.iter().any(|name| name.as_bytes() == plain) || short_enough.any(|part| contains(part))
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

/// Text with the secrets in it replaced: userinfo of URLs, and the values of sensitive keys in paths, queries and words
/// such as `password=..`.
pub fn text(text: &str) -> Cow<'_, str> {
    if !has_any(text, const { &Marks::of(b"?&#@;=%{") }) {
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
        Some(at) => word.split_at(at),
        None => (word, ""),
    };
    let (mark, rest) = query_part.split_at(query_part.len().min(1));
    match (path(start), pairs(rest, '&')) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Cow::Borrowed(word),
        (start, rest) => Cow::Owned(format!("{start}{mark}{rest}")),
    }
}

/// Everything before the query: userinfo, and segments that hold `;token=..` or an encoded URL with a secret.
fn path(start: &str) -> Cow<'_, str> {
    let named = userinfo(start);
    let segments: Vec<Cow<'_, str>> = named.split('/').map(|segment| pairs(segment, ';')).collect();
    match segments.iter().all(|segment| matches!(segment, Cow::Borrowed(_))) {
        true => named,
        false => Cow::Owned(segments.join("/")),
    }
}

/// Each `//user:password@host` without user and password.
fn userinfo(start: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    for (slashes, _) in start.match_indices("//") {
        let authority = slashes + 2;
        let end = start[authority..].find(['/', '?', '#']).map_or(start.len(), |length| authority + length);
        if let Some(at) = start[authority..end].rfind('@') {
            out.push_str(&start[copied..authority]);
            out.push_str(REDACTED);
            out.push(':');
            out.push_str(REDACTED);
            copied = authority + at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(start);
    }
    out.push_str(&start[copied..]);
    Cow::Owned(out)
}

fn pairs(query: &str, separator: char) -> Cow<'_, str> {
    if query.split([separator, ';']).all(|pair| shown_of(pair).is_none()) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    for piece in query.split_inclusive([separator, ';']) {
        let pair = piece.trim_end_matches([separator, ';']);
        match shown_of(pair) {
            Some(shown) => {
                out.push_str(shown);
                out.push_str(REDACTED);
                out.push_str(&piece[pair.len()..]);
            }
            None => out.push_str(piece),
        }
    }
    Cow::Owned(out)
}

/// What of a pair may be shown (`key=`, or nothing where there is no key), if its value is a secret or a URL with one.
fn shown_of(pair: &str) -> Option<&str> {
    // Byte by byte: pairs are short, and a search that is good at long texts takes its time to begin.
    let (key, value) = match pair.bytes().position(|byte| byte == b'=') {
        Some(equals) => pair.split_at(equals + 1),
        None => ("", pair),
    };
    let hidden = !value.is_empty() && (is_sensitive_key(key.strip_suffix('=').unwrap_or(key)) || nested_secret(value));
    hidden.then_some(key)
}

fn nested_secret(value: &str) -> bool {
    // Nothing in it that could begin a pair, an encoded one, or an authority.
    if !has_any(value, const { &Marks::of(b"?&#;,{}%/") }) {
        return false;
    }
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

/// Which bytes are looked for.
struct Marks([bool; 256]);

impl Marks {
    const fn of(mut marks: &[u8]) -> Self {
        let mut all = [false; 256];
        while let [mark, rest @ ..] = marks {
            all[*mark as usize] = true;
            marks = rest;
        }
        Self(all)
    }
}

/// Most texts have none of them, and are looked through for that alone.
fn has_any(text: &str, marks: &Marks) -> bool {
    text.bytes().any(|byte| marks.0[usize::from(byte)])
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
            "%2574oken=S3",
            "https://bob:S3@host/",
            "https%3A%2F%2Fbob%3AS3%40host",
        ] {
            assert!(!query(attack).contains("S3"), "{attack} became {}", query(attack));
        }
    }

    #[test]
    fn short_keys_are_judged_as_long_ones_are() {
        let parts = ["", "a", "TOKEN", "x-", "_key", "Sig", "csrf", "ses.sion", "pass", "wd", " ", "[]", "$"];
        for (first, second, third) in
            parts.iter().flat_map(|a| parts.iter().flat_map(move |b| parts.map(|c| (a, b, c))))
        {
            let key = format!("{first}{second}{third}");
            assert_eq!(is_sensitive_key(&key), is_sensitive_when_decoded(&key), "{key}");
        }
    }

    #[test]
    fn the_shortest_parts_come_first_and_each_is_found_alone_and_within() {
        assert!(CONTAINED.is_sorted_by_key(|part| part.len()));
        for part in CONTAINED {
            assert!(is_sensitive_key(part) && is_sensitive_key(&format!("my-{part}s")), "{part}");
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
        assert_eq!(text("http://h//u:p@g"), "http://h//REDACTED:REDACTED@g");
    }

    #[test]
    fn secrets_before_the_query_are_hidden() {
        for attack in [
            "/cart;jsessionid=S3/items",
            "http://h/proxy/https://bob:S3@g/x",
            "/proxy/https%3A%2F%2Fbob%3AS3%40g/x",
            "/proxy/https%3A%2F%2Fg%3Ftoken%3DS3",
            "password=S3",
            "{\"password\":\"S3\"}",
        ] {
            assert!(!text(attack).contains("S3"), "{attack} became {}", text(attack));
        }
        assert_eq!(text("/cart;jsessionid=S3/items"), "/cart;jsessionid=REDACTED/items");
        assert_eq!(text("Mozilla/5.0 (X11; Linux; rv:1) a@b"), "Mozilla/5.0 (X11; Linux; rv:1) a@b");
    }
}
