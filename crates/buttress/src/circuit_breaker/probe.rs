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
    said: Said,
}

/// What the head of the answer says beside its status. No larger than the one duration in it.
#[derive(Clone, Copy, Debug)]
enum Said {
    Nothing,
    ComeAgain(Duration),
    /// A circuit farther in did not make the call.
    Refused,
}

impl PermitProbe {
    pub(super) const fn new(permit: Permit) -> Self {
        Self { permit, said: Said::Nothing }
    }
}

impl Said {
    fn of(hint: Option<Hint>) -> Self {
        hint.and_then(Hint::wait).map_or(Self::Nothing, Self::ComeAgain)
    }

    const fn come_again(self) -> Option<Duration> {
        match self {
            Self::ComeAgain(after) => Some(after),
            Self::Nothing | Self::Refused => None,
        }
    }
}

impl Probe for PermitProbe {
    fn head(&mut self, head: &mut response::Parts, exchange: &mut Exchange) {
        let failed = head.status.is_server_error() || head.status.is_client_error();
        self.said = if head.extensions.get::<Refused>().is_some() {
            Said::Refused
        } else if exchange.is_grpc {
            Said::of(Hint::of_grpc(&head.headers))
        } else if failed {
            Said::of(Hint::of_http(&head.headers))
        } else {
            Said::Nothing
        };
    }

    fn end(self, end: &End<'_>) {
        let result = match (end.health, end.outcome) {
            _ if matches!(self.said, Said::Refused) => CallResult::Rejected,
            (Health::Well, _) => CallResult::Ok,
            (Health::Unwell, _) => CallResult::Failed { retry_after: pushback(end).or_else(|| self.said.come_again()) },
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

/// What gRPC's trailers say about coming again.
fn pushback(end: &End<'_>) -> Option<Duration> {
    let How::Complete { trailers: Some(trailers) } = end.how else {
        return None;
    };
    Hint::of_grpc(trailers).and_then(Hint::wait)
}
