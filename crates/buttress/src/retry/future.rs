use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::attempts::{Attempts, Next};
use super::budget::Withdrawal;
use super::error::BoxError;
use super::timer::Timer;
use super::{ReplayBody, TimedOut};
use crate::clock::{self, Instant};

pin_project! {
    /// The answer to come, of the first attempt or a later one; of [`Retry`](super::Retry).
    ///
    /// `F` is the future of the service `S`: named apart, because a compiler that asks whether this is `Send` does not
    /// get through to it where the error of `S` is a boxed one.
    pub struct ResponseFuture<S, F, B> {
        // Dropped before what counts the attempts.
        #[pin]
        step: Step<S, F>,
        #[pin]
        timer: Timer,
        attempts: Attempts<S, B>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<S, F> {
        // An attempt is out, and perhaps a second one beside it.
        Attempt { #[pin] first: Option<F>, second: Second<S, F> },
        Wait { until: Instant },
        // A clone of the service has to say that it is ready. Boxed, so that it takes no room before there is a repeat.
        Ready { service: Box<S> },
        Over,
    }
}

/// The attempt beside the first. Boxed, so that requests that are not hedged have no room for two.
enum Second<S, F> {
    /// Not yet.
    Later,
    /// A clone of the service has to say that it is ready.
    Ready(Box<(S, Withdrawal)>),
    Running(Pin<Box<Hedged<F>>>),
    /// It failed, or may not be.
    No,
}

pin_project! {
    struct Hedged<F> {
        #[pin]
        future: F,
        started: Option<Instant>,
        _withdrawal: Withdrawal,
    }
}

impl<S, F, B> ResponseFuture<S, F, B> {
    /// Of the first attempt, which has just been sent.
    #[inline(always)]
    pub(super) fn new(mut attempts: Attempts<S, B>, first: F) -> Self {
        attempts.sent();
        let step = Step::Attempt { first: Some(first), second: Second::Later };
        Self { step, timer: Timer::default(), attempts }
    }

    /// There is no time to send anything.
    pub(super) fn late(attempts: Attempts<S, B>) -> Self {
        Self { step: Step::Over, timer: Timer::default(), attempts }
    }
}

impl<S, B, R> Future for ResponseFuture<S, S::Future, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    R: Body,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProjection::Attempt { mut first, second } => {
                    let polled = match (first.as_mut().as_pin_mut(), &*second) {
                        (Some(first), Second::Later | Second::No) => {
                            let polled = first.poll(cx);
                            if let Poll::Ready(answer) = &polled {
                                this.attempts.took(this.attempts.started());
                                // Where most answers go their way: as they came, not through what repeats need. The attempt
                                // goes with this future, which nobody has a use for any more.
                                if this.attempts.is_final(answer) {
                                    return polled.map_err(Into::into);
                                }
                            }
                            match polled {
                                Poll::Ready(answer) => Some(answer.map_err(Into::into)),
                                Poll::Pending => None,
                            }
                        }
                        _ => match poll_both(first, second, this.attempts, cx) {
                            Poll::Ready(answer) if this.attempts.is_final(&answer) => {
                                this.step.set(Step::Over);
                                return Poll::Ready(answer);
                            }
                            Poll::Ready(answer) => Some(answer),
                            Poll::Pending => None,
                        },
                    };
                    let answer = match polled {
                        Some(answer) => answer,
                        None => {
                            let until = next_event(this.attempts, second);
                            ready!(this.timer.as_mut().poll_until(until, cx));
                            let Some(timed_out) = what_is_due(this.attempts, second) else {
                                continue;
                            };
                            this.attempts.took(this.attempts.started());
                            let answer = Err(timed_out.into());
                            if this.attempts.is_final(&answer) {
                                this.step.set(Step::Over);
                                return Poll::Ready(answer);
                            }
                            answer
                        }
                    };
                    this.step.set(Step::Over);
                    match this.attempts.settle(answer, cx) {
                        Next::Return(answer) => return Poll::Ready(answer),
                        Next::RepeatAt(until) => this.step.set(Step::Wait { until }),
                    }
                }
                StepProjection::Wait { until } => {
                    // A wait that would not fit before the deadline was not begun.
                    ready!(this.timer.as_mut().poll_until(Some(*until), cx));
                    let service = Box::new(this.attempts.spare());
                    this.step.set(Step::Ready { service });
                }
                StepProjection::Ready { service } => {
                    match service.poll_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => {
                            this.step.set(Step::Over);
                            return Poll::Ready(Err(error.into()));
                        }
                        Poll::Pending => {
                            ready!(this.timer.as_mut().poll_until(this.attempts.deadline(), cx));
                            this.step.set(Step::Over);
                            return Poll::Ready(Err(TimedOut::Deadline.into()));
                        }
                    }
                    let request = this.attempts.again(0).expect("only what was kept is repeated");
                    let first = Some(this.attempts.send(service, request));
                    this.step.set(Step::Attempt { first, second: Second::Later });
                }
                // Only a request without any time is over before it began.
                StepProjection::Over => return Poll::Ready(Err(TimedOut::Deadline.into())),
            }
        }
    }
}

type AnswerOf<R> = Result<Response<R>, BoxError>;

/// The first good answer, or the last bad one.
fn poll_both<S, B, R>(
    mut first: Pin<&mut Option<S::Future>>,
    second: &mut Second<S, S::Future>,
    attempts: &mut Attempts<S, B>,
    cx: &mut Context<'_>,
) -> Poll<AnswerOf<R>>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if let Some(future) = first.as_mut().as_pin_mut()
        && let Poll::Ready(answer) = future.poll(cx)
    {
        let answer = answer.map_err(Into::into);
        first.set(None);
        attempts.took(attempts.started());
        let Second::Running(hedged) = second else {
            return Poll::Ready(answer);
        };
        if attempts.is_good(&answer) {
            attempts.took(hedged.started);
            return Poll::Ready(answer);
        }
    }
    let answer: AnswerOf<R> = ready!(poll_second(second, attempts, cx));
    *second = Second::No;
    if first.is_none() {
        return Poll::Ready(answer);
    }
    if !attempts.is_good(&answer) {
        return Poll::Pending;
    }
    attempts.config().stats.hedge_won();
    attempts.took(attempts.started());
    Poll::Ready(answer)
}

fn poll_second<S, B, R>(
    second: &mut Second<S, S::Future>,
    attempts: &mut Attempts<S, B>,
    cx: &mut Context<'_>,
) -> Poll<AnswerOf<R>>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    loop {
        match second {
            Second::Later | Second::No => return Poll::Pending,
            Second::Running(hedged) => {
                let answer = ready!(hedged.as_mut().project().future.poll(cx));
                attempts.took(hedged.started);
                return Poll::Ready(answer.map_err(Into::into));
            }
            Second::Ready(clone) => {
                if let Err(error) = ready!(clone.0.poll_ready(cx)) {
                    return Poll::Ready(Err(error.into()));
                }
                let Second::Ready(clone) = std::mem::replace(second, Second::No) else { unreachable!("just matched") };
                let (mut service, withdrawal) = *clone;
                let request = attempts.again(1).expect("only what was kept is hedged");
                let future = service.call(request);
                let started = Some(clock::now());
                *second = Second::Running(Box::pin(Hedged { future, started, _withdrawal: withdrawal }));
            }
        }
    }
}

/// When something is due although no attempt has an answer.
fn next_event<S, B, F>(attempts: &Attempts<S, B>, second: &Second<S, F>) -> Option<Instant> {
    let hedge = if matches!(second, Second::Later) { attempts.hedge_at() } else { None };
    [attempts.deadline(), attempts.attempt_end(), hedge].into_iter().flatten().min()
}

/// The attempts are given up, or get company.
fn what_is_due<S, B>(attempts: &Attempts<S, B>, second: &mut Second<S, S::Future>) -> Option<TimedOut>
where
    S: Service<Request<ReplayBody<B>>> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let now = clock::now();
    let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
    if is_due(attempts.deadline()) {
        return Some(TimedOut::Deadline);
    }
    if is_due(attempts.attempt_end()) {
        return attempts.config().attempt_timeout.map(TimedOut::Attempt);
    }
    if matches!(second, Second::Later) && is_due(attempts.hedge_at()) {
        *second = match attempts.hedge() {
            Some(withdrawal) => Second::Ready(Box::new((attempts.spare(), withdrawal))),
            None => Second::No,
        };
    }
    None
}

impl<S, F, B> fmt::Debug for ResponseFuture<S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.step {
            Step::Attempt { .. } => "ResponseFuture(attempt)",
            Step::Wait { .. } => "ResponseFuture(wait)",
            Step::Ready { .. } => "ResponseFuture(ready)",
            Step::Over => "ResponseFuture(over)",
        })
    }
}
