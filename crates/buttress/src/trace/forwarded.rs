//! What proxies say about a request.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::observe::Present;
use crate::observe::peer::{self, X_FORWARDED_PROTO};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What proxies say about the request; few requests have any of it.
#[derive(Default)]
pub(super) struct Forwarded {
    forwarded: Option<HeaderValue>,
    for_: Option<HeaderValue>,
    host: Option<HeaderValue>,
    proto: Option<HeaderValue>,
}

impl Forwarded {
    pub(super) fn of(headers: &HeaderMap, present: Present) -> Option<Box<Self>> {
        const NAMES: Present =
            Present::names(&["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
        if !present.may_have(NAMES) {
            return None;
        }
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
        peer::scheme(self.forwarded.as_ref(), self.proto.as_ref())
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.parameter("host").or_else(|| peer::first(self.host.as_ref()))
    }

    /// The client's address without port; unknown and hidden ones are none.
    pub(super) fn client(&self) -> Option<&str> {
        let client = self.parameter("for").or_else(|| peer::first(self.for_.as_ref()))?;
        let (address, _) = peer::split_port(client);
        let is_told = !address.is_empty() && !address.eq_ignore_ascii_case("unknown") && !address.starts_with('_');
        is_told.then_some(address)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        peer::parameter(self.forwarded.as_ref(), name)
    }
}
