//! Who called whom: proxies' headers first, then the request, then the connection.

#[cfg(feature = "metrics")]
use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Uri};

pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The scheme that the caller used, by the headers `Forwarded` and `X-Forwarded-Proto`.
pub(crate) fn scheme<'a>(forwarded: Option<&'a HeaderValue>, proto: Option<&'a HeaderValue>) -> Option<&'a str> {
    let scheme = parameter(forwarded, "proto").or_else(|| first(proto))?;
    let is_scheme = scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then_some(scheme)
}

/// A parameter of the first element of `Forwarded` (RFC 7239).
pub(crate) fn parameter<'a>(forwarded: Option<&'a HeaderValue>, name: &str) -> Option<&'a str> {
    first(forwarded)?.split(';').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| {
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"')).filter(|value| !value.is_empty())
    })
}

pub(crate) fn first(header: Option<&HeaderValue>) -> Option<&str> {
    let first = header?.to_str().ok()?.split(',').next()?.trim();
    (!first.is_empty()).then_some(first)
}

/// Address and port of `host`, `host:port`, `[v6]`, `[v6]:port` or a bare v6 address.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (address, after.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        Some(_) => (authority, None),
        None => (authority, None),
    }
}

/// A server's authority in one of the ways in which it can be written: without a port where the scheme says it.
#[cfg(feature = "metrics")]
pub(crate) fn canonical<'a>(authority: &'a str, scheme: &str) -> Cow<'a, str> {
    let has_colon = |text: &str| text.bytes().any(|byte| byte == b':');
    let digits = authority.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (before, port) = authority.split_at(authority.len() - digits);
    // As nearly all are written: clients have it done for each request.
    match before.strip_suffix(':') {
        None if !has_colon(before) => return Cow::Borrowed(authority),
        Some(address) if !port.starts_with('0') && !has_colon(address) => {
            if let Ok(port) = port.parse() {
                return Cow::Borrowed(if default_port(scheme) == Some(port) { address } else { authority });
            }
        }
        _ => {}
    }
    rewritten(authority, scheme)
}

#[cold]
#[cfg(feature = "metrics")]
fn rewritten<'a>(authority: &'a str, scheme: &str) -> Cow<'a, str> {
    let (address, port) = split_port(authority);
    match port.filter(|port| default_port(scheme) != Some(*port)) {
        None => Cow::Borrowed(address),
        Some(port) if address.contains(':') => Cow::Owned(format!("[{address}]:{port}")),
        Some(port) => Cow::Owned(format!("{address}:{port}")),
    }
}

/// The authority without its userinfo, as a span may show it.
pub(crate) fn authority<'a>(uri: &'a Uri, host: Option<&'a HeaderValue>) -> Option<&'a str> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => host?.to_str().ok()?,
    };
    Some(authority.rsplit('@').next().unwrap_or(authority))
}

pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_however_its_port_is_written() {
        let written = [
            ("shop.example", "http", "shop.example"),
            ("shop.example:80", "http", "shop.example"),
            ("shop.example:080", "http", "shop.example"),
            ("shop.example:", "http", "shop.example"),
            ("shop.example:80", "https", "shop.example:80"),
            ("shop.example:8080", "http", "shop.example:8080"),
            ("shop.example:08080", "http", "shop.example:8080"),
            ("shop.example:65535", "http", "shop.example:65535"),
            // None at all.
            ("shop.example:65536", "http", "shop.example"),
            ("10.0.0.1", "http", "10.0.0.1"),
            ("10.0.0.1:443", "https", "10.0.0.1"),
            ("[::1]", "https", "::1"),
            ("[::1]:443", "https", "::1"),
            ("[::1]:8443", "https", "[::1]:8443"),
            ("[::1]:+8443", "https", "[::1]:8443"),
            ("::1", "https", "::1"),
            ("shop.example:80", "_OTHER", "shop.example:80"),
        ];
        for (authority, scheme, expected) in written {
            let canonical = canonical(authority, scheme);
            assert_eq!(canonical, expected, "{authority}");
            assert_eq!(super::canonical(&canonical, scheme), expected, "again");
        }
    }
}
