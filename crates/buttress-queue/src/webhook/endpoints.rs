//! Who gets webhooks, where, and signed with what.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use super::calls::{Calls, Place};
use super::signature::Secret;

/// A destination: where it is, and the secrets that sign for it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(super) url: Uri,
    pub(super) secrets: Vec<Secret>,
    calls: Arc<Calls>,
}

impl Endpoint {
    /// There, signed with this.
    ///
    /// # Errors
    ///
    /// When the URL is not absolute, is not of `http` or `https`, or has a user name in it.
    pub fn new(url: Uri, secret: Secret) -> Result<Self, EndpointError> {
        let authority = url.authority().ok_or(EndpointError::Relative)?;
        match url.scheme_str() {
            Some("http" | "https") if authority.as_str().contains('@') => Err(EndpointError::Userinfo),
            Some("http" | "https") => Ok(Self { url, secrets: vec![secret], calls: Arc::default() }),
            _ => Err(EndpointError::Scheme),
        }
    }

    /// Signed with this as well: while a receiver changes its secret.
    #[must_use]
    pub fn also_signed_with(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// A place among its calls; while there are so many, when to come again.
    pub(super) fn place(&self, most: usize, now: Instant) -> Result<Place, Duration> {
        self.calls.place(most, now)
    }

    /// When to come again that a circuit rejects for so long.
    pub(super) fn wait_for_circuit(&self, rejects: Duration, now: Instant) -> Duration {
        self.calls.wait_for_circuit(rejects, now)
    }
}

/// Why a URL is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// It has no host.
    Relative,
    /// It is of another scheme than `http` and `https`.
    Scheme,
    /// It has a user name in it, which would be sent.
    Userinfo,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "the URL of a destination has a scheme and a host",
            Self::Scheme => "the URL of a destination is of http or https",
            Self::Userinfo => "the URL of a destination has no user name in it",
        })
    }
}

impl std::error::Error for EndpointError {}

/// The destinations of a [`Sender`](super::Sender), by their ids; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(Arc<RwLock<HashMap<Arc<str>, State>>>);

#[derive(Clone, Debug)]
pub(super) enum State {
    Enabled(Endpoint),
    Disabled(Arc<str>),
}

impl Endpoints {
    /// Adds a destination, or changes it; one that was disabled is enabled by it.
    pub fn set(&self, id: impl Into<Arc<str>>, endpoint: Endpoint) {
        self.put(id.into(), State::Enabled(endpoint));
    }

    /// Sends nothing there any more; its webhooks become dead letters with this reason.
    pub fn disable(&self, id: &str, reason: impl Into<Arc<str>>) {
        self.put(id.into(), State::Disabled(reason.into()));
    }

    /// Forgets a destination.
    pub fn remove(&self, id: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Why a destination is disabled, if it is.
    pub fn disabled(&self, id: &str) -> Option<Arc<str>> {
        match self.find(id) {
            Some(State::Disabled(reason)) => Some(reason),
            _ => None,
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn put(&self, id: Arc<str>, state: State) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, state);
    }
}
