//! The decision for tower's own `Retry`.

use http::{Request, Response};
use tokio::time::{Sleep, sleep};
use tower::retry::Policy;

use super::RetryPolicy;
use super::budget::Ask;
use super::policy::{Answer, Decision, Progress, Repeatable, Situation, is_harmless, is_success};
use super::tier::{attempt_of, tell_attempt};
use crate::classify::is_grpc_request;
use crate::observe::RequestHead;

/// Tower clones the policy for each request, and polls; the decision is the same as that of this crate's layer.
///
/// What tower does not do: it clones the service for each request, keeps the failed answer's connection no longer than the
/// decision, knows nothing of deadlines and hedges, and does not tell when a request is over, so that only the tokens of
/// the budget hold, and not its limit of what is under way.
impl<B, R, E> Policy<Request<B>, Response<R>, E> for RetryPolicy
where
    B: Clone,
    E: std::fmt::Display + 'static,
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
