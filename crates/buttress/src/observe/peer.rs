//! Who called whom: proxies' headers first, then the request, then the connection.

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
