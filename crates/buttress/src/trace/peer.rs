//! Who called whom: proxies' headers first, then the request, then the connection.

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What proxies say about the request; few requests have any of it.
#[derive(Default)]
pub(super) struct Forwarded {
    forwarded: Option<HeaderValue>,
    for_: Option<HeaderValue>,
    host: Option<HeaderValue>,
    proto: Option<HeaderValue>,
}

impl Forwarded {
    pub(super) fn of(headers: &HeaderMap) -> Option<Box<Self>> {
        let header = |name: HeaderName| headers.get(name).cloned();
        let this = Self {
            forwarded: header(FORWARDED),
            for_: header(X_FORWARDED_FOR),
            host: header(X_FORWARDED_HOST),
            proto: header(X_FORWARDED_PROTO),
        };
        let any = [&this.forwarded, &this.for_, &this.host, &this.proto].iter().any(|header| header.is_some());
        any.then(|| Box::new(this))
    }

    pub(super) fn scheme(&self) -> Option<&str> {
        let scheme = self.parameter("proto").or_else(|| first(self.proto.as_ref()))?;
        let is_scheme = scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_scheme.then_some(scheme)
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.parameter("host").or_else(|| first(self.host.as_ref()))
    }

    /// The client's address without port; unknown and hidden ones are none.
    pub(super) fn client(&self) -> Option<&str> {
        let client = self.parameter("for").or_else(|| first(self.for_.as_ref()))?;
        let (address, _) = split_port(client);
        let is_told = !address.is_empty() && !address.eq_ignore_ascii_case("unknown") && !address.starts_with('_');
        is_told.then_some(address)
    }

    /// A parameter of the first element of `Forwarded` (RFC 7239).
    fn parameter(&self, name: &str) -> Option<&str> {
        let element = first(self.forwarded.as_ref())?;
        element.split(';').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| {
            key.trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().trim_matches('"'))
                .filter(|value| !value.is_empty())
        })
    }
}

fn first(header: Option<&HeaderValue>) -> Option<&str> {
    let first = header?.to_str().ok()?.split(',').next()?.trim();
    (!first.is_empty()).then_some(first)
}

/// Address and port of `host`, `host:port`, `[v6]`, `[v6]:port` or a bare v6 address.
pub(super) fn split_port(authority: &str) -> (&str, Option<u16>) {
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
pub(super) fn authority<'a>(uri: &'a Uri, host: Option<&'a HeaderValue>) -> Option<&'a str> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => host?.to_str().ok()?,
    };
    Some(authority.rsplit('@').next().unwrap_or(authority))
}

pub(super) fn host_header(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(HOST).cloned()
}
