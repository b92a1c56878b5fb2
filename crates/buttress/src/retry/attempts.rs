//! The attempts at one request: what is kept of it, what was tried, and what comes next.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Response, request};
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
use crate::signal::Signal;

/// How much of a failed answer is read, so that its connection can be used again.
const DRAIN: usize = 16 * 1024;

pub(super) struct Attempts<S, B> {
    running: Running<S>,
    kept: Kept<B>,
    progress: Progress,
    /// Which attempt of its caller's the request was when it came here.
    before: u32,
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
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be one more allocation for each request that may be repeated"
)]
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
    pub(super) fn begin(core: &Arc<Core<S>>, request: Request<B>) -> (Self, Option<Request<ReplayBody<B>>>) {
        let config = &*core.config;
        let (mut head, body) = request.into_parts();
        let inbound = Inbound::current();
        let grpc = is_grpc(&head.headers);
        let deadline = deadline_of(config, &head, grpc, inbound);
        let before = inbound.map_or(1, |inbound| inbound.attempt);
        let (kept, body) = keep(config, &head, body);
        let attempts = Self {
            running: Running::new(core),
            kept,
            progress: Progress { attempts: 1, unprocessed: 0 },
            before,
            deadline,
            started: None,
            repeat: None,
            previous: Previous::default(),
        };
        if before > 1 {
            let attempt = before.max(tier::attempt_of(&head.headers));
            tier::tell_attempt(&mut head.headers, attempt, grpc);
        }
        if !attempts.tell_deadline(&mut head, grpc) {
            return (attempts, None);
        }
        (attempts, Some(Request::from_parts(head, body)))
    }

    /// Whether there is time left.
    fn tell_deadline(&self, head: &mut request::Parts, grpc: bool) -> bool {
        let Some(left) = self.left() else {
            return true;
        };
        deadline::tell(&mut head.headers, left, grpc, self.config().deadline_header.as_ref());
        !left.is_zero()
    }

    /// The request once more, `more` attempts after the last one.
    pub(super) fn again(&self, more: u32) -> Option<Request<ReplayBody<B>>> {
        let Kept::Yes { head, body } = &self.kept else {
            return None;
        };
        let mut head = head.clone();
        let grpc = is_grpc(&head.headers);
        // Sent before, all counted: what is not is none that a server has seen.
        let before = self.before.max(tier::attempt_of(&head.headers));
        let sent = self.progress.attempts - 1 + more;
        tier::tell_attempt(&mut head.headers, before.saturating_add(sent), grpc);
        self.tell_deadline(&mut head, grpc);
        self.previous.tell(&mut head.extensions, self.progress.sent() - 1 + more);
        Some(Request::from_parts(head, body.body()))
    }

    /// Sends an attempt.
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

    /// What to do with an answer.
    pub(super) fn settle<R: Body>(&mut self, answer: Result<Response<R>, BoxError>, cx: &mut Context<'_>) -> Next<R> {
        self.repeat = None;
        if let Ok(response) = &answer
            && is_success(response.status(), response.headers())
        {
            self.config().policy.budget.succeeded();
        }
        let (head, body) = match &self.kept {
            Kept::No => return Next::Return(pass_mark(answer)),
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
            _ => pass_mark(answer),
        }
    }

    fn tell(&self, signal: impl FnOnce(Arc<str>) -> Signal) {
        if let Some(signals) = &self.config().signals {
            signals.send(signal(Arc::clone(&self.config().name)));
        }
    }
}

fn keep<B: Body<Data = Bytes>>(config: &Config, head: &request::Parts, body: B) -> (Kept<B>, ReplayBody<B>) {
    let repeatable = config.policy.repeatable(&head_of(head));
    if repeatable == Repeatable::No {
        return (Kept::No, ReplayBody::passing(body));
    }
    if config.policy.budget.is_paused() {
        return (Kept::Denied(repeatable), ReplayBody::passing(body));
    }
    match ReplayBody::keep(body, config.replay_limit) {
        (body, Some(source)) => (Kept::Yes { head: head.clone(), body: source }, body),
        (body, None) => (Kept::No, body),
    }
}

/// The nearest of all that are known.
fn deadline_of(config: &Config, head: &request::Parts, grpc: bool, inbound: Option<Inbound>) -> Option<Instant> {
    let own = if grpc { deadline::grpc_timeout(&head.headers) } else { None };
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
fn pass_mark<R>(answer: Result<Response<R>, BoxError>) -> Result<Response<R>, BoxError> {
    if let Ok(response) = &answer
        && let Some(mark) = DoNotRetry::of(response.headers(), response.extensions())
    {
        tier::mark(mark);
    }
    answer
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
