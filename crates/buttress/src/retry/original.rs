//! What is kept of a request that may be sent again, and what is looked at to know whether it may.

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request};

use super::budget::{Ask, Withdrawal};
use super::policy::{IDEMPOTENCY_KEY, is_idempotent};
use super::replay_body::Source;
use super::resend::Previous;
use super::{Progress, tier};
use crate::classify::is_grpc_request;
use crate::observe::RequestHead;

/// A request that can be sent again, and how often it was.
pub(super) struct Original<B> {
    pub(super) method: Method,
    uri: Uri,
    version: Version,
    /// A list of them is less than a map, and allocates once; a map is made when somebody has to look.
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
    pub(super) body: Source<B>,
    pub(super) progress: Progress,
    /// Which attempt of its caller the request is that is being served here.
    inbound: u32,
    pub(super) repeat: Option<Withdrawal>,
    pub(super) previous: Previous,
}

impl<B> Original<B> {
    /// A copy of the head. A function of its own, so that what is not kept has no room for it on the stack.
    #[inline(never)]
    pub(super) fn of(request: &Request<B>, inbound: u32) -> Box<Self> {
        let from = request.headers();
        let mut headers = Vec::with_capacity(from.len());
        headers.extend(from.iter().map(|(name, value)| (name.clone(), value.clone())));
        // Made where it stays: a box that is there before needs no copy.
        Box::write(
            Box::new_uninit(),
            Self {
                method: request.method().clone(),
                uri: request.uri().clone(),
                version: request.version(),
                headers,
                extensions: request.extensions().clone(),
                body: Source::Empty,
                progress: Progress { attempts: 1, unprocessed: 0 },
                inbound,
                repeat: None,
                previous: Previous::NONE,
            },
        )
    }

    /// The head once more.
    pub(super) fn head(&self) -> request::Parts {
        let mut head = Request::new(()).into_parts().0;
        head.method.clone_from(&self.method);
        head.uri.clone_from(&self.uri);
        head.version = self.version;
        head.headers.reserve(self.headers.len());
        for (name, value) in &self.headers {
            head.headers.append(name.clone(), value.clone());
        }
        head.extensions.clone_from(&self.extensions);
        head
    }

    /// Which attempt of its caller's the request was when it came here, with these headers.
    pub(super) fn before(&self, headers: &HeaderMap) -> u32 {
        self.inbound.max(tier::attempt_of(headers))
    }

    pub(super) fn ask(&self, headers: &HeaderMap) -> Ask {
        if self.before(headers) > 1 { Ask::RepeatOfRepeat } else { Ask::Repeat }
    }
}

/// What the headers of a request say about whether it may be repeated.
pub(super) struct Told {
    pub(super) grpc: bool,
    /// As [`is_harmless`] has it.
    pub(super) harmless: bool,
}

impl Told {
    #[inline]
    pub(super) fn of(request: &RequestHead<'_>) -> Self {
        // Most requests are spared the look: those that need no key, and gRPC is a POST.
        if is_idempotent(request.method) {
            return Self { grpc: false, harmless: true };
        }
        let (mut may_be_grpc, mut has_key) = (false, false);
        // One pass by comparisons: to look both up would be to hash two names that most requests do not have.
        for name in request.headers.keys() {
            may_be_grpc |= *name == CONTENT_TYPE;
            has_key |= *name == IDEMPOTENCY_KEY;
        }
        Self { grpc: may_be_grpc && is_grpc_request(request.method, request.headers), harmless: has_key }
    }
}
