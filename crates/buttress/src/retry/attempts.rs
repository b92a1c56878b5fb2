//! The attempts at one request: what is kept of it, what was tried, and what comes next.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, request};
use http_body::Body;
use tower_service::Service;

use super::budget::{Ask, Withdrawal};
use super::error::BoxError;
use super::layer::Config;
use super::policy::{Because, Decision, Judged, Repeatable, Situation, head_of, is_safe, is_success};
use super::replay_body::Source;
use super::resend::Previous;
use super::service::Core;
use super::{Answer, DoNotRetry, Inbound, Progress, Reason, ReplayBody, deadline, tier};
use crate::classify::is_grpc;
use crate::clock::{self, Instant};
use crate::observe::RequestHead;
use crate::signal::Signal;

/// How much of a failed answer is read, so that its connection can be used again.
const DRAIN: usize = 16 * 1024;

pub(super) struct Attempts<S, B> {
    running: Running<S>,
    kept: Kept<B>,
    progress: Progress,
    /// Which attempt of its caller's the request was when it came here.
    before: u32,
    grpc: bool,
    deadline: Option<Instant>,
    /// When the current attempt was sent; not asked where nobody needs it.
    started: Option<Instant>,
    repeat: Option<Withdrawal>,
    previous: Previous,
}

/// Counted as under way.
struct Running<S>(Arc<Core<S>>);

impl<S> Running<S> {
    fn new(core: &Arc<Core<S>>) -> Self {
        core.config.policy.budget.begin();
        Self(Arc::clone(core))
    }
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        self.0.config.policy.budget.end();
    }
}

/// What repeats are made of.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one; a box would be an allocation")]
enum Kept<B> {
    /// There will be none.
    No,
    /// There would be, had the budget not said no a moment ago.
    Denied(Repeatable),
    Yes {
        head: request::Parts,
        body: Source<B>,
    },
}

/// What follows an answer.
pub(super) enum Next<R> {
    Return(Result<Response<R>, BoxError>),
    RepeatAt(Instant),
}

impl<S, B> Attempts<S, B> {
    pub(super) fn config(&self) -> &Config {
        &self.running.0.config
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// When the current attempt has taken too long.
    pub(super) fn attempt_end(&self) -> Option<Instant> {
        self.started?.checked_add(self.config().attempt_timeout?)
    }

    /// When the current attempt gets company.
    pub(super) fn hedge_at(&self) -> Option<Instant> {
        let Kept::Yes { head, .. } = &self.kept else {
            return None;
        };
        let hedge = self.config().hedge.as_ref().filter(|_| is_safe(&head.method))?;
        self.started?.checked_add(hedge.delay()?)
    }

    /// An attempt that was sent then has an answer, or is dropped now.
    pub(super) fn took(&self, started: Option<Instant>) {
        if let (Some(hedge), Some(started)) = (&self.config().hedge, started) {
            hedge.took(clock::now().saturating_duration_since(started));
        }
    }

    pub(super) fn started(&self) -> Option<Instant> {
        self.started
    }

    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }

    fn is_timed(&self) -> bool {
        self.config().attempt_timeout.is_some() || self.config().hedge.is_some()
    }
}

impl<S, B> Attempts<S, B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// Takes what is needed for repeats from a request; none when there is no time left to send it.
    #[inline]
    pub(super) fn begin(core: &Arc<Core<S>>, request: &mut Request<B>) -> Self {
        let config = &*core.config;
        let inbound = Inbound::current();
        // gRPC is a POST; most requests are spared the look at their content type.
        let grpc = *request.method() == Method::POST && is_grpc(request.headers());
        let before = inbound.map_or(1, |inbound| inbound.attempt);
        let mut attempts = Self {
            running: Running::new(core),
            kept: Kept::No,
            progress: Progress { attempts: 1, unprocessed: 0 },
            before,
            grpc,
            deadline: deadline_of(config, request.headers(), grpc, inbound),
            started: None,
            repeat: None,
            previous: Previous::NONE,
        };
        match config.policy.repeatable(&RequestHead::of(request), grpc) {
            Repeatable::No => {}
            repeatable if config.policy.budget.is_paused() => attempts.kept = Kept::Denied(repeatable),
            _ if ReplayBody::is_too_long(request.body(), config.replay_limit) => {}
            _ => attempts.kept = Kept::Yes { head: head_parts(request), body: Source::Empty },
        }
        if before > 1 {
            let attempt = before.max(tier::attempt_of(request.headers()));
            tier::tell_attempt(request.headers_mut(), attempt, grpc);
        }
        if attempts.deadline.is_some() {
            attempts.tell_deadline(request.headers_mut());
        }
        attempts
    }

    /// The request as the inner service gets it.
    #[inline]
    pub(super) fn keep_body(&mut self, request: Request<B>) -> Request<ReplayBody<B>> {
        let limit = self.config().replay_limit;
        request.map(|sent| match &mut self.kept {
            Kept::Yes { body, .. } => {
                let (sent, source) = ReplayBody::keep(sent, limit);
                *body = source;
                sent
            }
            _ => ReplayBody::passing(sent),
        })
    }

    /// Whether there is time left to send anything.
    #[inline]
    pub(super) fn is_in_time(&self) -> bool {
        self.left().is_none_or(|left| !left.is_zero())
    }

    fn tell_deadline(&self, headers: &mut HeaderMap) {
        if let Some(left) = self.left() {
            deadline::tell(headers, left, self.grpc, self.config().deadline_header.as_ref());
        }
    }

    /// The request once more, `more` attempts after the last one.
    pub(super) fn again(&self, more: u32) -> Option<Request<ReplayBody<B>>> {
        let Kept::Yes { head, body } = &self.kept else {
            return None;
        };
        let mut head = head.clone();
        // Sent before, all counted: what is not is none that a server has seen.
        let before = self.before.max(tier::attempt_of(&head.headers));
        let sent = self.progress.attempts - 1 + more;
        tier::tell_attempt(&mut head.headers, before.saturating_add(sent), self.grpc);
        self.tell_deadline(&mut head.headers);
        self.previous.tell(&mut head.extensions, self.progress.sent() - 1 + more);
        Some(Request::from_parts(head, body.body()))
    }

    /// Sends an attempt.
    #[inline]
    pub(super) fn send<Q>(&mut self, service: &mut S, request: Q) -> S::Future
    where
        S: Service<Q>,
    {
        if let Some(repeat) = &mut self.repeat {
            repeat.sent();
        }
        self.started = self.is_timed().then(clock::now);
        self.previous.watch(|| service.call(request))
    }

    /// A token for a hedge.
    pub(super) fn hedge(&self) -> Option<Withdrawal> {
        let Kept::Yes { body, .. } = &self.kept else {
            return None;
        };
        if !body.is_whole() {
            return None;
        }
        let mut withdrawal = self.config().policy.budget.withdraw(Ask::Hedge).ok()?;
        withdrawal.sent();
        self.config().stats.hedged();
        Some(withdrawal)
    }

    pub(super) fn spare(&self) -> S
    where
        S: Clone,
    {
        self.running.0.spare()
    }

    /// Whether an answer is one to be content with.
    pub(super) fn is_good<R>(&self, answer: &Result<Response<R>, BoxError>) -> bool {
        let Kept::Yes { head, .. } = &self.kept else {
            return true;
        };
        self.config().policy.judge(&head_of(head), &answer_of(answer)) == Judged::Fine
    }

    /// Whether an answer is the last without a closer look.
    #[inline]
    pub(super) fn is_final<R>(&mut self, answer: &Result<Response<R>, BoxError>) -> bool {
        self.repeat = None;
        let good = answer.as_ref().is_ok_and(|response| is_success(response, self.grpc));
        let policy = &self.config().policy;
        if good {
            policy.budget.succeeded();
        }
        match self.kept {
            Kept::No if good => true,
            Kept::No => {
                pass_mark(answer);
                true
            }
            Kept::Denied(_) => good,
            Kept::Yes { .. } => good && !policy.is_custom(),
        }
    }

    /// What to do with an answer that was not final.
    pub(super) fn settle<R: Body>(&mut self, answer: Result<Response<R>, BoxError>, cx: &mut Context<'_>) -> Next<R> {
        let (head, body) = match &self.kept {
            Kept::No => return Next::Return(answer),
            Kept::Denied(repeatable) => return Next::Return(self.denied(*repeatable, answer)),
            Kept::Yes { head, body } => (head, body),
        };
        let situation = Situation {
            request: head_of(head),
            answer: answer_of(&answer),
            progress: self.progress,
            left: self.left(),
            is_whole: body.is_whole(),
        };
        match self.config().policy.decide(&situation) {
            Decision::Done => Next::Return(answer),
            Decision::Repeat { reason, after } => self.repeat(reason, after, answer, cx),
            Decision::HandOut(because) => Next::Return(self.hand_out(because, answer)),
        }
    }

    fn repeat<R: Body>(
        &mut self,
        reason: Reason,
        after: Duration,
        answer: Result<Response<R>, BoxError>,
        cx: &mut Context<'_>,
    ) -> Next<R> {
        if !reason.is_free() {
            match self.config().policy.budget.withdraw(self.ask()) {
                Ok(withdrawal) => self.repeat = Some(withdrawal),
                Err(first) => {
                    if first {
                        self.tell(|client| Signal::RetryBudgetSpent { client });
                    }
                    return Next::Return(marked(DoNotRetry::Budget, answer));
                }
            }
        }
        self.config().stats.repeats(reason, after);
        self.progress.count(reason);
        if let Ok(response) = answer {
            drain(response.into_body(), cx);
        }
        Next::RepeatAt(clock::now() + after)
    }

    fn ask(&self) -> Ask {
        let own = match &self.kept {
            Kept::Yes { head, .. } => tier::attempt_of(&head.headers),
            _ => 1,
        };
        if self.before.max(own) > 1 { Ask::RepeatOfRepeat } else { Ask::Repeat }
    }

    fn hand_out<R>(&self, because: Because, answer: Result<Response<R>, BoxError>) -> Result<Response<R>, BoxError> {
        match because {
            Because::Told(mark) => {
                tier::mark(mark);
                answer
            }
            Because::Exhausted => {
                self.config().stats.exhausted();
                let attempts = self.progress.sent();
                self.tell(|client| Signal::RetriesExhausted { client, attempts });
                marked(DoNotRetry::Attempts, answer)
            }
            Because::NotRepeatable | Because::NoTime | Because::Body => answer,
        }
    }

    /// The request was not kept: whether it might have been repeated is found out without it.
    fn denied<R>(
        &self,
        repeatable: Repeatable,
        answer: Result<Response<R>, BoxError>,
    ) -> Result<Response<R>, BoxError> {
        let policy = &self.config().policy;
        match policy.judge_unseen(repeatable, &answer_of(&answer)) {
            Judged::Chance(_) => {
                policy.budget.deny();
                marked(DoNotRetry::Budget, answer)
            }
            _ => {
                pass_mark(&answer);
                answer
            }
        }
    }

    fn tell(&self, signal: impl FnOnce(Arc<str>) -> Signal) {
        if let Some(signals) = &self.config().signals {
            signals.send(signal(Arc::clone(&self.config().name)));
        }
    }
}

/// The head of a request once more.
fn head_parts<B>(request: &Request<B>) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method.clone_from(request.method());
    head.uri.clone_from(request.uri());
    head.version = request.version();
    head.headers.clone_from(request.headers());
    head.extensions.clone_from(request.extensions());
    head
}

/// The nearest of all that are known.
fn deadline_of(config: &Config, headers: &HeaderMap, grpc: bool, inbound: Option<Inbound>) -> Option<Instant> {
    let own = if grpc { deadline::grpc_timeout(headers) } else { None };
    let after = match (config.deadline, own) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let own = after.and_then(|after| clock::now().checked_add(after));
    match (own, inbound.and_then(|inbound| inbound.deadline)) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn answer_of<R>(answer: &Result<Response<R>, BoxError>) -> Answer<'_> {
    match answer {
        Ok(response) => Answer::of(response),
        Err(error) => Answer::failed(error),
    }
}

fn marked<R>(mark: DoNotRetry, mut answer: Result<Response<R>, BoxError>) -> Result<Response<R>, BoxError> {
    tier::mark(mark);
    if let Ok(response) = &mut answer {
        mark.mark(response);
    }
    answer
}

/// What was not repeated for other reasons may still be marked by those further down.
fn pass_mark<R>(answer: &Result<Response<R>, BoxError>) {
    if let Ok(response) = answer
        && let Some(mark) = DoNotRetry::of(response.headers(), response.extensions())
    {
        tier::mark(mark);
    }
}

/// Reads what is there already, and lets go of the answer.
fn drain<R: Body>(body: R, cx: &mut Context<'_>) {
    let mut body = pin!(body);
    let mut read = 0;
    while read < DRAIN && !body.is_end_stream() {
        let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(cx) else {
            return;
        };
        // A frame without data counts too, so that this ends.
        read += frame.data_ref().map_or(0, Buf::remaining).max(1);
    }
}
