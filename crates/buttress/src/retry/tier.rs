//! What one tier tells the next about repeats, and the next tells back.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::deadline;
use crate::classify::is_grpc;
use crate::clock::{self, Instant};
use crate::hint::PUSHBACK;

/// The number of the attempt, from the second on, as this crate sends it.
pub const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");
/// Says of a failed answer that a repeat is no use, and why, as in [`DoNotRetry::as_str`].
pub const DO_NOT_RETRY: HeaderName = HeaderName::from_static("do-not-retry");
const ENVOY_ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const GRPC_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Why callers further up should not repeat a request whose answer has failed.
///
/// In the extensions of an answer, and on the wire as the header [`DO_NOT_RETRY`], with any value; for gRPC also as
/// `grpc-retry-pushback-ms: -1`, which every gRPC client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DoNotRetry {
    /// Repeats have used up their budget.
    Budget,
    /// It has been tried as often as it may be.
    Attempts,
    /// It was turned away on purpose, as by an open circuit.
    Rejected,
}

impl DoNotRetry {
    /// The value of the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Attempts => "attempts",
            Self::Rejected => "rejected",
        }
    }

    /// The mark of an answer, by its extension or its header.
    pub fn of(headers: &HeaderMap, extensions: &http::Extensions) -> Option<Self> {
        if let Some(mark) = extensions.get() {
            return Some(*mark);
        }
        Some(match headers.get(DO_NOT_RETRY)?.as_bytes() {
            b"budget" => Self::Budget,
            b"attempts" => Self::Attempts,
            _ => Self::Rejected,
        })
    }

    /// Marks an answer for everybody further up.
    pub fn mark<B>(self, response: &mut Response<B>) {
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        headers.insert(DO_NOT_RETRY, HeaderValue::from_static(self.as_str()));
        // Told by the head: there is no body, and so nobody else's trailers.
        if is_grpc(headers) && headers.contains_key("grpc-status") {
            headers.insert(PUSHBACK, HeaderValue::from_static("-1"));
        }
    }
}

/// What the request that is being served here said about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inbound {
    /// Which attempt of its caller it is; 1 for the first.
    pub attempt: u32,
    /// When its caller stops waiting.
    pub deadline: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Current {
    inbound: Inbound,
    /// What a client that was used meanwhile has found out.
    mark: Option<DoNotRetry>,
}

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

impl Inbound {
    /// What these headers say; `deadline_header` is one that holds milliseconds.
    pub fn of(headers: &HeaderMap, deadline_header: Option<&HeaderName>) -> Self {
        let left = if is_grpc(headers) {
            deadline::grpc_timeout(headers)
        } else {
            deadline_header.and_then(|name| deadline::milliseconds(headers, name))
        };
        Self { attempt: attempt_of(headers), deadline: left.and_then(|left| clock::now().checked_add(left)) }
    }

    /// That of the request which is being served here, when a [`TierLayer`] is in front.
    ///
    /// A task that is spawned does not know it: give it [`Inbound::scope`].
    pub fn current() -> Option<Self> {
        Some(CURRENT.try_with(Cell::get).ok()??.inbound)
    }

    /// A future in which it is the current one.
    pub fn scope<F>(self, inner: F) -> InboundScope<F> {
        InboundScope { inner, current: Some(Current { inbound: self, mark: None }) }
    }
}

/// The attempt that a request says it is, by any of the headers in use.
pub(super) fn attempt_of(headers: &HeaderMap) -> u32 {
    let number = |name| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
    let ours = number(RETRY_ATTEMPT).unwrap_or(1);
    let envoys = number(ENVOY_ATTEMPT).unwrap_or(1);
    let grpc = number(GRPC_ATTEMPTS).map_or(1, |before| before.saturating_add(1));
    ours.max(envoys).max(grpc).max(1)
}

/// Says which attempt this is; nothing of a first one.
pub(super) fn tell_attempt(headers: &mut HeaderMap, attempt: u32, grpc: bool) {
    if attempt > 1 {
        headers.insert(RETRY_ATTEMPT, HeaderValue::from(attempt));
        if grpc {
            headers.insert(GRPC_ATTEMPTS, HeaderValue::from(attempt - 1));
        }
    }
}

/// Tells the server layer around, if there is one, what its answer has to be marked with should it fail.
pub(super) fn mark(mark: DoNotRetry) {
    let _ = CURRENT.try_with(|current| {
        current.set(current.get().map(|current| Current { mark: Some(mark), ..current }));
    });
}

pin_project! {
    /// A future in which an [`Inbound`] is the current one; of [`Inbound::scope`].
    #[must_use = "futures do nothing unless polled"]
    pub struct InboundScope<F> {
        #[pin]
        inner: F,
        current: Option<Current>,
    }
}

impl<F: Future> Future for InboundScope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        enter(this.current, || this.inner.poll(cx))
    }
}

fn enter<R>(slot: &mut Option<Current>, work: impl FnOnce() -> R) -> R {
    let _swapped = Swapped::new(slot);
    work()
}

/// Swaps slot and thread-local, and back on drop, also when the work panics.
struct Swapped<'a>(&'a mut Option<Current>);

impl<'a> Swapped<'a> {
    fn new(slot: &'a mut Option<Current>) -> Self {
        swap(slot);
        Self(slot)
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        swap(self.0);
    }
}

fn swap(slot: &mut Option<Current>) {
    let _ = CURRENT.try_with(|current| *slot = current.replace(*slot));
}

impl<F> fmt::Debug for InboundScope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundScope").field("inbound", &self.current.map(|current| current.inbound)).finish()
    }
}

/// In front of a server whose handlers use clients with a [`RetryLayer`](super::RetryLayer).
///
/// It reads which attempt of its caller a request is (`retry-attempt`, `x-envoy-attempt-count`,
/// `grpc-previous-rpc-attempts`) and how long its caller waits (`grpc-timeout`, or a header of your choice): clients within
/// keep to it and pass it on. When one of them has given up for good and the handler's answer is a failure too, the answer
/// is marked with [`DoNotRetry`], so that three tiers of three attempts do not become twenty-seven.
///
/// It enforces no deadline of its own, and allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct TierLayer {
    deadline_header: Option<HeaderName>,
}

impl TierLayer {
    /// Reads attempts, and the deadlines of gRPC.
    pub const fn new() -> Self {
        Self { deadline_header: None }
    }

    /// A header that tells the time left in milliseconds, for what is not gRPC; the one that clients are given by
    /// [`RetryLayer::deadline_header`](super::RetryLayer::deadline_header).
    #[must_use]
    pub fn deadline_header(mut self, name: HeaderName) -> Self {
        self.deadline_header = Some(name);
        self
    }
}

impl<S> Layer<S> for TierLayer {
    type Service = Tier<S>;

    fn layer(&self, inner: S) -> Tier<S> {
        Tier { inner, layer: self.clone() }
    }
}

/// A service that knows what its requests say about repeats; made by [`TierLayer`].
#[derive(Clone, Debug)]
pub struct Tier<S> {
    inner: S,
    layer: TierLayer,
}

impl<S, B, R> Service<Request<B>> for Tier<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = TierFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inbound = Inbound::of(request.headers(), self.layer.deadline_header.as_ref());
        let mut current = Some(Current { inbound, mark: None });
        let inner = enter(&mut current, || self.inner.call(request));
        TierFuture { scope: InboundScope { inner, current } }
    }
}

pin_project! {
    /// The answer to come; of [`Tier`].
    #[derive(Debug)]
    pub struct TierFuture<F> {
        #[pin]
        scope: InboundScope<F>,
    }
}

impl<F, R, E> Future for TierFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut scope = self.project().scope;
        let mut answer = ready!(scope.as_mut().poll(cx));
        if let (Ok(response), Some(Current { mark: Some(mark), .. })) = (&mut answer, scope.current)
            && has_failed(response)
        {
            mark.mark(response);
        }
        Poll::Ready(answer)
    }
}

fn has_failed<R>(response: &Response<R>) -> bool {
    let status = response.status();
    let grpc = || response.headers().get("grpc-status").is_some_and(|code| code != "0");
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || grpc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_attempt_is_read_from_whatever_header_tells_the_highest() {
        assert_eq!(attempt_of(&HeaderMap::new()), 1);
        assert_eq!(attempt_of(&headers(&[("retry-attempt", "2")])), 2);
        assert_eq!(attempt_of(&headers(&[("x-envoy-attempt-count", "1")])), 1);
        assert_eq!(attempt_of(&headers(&[("grpc-previous-rpc-attempts", "2"), ("retry-attempt", "2")])), 3);
        assert_eq!(attempt_of(&headers(&[("retry-attempt", "many"), ("x-envoy-attempt-count", "0")])), 1);
        assert_eq!(attempt_of(&headers(&[("grpc-previous-rpc-attempts", "4294967295")])), u32::MAX);
    }

    #[test]
    fn a_first_attempt_is_not_told() {
        let mut sent = HeaderMap::new();
        tell_attempt(&mut sent, 1, true);
        assert!(sent.is_empty());
        tell_attempt(&mut sent, 3, true);
        assert_eq!(
            (sent["retry-attempt"].as_bytes(), sent["grpc-previous-rpc-attempts"].as_bytes()),
            (&b"3"[..], &b"2"[..])
        );
    }

    #[test]
    fn a_mark_is_read_from_the_wire_as_it_was_written() {
        for mark in [DoNotRetry::Budget, DoNotRetry::Attempts, DoNotRetry::Rejected] {
            let mut response = Response::new(());
            mark.mark(&mut response);
            assert_eq!(DoNotRetry::of(response.headers(), &http::Extensions::new()), Some(mark));
            assert_eq!(DoNotRetry::of(&HeaderMap::new(), response.extensions()), Some(mark));
        }
        assert_eq!(
            DoNotRetry::of(&headers(&[("do-not-retry", "1")]), &http::Extensions::new()),
            Some(DoNotRetry::Rejected)
        );
    }

    #[test]
    fn a_failed_grpc_answer_is_marked_as_every_grpc_client_understands() {
        let mut response = Response::new(());
        *response.headers_mut() = headers(&[("content-type", "application/grpc"), ("grpc-status", "14")]);
        DoNotRetry::Budget.mark(&mut response);
        assert_eq!(response.headers()[PUSHBACK], "-1");
    }
}
