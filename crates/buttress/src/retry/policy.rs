//! The decision: is this answer a failure, may the request be repeated, and when?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderName, Method, Response, StatusCode, request};

use super::error::is_rejection;
use super::{DoNotRetry, Hint, RetryBudget, TimedOut};
use crate::backoff::Backoff;
use crate::classify::{Classify, Fault, Grpc, GrpcCode, How, Outcome, Seen, is_grpc_request};
use crate::observe::{RequestHead, When};
use crate::random;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What a hint may ask for at most.
const LONGEST_HINT: Duration = Duration::from_secs(30);
const RESOURCE_EXHAUSTED: GrpcCode = GrpcCode::from_number(8);

/// Decides what is tried again, how often and when. Pure but for the jitter; [`RetryLayer`](super::RetryLayer) acts on it.
///
/// It is also a [`tower::retry::Policy`] for those who have tower's own `RetryLayer` in place.
///
/// ```
/// use buttress::observe::RequestHead;
/// use buttress::retry::{Answer, Decision, Reason, RetryPolicy, Situation};
/// use http::{Request, StatusCode};
///
/// let policy = RetryPolicy::new();
/// let request = Request::get("/prices").body(())?;
/// let answer = http::Response::builder().status(503).body(())?;
/// let first = Situation::first(RequestHead::of(&request), Answer::of(&answer));
/// assert!(matches!(policy.decide(&first), Decision::Repeat { reason: Reason::Status, .. }));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone)]
pub struct RetryPolicy {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) budget: RetryBudget,
    grpc: bool,
    unprocessed_of_every_method: bool,
    idempotent: Option<When>,
    failure: Option<Arc<FailureFn>>,
    /// Of one request, for tower, which clones the policy for each.
    pub(super) progress: Progress,
}

type FailureFn = dyn Fn(&RequestHead<'_>, &Answer<'_>) -> Option<bool> + Send + Sync;

/// What came of an attempt.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// The head of an answer.
    #[non_exhaustive]
    Head {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: &'a HeaderMap,
        /// What layers have attached.
        extensions: &'a Extensions,
    },
    /// An error instead of an answer.
    Failed(Fault<'a>),
}

impl<'a> Answer<'a> {
    /// The head of this answer.
    pub fn of<R>(response: &'a Response<R>) -> Self {
        Self::Head { status: response.status(), headers: response.headers(), extensions: response.extensions() }
    }

    /// An error instead of an answer.
    pub fn failed<E: fmt::Display + 'static>(error: &'a E) -> Self {
        Self::Failed(Fault::new(error))
    }
}

/// Everything that a decision depends on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Situation<'a> {
    /// The request.
    pub request: RequestHead<'a>,
    /// What came of the last attempt.
    pub answer: Answer<'a>,
    /// What was tried so far.
    pub progress: Progress,
    /// How long until the deadline, if there is one.
    pub left: Option<Duration>,
    /// Whether the body can be sent from its beginning.
    pub is_whole: bool,
}

impl<'a> Situation<'a> {
    /// After the first attempt, without a deadline.
    pub fn first(request: RequestHead<'a>, answer: Answer<'a>) -> Self {
        Self { request, answer, progress: Progress { attempts: 1, unprocessed: 0 }, left: None, is_whole: true }
    }
}

/// How often a request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Attempts that count.
    pub attempts: u32,
    /// Attempts that do not: the server said that it did not look at them.
    pub unprocessed: u32,
}

impl Progress {
    /// How often it was sent, everything counted.
    pub const fn sent(&self) -> u32 {
        self.attempts.saturating_add(self.unprocessed)
    }
}

/// Why a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// `status`: 408, 425, 429, 502, 503 or 504.
    Status,
    /// `grpc_status`: UNAVAILABLE, or RESOURCE_EXHAUSTED with a pushback.
    GrpcStatus,
    /// `connect`: there was no connection.
    Connect,
    /// `connection`: it broke.
    Connection,
    /// `timeout`: the attempt took too long.
    Timeout,
    /// `unprocessed`: the server refused it unseen.
    Unprocessed,
    /// `custom`: a rule of the application's own.
    Custom,
}

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Status,
        Self::GrpcStatus,
        Self::Connect,
        Self::Connection,
        Self::Timeout,
        Self::Unprocessed,
        Self::Custom,
    ];

    /// Nobody was busy with it: it neither counts nor takes from the budget.
    pub(super) const fn is_free(self) -> bool {
        matches!(self, Self::Unprocessed)
    }

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::GrpcStatus => "grpc_status",
            Self::Connect => "connect",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Unprocessed => "unprocessed",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// It is no failure.
    Done,
    /// It is a failure, and the caller gets it.
    HandOut(Because),
    /// Once more, when the budget allows it.
    Repeat {
        /// Why.
        reason: Reason,
        /// After so long.
        after: Duration,
    },
}

/// Why a failure is not followed by a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Because {
    /// Method, status or error do not allow one.
    NotRepeatable,
    /// A tier further down, or a layer further in, has said that it is no use.
    Told(DoNotRetry),
    /// As many attempts were made as may be.
    Exhausted,
    /// Less time is left than the wait would take, or the server wants more than 30 s, or never to be asked again.
    NoTime,
    /// Not all of the body was kept.
    Body,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// No failure.
    Fine,
    /// A failure, and somebody has said that a repeat is no use.
    Marked(DoNotRetry),
    /// A failure that a repeat would meet again.
    Failed,
    /// A failure by chance.
    Chance(Reason),
}

/// What may be repeated of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeatable {
    No,
    /// When nobody has looked at it.
    IfUnprocessed,
    /// When gRPC says so.
    IfGrpc,
    Yes,
}

impl RetryPolicy {
    /// Three attempts, [`Backoff::default`], a budget of its own.
    pub fn new() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::default(),
            budget: RetryBudget::new(),
            grpc: true,
            unprocessed_of_every_method: false,
            idempotent: None,
            failure: None,
            progress: Progress::default(),
        }
    }

    /// How often a request is sent at most, the first time included; 1 is never again. 3 by default.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long to wait between attempts. [`Backoff::default`] by default.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// A budget that others share. One of its own by default.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Requests that may be sent twice although neither their method nor an `Idempotency-Key` says so.
    #[must_use]
    pub fn idempotent_when(mut self, when: When) -> Self {
        self.idempotent = Some(when);
        self
    }

    /// Whether calls of gRPC may be repeated by its status codes; true by default.
    ///
    /// A call is a POST, and only its author knows whether it may run twice. UNAVAILABLE in an answer without messages,
    /// and errors before there was a connection, are what gRPC's own retry policies name first (proposal A6).
    #[must_use]
    pub const fn grpc(mut self, grpc: bool) -> Self {
        self.grpc = grpc;
        self
    }

    /// Also requests that may not be sent twice are sent again when nobody has looked at them: there was no connection, or
    /// HTTP/2 refused the stream. False by default, because each of them has to be kept for that, head and body.
    #[must_use]
    pub const fn unprocessed_of_every_method(mut self, repeat: bool) -> Self {
        self.unprocessed_of_every_method = repeat;
        self
    }

    /// What is a failure worth a repeat: `Some(true)`, `Some(false)`, or `None` to leave it to the rules of this crate.
    ///
    /// It is not asked about marks ([`DoNotRetry`], [`NotRetryable`](super::NotRetryable)), nor about requests that must
    /// not be sent twice.
    #[must_use]
    pub fn failure(
        mut self,
        failure: impl Fn(&RequestHead<'_>, &Answer<'_>) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        self.failure = Some(Arc::new(failure));
        self
    }

    /// Whatever this classifier calls an error is a failure worth a repeat, and nothing else is.
    #[must_use]
    pub fn classify(self, classifier: impl Classify + Send + Sync + 'static) -> Self {
        self.failure(move |request, answer| {
            let grpc = is_grpc_request(request.method, request.headers);
            let seen = |how: &How<'_>, status, grpc| classifier.classify(&Seen { how, status, grpc }).outcome;
            let outcome = match answer {
                Answer::Head { status, headers, .. } => {
                    let how = How::Complete { trailers: None };
                    seen(&how, Some(*status), grpc.then(|| Grpc::of_head(*status, headers)))
                }
                Answer::Failed(fault) => seen(&How::Failed(*fault), None, grpc.then_some(Grpc::UNANSWERED)),
            };
            Some(outcome == Outcome::Error)
        })
    }

    /// What to do with an answer. The budget is not asked yet.
    pub fn decide(&self, now: &Situation<'_>) -> Decision {
        let reason = match self.judge(&now.request, &now.answer) {
            Judged::Fine => return Decision::Done,
            Judged::Marked(mark) => return Decision::HandOut(Because::Told(mark)),
            Judged::Failed => return Decision::HandOut(Because::NotRepeatable),
            Judged::Chance(reason) => reason,
        };
        if !self
            .repeatable(
                || now.request,
                is_grpc_request(now.request.method, now.request.headers),
                is_harmless(&now.request),
            )
            .covers(reason)
        {
            return Decision::HandOut(Because::NotRepeatable);
        }
        let Progress { attempts, unprocessed } = now.progress;
        // What was not processed does not count, but not without end.
        let counted = if reason == Reason::Unprocessed { unprocessed } else { attempts };
        if counted >= self.attempts {
            return Decision::HandOut(Because::Exhausted);
        }
        if !now.is_whole {
            return Decision::HandOut(Because::Body);
        }
        match self.wait(now, reason).filter(|wait| now.left.is_none_or(|left| *wait < left)) {
            Some(after) => Decision::Repeat { reason, after },
            None => Decision::HandOut(Because::NoTime),
        }
    }

    /// How long to wait; none when the server wants to be left alone.
    fn wait(&self, now: &Situation<'_>, reason: Reason) -> Option<Duration> {
        let nth = now.progress.sent().saturating_sub(1);
        // The first time nobody was busy with it: there is nothing to wait for.
        if reason == Reason::Unprocessed && now.progress.unprocessed == 0 {
            return Some(Duration::ZERO);
        }
        let own = self.backoff.delay(nth);
        let Answer::Head { headers, .. } = now.answer else {
            return Some(own);
        };
        match Hint::of(headers) {
            None => Some(own),
            Some(Hint::Never) => None,
            Some(Hint::After(hint)) if hint > LONGEST_HINT => None,
            // Everybody was told the same: up to a tenth later, so that not all come at once.
            Some(Hint::After(hint)) => Some(own.max(hint) + hint.mul_f64(0.1 * random::unit())),
        }
    }

    /// What an answer is, whatever may be repeated.
    pub(super) fn judge(&self, request: &RequestHead<'_>, answer: &Answer<'_>) -> Judged {
        let ours = judge_by_rule(is_grpc_request(request.method, request.headers), answer);
        let custom = match &self.failure {
            Some(failure) if !matches!(ours, Judged::Marked(DoNotRetry::Rejected)) => failure(request, answer),
            _ => None,
        };
        match (custom, ours) {
            (Some(false), _) if matches!(answer, Answer::Failed(_)) => Judged::Failed,
            (Some(false), _) => Judged::Fine,
            (Some(true), Judged::Fine | Judged::Failed) => Judged::Chance(Reason::Custom),
            (_, ours) => ours,
        }
    }

    /// What the answer to a request is of which only this is known. What the application says is not asked.
    pub(super) fn judge_unseen(&self, repeatable: Repeatable, answer: &Answer<'_>) -> Judged {
        match judge_by_rule(repeatable == Repeatable::IfGrpc, answer) {
            Judged::Chance(reason) if !repeatable.covers(reason) => Judged::Failed,
            judged => judged,
        }
    }

    /// Whether the application has a say.
    pub(super) const fn is_custom(&self) -> bool {
        self.failure.is_some()
    }

    /// What may be repeated of a request, when it is known whether it is one of gRPC and [harmless](is_harmless).
    #[inline]
    pub(super) fn repeatable<'a>(
        &self,
        request: impl FnOnce() -> RequestHead<'a>,
        grpc: bool,
        harmless: bool,
    ) -> Repeatable {
        if self.attempts <= 1 {
            return Repeatable::No;
        }
        if harmless || self.idempotent.as_ref().is_some_and(|when| when.holds(&request())) {
            Repeatable::Yes
        } else if self.grpc && grpc {
            Repeatable::IfGrpc
        } else if self.unprocessed_of_every_method {
            Repeatable::IfUnprocessed
        } else {
            Repeatable::No
        }
    }
}

impl Repeatable {
    fn covers(self, reason: Reason) -> bool {
        match self {
            Self::No => false,
            Self::IfUnprocessed => matches!(reason, Reason::Unprocessed | Reason::Connect),
            Self::IfGrpc => {
                matches!(reason, Reason::GrpcStatus | Reason::Unprocessed | Reason::Connect | Reason::Custom)
            }
            Self::Yes => true,
        }
    }
}

fn judge_by_rule(grpc: bool, answer: &Answer<'_>) -> Judged {
    let reason = match answer {
        Answer::Head { status, headers, .. } => {
            let reason =
                if grpc { grpc_reason(*status, headers) } else { is_retryable(*status).then_some(Reason::Status) };
            let Some(reason) = reason else {
                return Judged::Fine;
            };
            Some(reason)
        }
        Answer::Failed(fault) => fault_reason(fault),
    };
    match (mark_of(answer), reason) {
        (Some(mark), _) => Judged::Marked(mark),
        (None, Some(reason)) => Judged::Chance(reason),
        (None, None) => Judged::Failed,
    }
}

/// Whether a request may be sent twice by its method or its `Idempotency-Key`.
pub(super) fn is_harmless(request: &RequestHead<'_>) -> bool {
    is_idempotent(request.method) || request.headers.contains_key(IDEMPOTENCY_KEY)
}

/// RFC 9110, section 9.2.2, and QUERY, which is safe.
#[inline]
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
        || *method == Method::QUERY
}

/// RFC 9110, section 9.2.1: asking twice does no harm.
pub(super) fn is_safe(method: &Method) -> bool {
    is_idempotent(method) && !matches!(*method, Method::PUT | Method::DELETE)
}

fn is_retryable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 502 | 503 | 504)
}

/// Whether an answer is one that pays into the budget.
pub(super) fn is_success<R>(response: &Response<R>, grpc: bool) -> bool {
    let status = response.status();
    let refused = || response.headers().get("grpc-status").is_some_and(|code| code == "14" || code == "8");
    !(status.is_server_error() || is_retryable(status) || grpc && refused())
}

/// Only what the head tells: once there was a message the call is committed.
fn grpc_reason(status: StatusCode, headers: &HeaderMap) -> Option<Reason> {
    let code = match GrpcCode::from_headers(headers) {
        Some(code) => code,
        // A proxy that turned the call away. After 502 and 504 nobody knows whether it ran.
        None if matches!(status.as_u16(), 429 | 503) => GrpcCode::UNAVAILABLE,
        None => return None,
    };
    let pushed_back = || Hint::of_grpc(headers).is_some();
    (code == GrpcCode::UNAVAILABLE || (code == RESOURCE_EXHAUSTED && pushed_back())).then_some(Reason::GrpcStatus)
}

fn mark_of(answer: &Answer<'_>) -> Option<DoNotRetry> {
    match answer {
        Answer::Head { headers, extensions, .. } => DoNotRetry::of(headers, extensions),
        Answer::Failed(fault) => {
            (fault.is_refusal() || fault.chain().any(is_rejection)).then_some(DoNotRetry::Rejected)
        }
    }
}

/// None for what is no matter of chance: a body that broke, a message that cannot be read.
fn fault_reason(fault: &Fault<'_>) -> Option<Reason> {
    if fault.chain().filter_map(|error| error.downcast_ref()).any(TimedOut::is_deadline) {
        return None;
    }
    if fault.chain().any(is_unprocessed) {
        return Some(Reason::Unprocessed);
    }
    if fault.chain().any(is_connect) {
        return Some(Reason::Connect);
    }
    if fault.grpc_code() == Some(GrpcCode::UNAVAILABLE) {
        return Some(Reason::GrpcStatus);
    }
    Some(match fault.name() {
        "timeout" => Reason::Timeout,
        "connection_refused" | "host_unreachable" | "network_unreachable" | "address_not_available" => Reason::Connect,
        "connection_reset" | "connection_aborted" | "connection_closed" | "not_connected" | "broken_pipe"
        | "unexpected_eof" | "incomplete_message" => Reason::Connection,
        _ => return None,
    })
}

/// The connection was never there.
#[cfg_attr(not(feature = "hyper"), allow(unused_variables, reason = "only hyper's errors tell"))]
fn is_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect();
    }
    false
}

/// RFC 9113, section 8.7: REFUSED_STREAM, and streams above the last that a GOAWAY names; or the connection was gone
/// before the request was written.
#[cfg_attr(not(feature = "hyper"), allow(unused_variables, reason = "only hyper's errors tell"))]
fn is_unprocessed(error: &(dyn std::error::Error + 'static)) -> bool {
    #[cfg(feature = "h2")]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        let reason = error.reason();
        let refused = error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
        return error.is_remote() && (refused || error.is_go_away() && reason == Some(h2::Reason::NO_ERROR));
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_canceled();
    }
    false
}

/// The head of a request whose body is gone.
pub(super) fn head_of(parts: &request::Parts) -> RequestHead<'_> {
    RequestHead {
        method: &parts.method,
        uri: &parts.uri,
        version: parts.version,
        headers: &parts.headers,
        extensions: &parts.extensions,
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
