//! What of a request is captured beyond the conventions: nothing that nobody asked for.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::redact;

/// A capture profile: an allow-list. The default captures no header.
///
/// A header that can hold a secret (`authorization`, cookies, `x-api-key`, a value marked sensitive, ..) is shown as
/// `REDACTED` although it is on the list; only [`unsafe_sensitive_header`](Self::unsafe_sensitive_header) shows it.
///
/// ```
/// use buttress::trace::Capture;
/// use http::HeaderName;
///
/// let support = Capture::new().request_header(HeaderName::from_static("x-client-version")).body_sizes(true);
/// # let _ = support;
/// ```
#[derive(Clone, Debug)]
pub struct Capture {
    request_headers: Vec<HeaderName>,
    response_headers: Vec<HeaderName>,
    shown_in_clear: Vec<HeaderName>,
    pub(super) query: bool,
    pub(super) client_port: bool,
    pub(super) body_sizes: bool,
}

impl Default for Capture {
    fn default() -> Self {
        Self::new()
    }
}

impl Capture {
    /// The query string with its secrets redacted, and no header.
    pub const fn new() -> Self {
        Self {
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            shown_in_clear: Vec::new(),
            query: true,
            client_port: false,
            body_sizes: false,
        }
    }

    /// Captures this request header as `http.request.header.<name>`.
    #[must_use]
    pub fn request_header(mut self, name: HeaderName) -> Self {
        self.request_headers.push(name);
        self
    }

    /// Captures this response header as `http.response.header.<name>`.
    #[must_use]
    pub fn response_header(mut self, name: HeaderName) -> Self {
        self.response_headers.push(name);
        self
    }

    /// Captures a header in both directions **in clear, even if it holds a secret**.
    #[must_use]
    pub fn unsafe_sensitive_header(mut self, name: HeaderName) -> Self {
        self.shown_in_clear.push(name.clone());
        self.response_headers.push(name.clone());
        self.request_header(name)
    }

    /// Captures the query string, redacted. On by default.
    #[must_use]
    pub fn query(mut self, query: bool) -> Self {
        self.query = query;
        self
    }

    /// Captures `client.port`. Off by default.
    #[must_use]
    pub fn client_port(mut self, client_port: bool) -> Self {
        self.client_port = client_port;
        self
    }

    /// Captures `http.response.body.size` and, where the request announces it, `http.request.body.size`. Off by default.
    #[must_use]
    pub fn body_sizes(mut self, body_sizes: bool) -> Self {
        self.body_sizes = body_sizes;
        self
    }

    pub(super) fn of_request(&self, headers: &HeaderMap) -> Vec<Captured> {
        self.captured(&self.request_headers, headers)
    }

    pub(super) fn of_response(&self, headers: &HeaderMap) -> Vec<Captured> {
        self.captured(&self.response_headers, headers)
    }

    fn captured(&self, names: &[HeaderName], headers: &HeaderMap) -> Vec<Captured> {
        names.iter().filter(|name| headers.contains_key(*name)).map(|name| self.capture(name, headers)).collect()
    }

    fn capture(&self, name: &HeaderName, headers: &HeaderMap) -> Captured {
        let in_clear = self.shown_in_clear.contains(name);
        let sensitive = redact::is_sensitive_header(name);
        let values = headers.get_all(name).iter().map(|value| match (in_clear, sensitive) {
            (true, _) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            (false, true) => redact::REDACTED.to_owned(),
            (false, false) => shown(value).into_owned(),
        });
        Captured { name: name.clone(), values: values.collect() }
    }
}

/// The text of a header without secrets.
pub(super) fn shown(value: &HeaderValue) -> Cow<'_, str> {
    match value.is_sensitive() {
        true => Cow::Borrowed(redact::REDACTED),
        false => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => redact::text(text),
            Err(_) => Cow::Owned(redact::text(&String::from_utf8_lossy(value.as_bytes())).into_owned()),
        },
    }
}

/// A header as a span will show it.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) name: HeaderName,
    pub(super) values: Vec<String>,
}
