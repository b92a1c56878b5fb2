//! The decision for tower's own `Retry`.

use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use tokio::time::{Sleep, sleep};
use tower::retry::Policy;

use super::budget::Ask;
use super::policy::{Answer, Decision, Progress, Repeatable, Situation, is_harmless, is_success};
use super::tier::{attempt_of, tell_attempt};
use super::{RetryPolicy, TimedOut};
use crate::classify::{Fault, is_grpc_request};
use crate::observe::RequestHead;

/// Tower clones the policy for each request, and polls; the decision is the same as that of this crate's layer.
///
/// What tower does not do: it clones the service for each request, keeps the failed answer's connection no longer than the
/// decision, knows nothing of deadlines and hedges, and does not tell when a request is over, so that only the tokens of
/// the budget hold, and not its limit of what is under way.
impl<B, R, E> Policy<Request<B>, Response<R>, E> for RetryPolicy
where
    B: Clone,
    E: fmt::Display + 'static,
{
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<B>, result: &mut Result<Response<R>, E>) -> Option<Sleep> {
        let answer = match result {
            Ok(response) => {
                if is_success(response, is_grpc_request(request.method(), request.headers())) {
                    self.budget.succeeded();
                }
                Answer::of(response)
            }
            Err(error) => Answer::failed(error),
        };
        self.progress.attempts = self.progress.attempts.max(1);
        let progress = self.progress;
        let head = RequestHead::of(request);
        let is_repeat = progress.sent() == 1 && attempt_of(head.headers) > 1;
        let decision = self.decide(&Situation { request: head, answer, progress, left: None, is_whole: true });
        let Decision::Repeat { reason, after } = decision else {
            return None;
        };
        if !reason.is_free() {
            let ask = if is_repeat { Ask::RepeatOfRepeat } else { Ask::Repeat };
            self.budget.withdraw(ask).ok()?.sent();
        }
        self.progress.count(reason);
        let grpc = is_grpc_request(request.method(), request.headers());
        let attempt = attempt_of(request.headers()).saturating_add(1);
        tell_attempt(request.headers_mut(), attempt, grpc);
        Some(sleep(after))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        let head = RequestHead::of(request);
        (self.repeatable(|| head, is_grpc_request(head.method, head.headers), is_harmless(&head)) != Repeatable::No)
            .then(|| request.clone())
    }
}

impl Progress {
    /// One more attempt will be made, for this reason.
    pub(super) fn count(&mut self, reason: super::Reason) {
        if reason.is_free() {
            self.unprocessed += 1;
        } else {
            self.attempts += 1;
        }
    }
}

impl RetryPolicy {
    /// For services whose requests are no HTTP: the processor of a queue, a client of a database. Attempts, backoff and
    /// budget stay; what was said of requests and answers has no meaning there.
    ///
    /// ```
    /// use buttress::retry::RetryPolicy;
    /// use tower::retry::RetryLayer;
    /// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), BoxError> {
    /// # use std::sync::atomic::{AtomicU32, Ordering};
    /// # static CALLS: AtomicU32 = AtomicU32::new(0);
    /// # async fn send(address: String) -> Result<usize, BoxError> {
    /// #     if CALLS.fetch_add(1, Ordering::Relaxed) < 2 { Err("busy".into()) } else { Ok(address.len()) }
    /// # }
    /// let processor = ServiceBuilder::new()
    ///     // Outside of what concerns one attempt, such as a circuit.
    ///     .layer(RetryLayer::new(RetryPolicy::new().any_request()))
    ///     .service(service_fn(async |address: String| send(address).await));
    /// // The mail server was busy twice.
    /// assert_eq!(processor.oneshot("ada@example.com".to_owned()).await?, 15);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn any_request(self) -> AnyRequest {
        AnyRequest { policy: self, when: None }
    }
}

/// A policy of tower's own `Retry` for requests of any type that can be cloned; of [`RetryPolicy::any_request`].
///
/// An answer is a success, an error a failure that is worth a repeat, after the backoff and within the budget. None follows
/// where nobody was asked, because a circuit is open or [`NotRetryable`](super::NotRetryable) stands among the sources, nor
/// after the deadline of a retry farther in. Errors are looked through to their sources if they are boxed, as tower's are.
///
/// Of the budget only the tokens hold, as tower does not tell when a request is over. What may not be done twice is not to
/// be put behind it.
#[derive(Clone)]
pub struct AnyRequest {
    policy: RetryPolicy,
    when: Option<Arc<WhenFn>>,
}

type WhenFn = dyn Fn(&Fault<'_>) -> bool + Send + Sync;

impl AnyRequest {
    /// Only these errors are worth a repeat. All of them by default; it is not asked about those that never are.
    #[must_use]
    pub fn when(mut self, when: impl Fn(&Fault<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(when));
        self
    }

    fn is_worth_it(&self, fault: &Fault<'_>) -> bool {
        let is_over =
            |error: &(dyn std::error::Error + 'static)| error.downcast_ref().is_some_and(TimedOut::is_deadline);
        !fault.is_refusal() && !fault.chain().any(is_over) && self.when.as_ref().is_none_or(|when| when(fault))
    }
}

impl<Q: Clone, R, E: fmt::Display + 'static> Policy<Q, R, E> for AnyRequest {
    type Future = Sleep;

    fn retry(&mut self, _request: &mut Q, result: &mut Result<R, E>) -> Option<Sleep> {
        let Err(error) = result else {
            self.policy.budget.succeeded();
            return None;
        };
        if !self.is_worth_it(&Fault::new(error)) {
            return None;
        }
        let RetryPolicy { attempts, backoff, budget, progress, .. } = &mut self.policy;
        // This attempt has failed.
        progress.attempts += 1;
        if progress.attempts >= *attempts {
            return None;
        }
        budget.withdraw(Ask::Repeat).ok()?.sent();
        Some(sleep(backoff.delay(progress.attempts - 1)))
    }

    fn clone_request(&mut self, request: &Q) -> Option<Q> {
        (self.policy.attempts > 1).then(|| request.clone())
    }
}

impl fmt::Debug for AnyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyRequest").field("policy", &self.policy).finish_non_exhaustive()
    }
}
