//! The attempts at one request: what is kept of it, what was tried, and what comes next.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::budget::{Ask, Withdrawal};
use super::error::BoxError;
use super::layer::Config;
use super::original::{Original, Told};
use super::policy::{Because, Decision, Judged, Repeatable, Situation, head_of, is_safe, is_success};
use super::resend::Previous;
use super::service::Ticket;
use super::{Answer, DoNotRetry, Inbound, Progress, Reason, ReplayBody, deadline, tier};
use crate::classify::Fault;
use crate::clock::{self, Instant};
use crate::observe::RequestHead;
use crate::signal::Signal;

/// How much of a failed answer is read, so that its connection can be used again.
const DRAIN: usize = 16 * 1024;

pub(super) struct Attempts<S, B> {
    running: Running<S>,
    kept: Kept<B>,
    grpc: bool,
    deadline: Option<Instant>,
    /// When the current attempt was sent; not asked where nobody needs it.
    started: Option<Instant>,
}

/// Counted as under way.
struct Running<S>(Arc<Ticket<S>>);

impl<S> Running<S> {
    #[inline]
    fn new(ticket: Arc<Ticket<S>>) -> Self {
        ticket.begin();
        Self(ticket)
    }
}

impl<S> Drop for Running<S> {
    #[inline]
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What repeats are made of.
enum Kept<B> {
    /// There will be none.
    No,
    /// There would be, had the budget not said no a moment ago.
    Denied(Repeatable),
    /// Boxed, so that requests that are not kept have no room for it: it is larger than all the rest.
    Yes(Box<Original<B>>),
}

/// What follows an answer.
pub(super) enum Next<R> {
    Return(Result<Response<R>, BoxError>),
    RepeatAt(Instant),
}

impl<S, B> Attempts<S, B> {
    #[inline]
    pub(super) fn config(&self) -> &Config {
        &self.running.0.core.config
    }

    #[inline]
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// When the current attempt has taken too long.
    pub(super) fn attempt_end(&self) -> Option<Instant> {
        self.started?.checked_add(self.config().attempt_timeout?)
    }

    /// When the current attempt gets company.
    pub(super) fn hedge_at(&self) -> Option<Instant> {
        let Kept::Yes(original) = &self.kept else {
            return None;
        };
        let hedge = self.config().hedge.as_ref().filter(|_| is_safe(&original.method))?;
        self.started?.checked_add(hedge.delay()?)
    }

    /// An attempt that was sent then has an answer, or is dropped now.
    #[inline]
    pub(super) fn took(&self, started: Option<Instant>) {
        if let (Some(hedge), Some(started)) = (&self.config().hedge, started) {
            hedge.took(clock::now().saturating_duration_since(started));
        }
    }

    #[inline]
    pub(super) fn started(&self) -> Option<Instant> {
        self.started
    }

    /// An attempt has been sent.
    #[inline]
    pub(super) fn sent(&mut self) {
        if let Kept::Yes(original) = &mut self.kept {
            original.previous = Previous::recorded();
        }
    }

    #[inline]
    fn left(&self) -> Option<Duration> {
        left(self.deadline)
    }

    #[inline]
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
    pub(super) fn begin(ticket: Arc<Ticket<S>>, request: &mut Request<B>) -> Self {
        let running = Running::new(ticket);
        let config = &*running.0.core.config;
        let inbound = Inbound::current();
        let Told { grpc, harmless } = Told::of(&RequestHead::of(request));
        let before = inbound.map_or(1, |inbound| inbound.attempt);
        let kept = match config.policy.repeatable(|| RequestHead::of(request), grpc, harmless) {
            Repeatable::No => Kept::No,
            repeatable if config.policy.budget.is_paused() => Kept::Denied(repeatable),
            _ if ReplayBody::is_too_long(request.body(), config.replay_limit) => Kept::No,
            _ => Kept::Yes(Original::of(request, before)),
        };
        // Most clients have none, and are not served within one.
        let deadline = if grpc || config.deadline.is_some() || inbound.is_some() {
            deadline_of(config, request.headers(), grpc, inbound)
        } else {
            None
        };
        if before > 1 {
            let attempt = before.max(tier::attempt_of(request.headers()));
            tier::tell_attempt(request.headers_mut(), attempt, grpc);
        }
        if deadline.is_some() {
            tell_deadline(config, request.headers_mut(), deadline, grpc);
        }
        Self { running, kept, grpc, deadline, started: None }
    }

    /// Whether this body has to be kept as it passes.
    #[inline]
    pub(super) fn keeps(&self, body: &B) -> bool {
        matches!(self.kept, Kept::Yes(_)) && !body.is_end_stream()
    }

    /// The request as the inner service gets it, with its body kept as it passes.
    #[inline(never)]
    pub(super) fn keep(&mut self, request: Request<B>) -> Request<ReplayBody<B>> {
        let limit = self.config().replay_limit;
        request.map(|body| {
            let (body, source) = ReplayBody::keep(body, limit);
            if let Kept::Yes(original) = &mut self.kept {
                original.body = source;
            }
            body
        })
    }

    /// Whether there is time left to send anything.
    #[inline]
    pub(super) fn is_in_time(&self) -> bool {
        self.left().is_none_or(|left| !left.is_zero())
    }

    /// The request once more, `more` attempts after the last one.
    pub(super) fn again(&self, more: u32) -> Option<Request<ReplayBody<B>>> {
        let Kept::Yes(original) = &self.kept else {
            return None;
        };
        let mut head = original.head();
        // Sent before, all counted: what is not is none that a server has seen.
        let sent = original.progress.attempts - 1 + more;
        let attempt = original.before(&head.headers).saturating_add(sent);
        tier::tell_attempt(&mut head.headers, attempt, self.grpc);
        tell_deadline(self.config(), &mut head.headers, self.deadline, self.grpc);
        original.previous.tell(&mut head.extensions, original.progress.sent() - 1 + more);
        Some(Request::from_parts(head, original.body.body()))
    }

    /// Sends an attempt.
    pub(super) fn send<Q>(&mut self, service: &mut S, request: Q) -> S::Future
    where
        S: Service<Q>,
    {
        self.sending();
        let future = service.call(request);
        self.sent();
        future
    }

    #[inline]
    pub(super) fn sending(&mut self) {
        if self.is_timed() {
            self.started = Some(clock::now());
        }
        if let Kept::Yes(original) = &mut self.kept {
            if let Some(repeat) = &mut original.repeat {
                repeat.sent();
            }
            Previous::forget();
        }
    }

    /// A token for a hedge.
    pub(super) fn hedge(&self) -> Option<Withdrawal> {
        let Kept::Yes(original) = &self.kept else {
            return None;
        };
        if !original.body.is_whole() {
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
        self.running.0.core.spare()
    }

    /// Whether an answer is one to be content with.
    pub(super) fn is_good<R>(&self, answer: &Result<Response<R>, BoxError>) -> bool {
        let Kept::Yes(original) = &self.kept else {
            return true;
        };
        let head = original.head();
        self.config().policy.judge(&head_of(&head), &answer_of(answer)) == Judged::Fine
    }

    /// Whether an answer is the last without a closer look; asked once for each.
    #[inline]
    pub(super) fn is_final<R, E>(&mut self, answer: &Result<Response<R>, E>) -> bool {
        let good = answer.as_ref().is_ok_and(|response| is_success(response, self.grpc));
        let ticket = &self.running.0;
        if good {
            ticket.succeeded();
        }
        match &mut self.kept {
            Kept::No => {
                if !good {
                    pass_mark(answer);
                }
                true
            }
            Kept::Denied(_) => good,
            Kept::Yes(original) => {
                if good {
                    original.repeat = None;
                }
                good && !ticket.core.config.policy.is_custom()
            }
        }
    }

    /// What to do with an answer that was not final.
    pub(super) fn settle<R: Body>(&mut self, answer: Result<Response<R>, BoxError>, cx: &mut Context<'_>) -> Next<R> {
        if let Kept::Yes(original) = &mut self.kept
            && let Some(repeat) = original.repeat.take()
            && is_refused(&answer)
        {
            repeat.unsent();
        }
        let original = match &self.kept {
            Kept::No => return Next::Return(answer),
            Kept::Denied(repeatable) => return Next::Return(self.denied(*repeatable, answer)),
            Kept::Yes(original) => original,
        };
        let head = original.head();
        let situation = Situation {
            request: head_of(&head),
            answer: answer_of(&answer),
            progress: original.progress,
            left: self.left(),
            is_whole: original.body.is_whole(),
        };
        match self.config().policy.decide(&situation) {
            Decision::Done => Next::Return(answer),
            Decision::Repeat { reason, after } => {
                let ask = original.ask(&head.headers);
                self.repeat(reason, after, ask, answer, cx)
            }
            Decision::HandOut(because) => Next::Return(self.hand_out(because, original.progress, answer)),
        }
    }

    fn repeat<R: Body>(
        &mut self,
        reason: Reason,
        after: Duration,
        ask: Ask,
        answer: Result<Response<R>, BoxError>,
        cx: &mut Context<'_>,
    ) -> Next<R> {
        let Kept::Yes(original) = &mut self.kept else {
            return Next::Return(answer);
        };
        let config = &*self.running.0.core.config;
        if !reason.is_free() {
            match config.policy.budget.withdraw(ask) {
                Ok(withdrawal) => original.repeat = Some(withdrawal),
                Err(first) => {
                    if first {
                        self.tell(|client| Signal::RetryBudgetSpent { client });
                    }
                    return Next::Return(marked(DoNotRetry::Budget, answer));
                }
            }
        }
        config.stats.repeats(reason, after);
        original.progress.count(reason);
        if let Ok(response) = answer {
            drain(response.into_body(), cx);
        }
        Next::RepeatAt(clock::now() + after)
    }

    fn hand_out<R>(
        &self,
        because: Because,
        progress: Progress,
        answer: Result<Response<R>, BoxError>,
    ) -> Result<Response<R>, BoxError> {
        match because {
            Because::Told(mark) => {
                tier::mark(mark);
                answer
            }
            Because::Exhausted => {
                self.config().stats.exhausted();
                let attempts = progress.sent();
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

#[inline]
fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
}

fn tell_deadline(config: &Config, headers: &mut HeaderMap, deadline: Option<Instant>, grpc: bool) {
    if let Some(left) = left(deadline) {
        deadline::tell(headers, left, grpc, config.deadline_header.as_ref());
    }
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

/// Whether a layer farther in let nobody through: what was paid for that is given back.
fn is_refused<R>(answer: &Result<Response<R>, BoxError>) -> bool {
    match answer {
        Ok(response) => response.extensions().get() == Some(&DoNotRetry::Rejected),
        Err(error) => Fault::new(error).is_refusal(),
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
#[cold]
fn pass_mark<R, E>(answer: &Result<Response<R>, E>) {
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
