//! Retries: three attempts of what may be repeated, within a budget.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Response};
use tokio::time::Sleep;
use tower::retry::Policy;
use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
use tower::retry::budget::{Budget, TpsBudget};
use tower_resilience_retry::RetryLayer;

use super::circuits::Answer;
use crate::requests::Ask;

/// It repeats whatever failed, whichever the method.
pub fn tower_resilience() -> RetryLayer<Ask, Answer, Infallible> {
    RetryLayer::builder().retry_on_response(|response: &Answer| response.status().is_server_error()).build()
}

/// The policy that tower leaves to its users, here with tower's own parts.
#[derive(Clone)]
pub struct Repeat {
    left: u32,
    backoff: ExponentialBackoff,
    budget: Arc<TpsBudget>,
}

impl Repeat {
    pub fn new() -> Self {
        Self { left: 2, backoff: ExponentialBackoffMaker::default().make_backoff(), budget: Arc::default() }
    }
}

impl<R, E> Policy<Ask, Response<R>, E> for Repeat {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Ask, result: &mut Result<Response<R>, E>) -> Option<Sleep> {
        if result.as_ref().is_ok_and(|response| !response.status().is_server_error()) {
            self.budget.deposit();
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.budget.withdraw().then(|| self.backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Ask) -> Option<Ask> {
        let is_idempotent = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
        );
        is_idempotent.then(|| request.clone())
    }
}
