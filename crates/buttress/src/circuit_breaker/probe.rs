//! What the breaker keeps of an exchange: the permit, and what the answer says about coming again.

use std::time::Duration;

use http::response;

use super::{CallResult, Permit, Refused};
use crate::hint::Hint;
use crate::observe::{End, Exchange, Health, How, Outcome, Probe};

/// Reports the end of an exchange to the circuit that admitted it.
#[derive(Debug)]
pub struct PermitProbe {
    permit: Permit,
    retry_after: Option<Duration>,
    /// A circuit farther in did not make the call.
    refused: bool,
}

impl PermitProbe {
    pub(super) const fn new(permit: Permit) -> Self {
        Self { permit, retry_after: None, refused: false }
    }
}

impl Probe for PermitProbe {
    fn head(&mut self, head: &mut response::Parts, exchange: &mut Exchange) {
        self.refused = head.extensions.get::<Refused>().is_some();
        if exchange.is_grpc {
            self.retry_after = Hint::of_grpc(&head.headers).and_then(Hint::wait);
        } else if head.status.is_server_error() || head.status.is_client_error() {
            self.retry_after = Hint::of_http(&head.headers).and_then(Hint::wait);
        }
    }

    fn end(self, end: &End<'_>) {
        let trailers = match end.how {
            How::Complete { trailers } => *trailers,
            _ => None,
        };
        let pushback = trailers.and_then(Hint::of_grpc).and_then(Hint::wait);
        let result = match (end.health, end.outcome) {
            _ if self.refused => CallResult::Rejected,
            (Health::Well, _) => CallResult::Ok,
            (Health::Unwell, _) => CallResult::Failed { retry_after: pushback.or(self.retry_after) },
            (Health::Unknown, Outcome::Cancelled) => CallResult::Cancelled,
            (Health::Unknown, _) if matches!(end.how, How::Failed(fault) if fault.is_refusal()) => CallResult::Rejected,
            // It was there to say so, which is what a probe is to find out; whoever is only asked for what there is not
            // would otherwise stay half-open for ever.
            (Health::Unknown, _) if self.permit.is_probe() => CallResult::Ok,
            (Health::Unknown, _) => CallResult::Ignored,
        };
        self.permit.report(result, end.at);
    }
}
