//! Which callees may see what.

use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, Uri};

/// A set of hosts: all, none, or those named.
///
/// ```
/// use buttress::propagate::Hosts;
///
/// let ours = Hosts::only(["payments.internal", "*.svc.cluster.local", "127.0.0.1"]);
/// assert!(ours.contains("Payments.Internal"));
/// assert!(ours.contains("stock.svc.cluster.local"));
/// assert!(!ours.contains("svc.cluster.local"));
/// assert!(!ours.contains("payments.internal.example.com"));
/// ```
#[derive(Clone, Debug)]
pub struct Hosts(Set);

#[derive(Clone, Debug)]
enum Set {
    Any,
    Only(Arc<[String]>),
}

impl Hosts {
    /// Every host, also where the host is not known.
    pub const fn any() -> Self {
        Self(Set::Any)
    }

    /// No host.
    pub fn none() -> Self {
        Self::only([] as [&str; 0])
    }

    /// These hosts, without ports, whatever the case; `*.example.com` is every host below `example.com`.
    pub fn only(hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self(Set::Only(hosts.into_iter().map(|host| host.as_ref().trim_matches(['[', ']']).to_owned()).collect()))
    }

    /// Whether the host is one of them.
    pub fn contains(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        match &self.0 {
            Set::Any => true,
            Set::Only(hosts) => hosts.iter().any(|pattern| matches(pattern, host)),
        }
    }

    /// Whether the callee of this request is one of them; an unknown callee only when all are.
    pub(super) fn allow(&self, host: Option<&str>) -> bool {
        match host {
            Some(host) => self.contains(host),
            None => matches!(self.0, Set::Any),
        }
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .len()
            .checked_sub(parent.len() + 1)
            .is_some_and(|dot| dot > 0 && host.as_bytes()[dot] == b'.' && ends_with(host, parent)),
        None => host.eq_ignore_ascii_case(pattern),
    }
}

fn ends_with(host: &str, parent: &str) -> bool {
    host.as_bytes()[host.len() - parent.len()..].eq_ignore_ascii_case(parent.as_bytes())
}

/// The callee's host: of the target, else of the `Host` header.
pub(super) fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    uri.host().or_else(|| {
        let host = headers.get(HOST)?.to_str().ok()?;
        Some(match host.rfind(':') {
            Some(colon) if !host[colon..].contains(']') => &host[..colon],
            _ => host,
        })
    })
}
