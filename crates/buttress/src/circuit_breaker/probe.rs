//! What the breaker keeps of an exchange: the permit, and what the answer says about coming again.

use std::time::Duration;

use http::Response;

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

    /// What came of the call, unless it went well.
    #[cold]
    fn result(&self, end: &End<'_>) -> CallResult {
        match (end.health, end.outcome) {
            _ if matches!(self.said, Said::Refused) => CallResult::Rejected,
            (Health::Well, _) => CallResult::Ok,
            (Health::Unwell, _) => CallResult::Failed { retry_after: pushback(end).or_else(|| self.said.come_again()) },
            (Health::Unknown, Outcome::Cancelled) => CallResult::Cancelled,
            (Health::Unknown, _) if matches!(end.how, How::Failed(fault) if fault.is_refusal()) => CallResult::Rejected,
            // It was there to say so, which is what a probe is to find out; whoever is only asked for what there is not
            // would otherwise stay half-open for ever.
            (Health::Unknown, _) if self.permit.is_probe() => CallResult::Ok,
            (Health::Unknown, _) => CallResult::Ignored,
        }
    }
}

impl Said {
    /// Apart, so that most answers are passed in a few steps.
    #[inline(never)]
    fn by<R>(response: &Response<R>, is_grpc: bool) -> Self {
        if response.extensions().get::<Refused>().is_some() {
            Self::Refused
        } else if is_grpc {
            Self::of(Hint::of_grpc(response.headers()))
        } else if response.status().is_server_error() || response.status().is_client_error() {
            Self::of(Hint::of_http(response.headers()))
        } else {
            Self::Nothing
        }
    }

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
    const READS_HEAD_TIME: bool = false;

    #[inline]
    fn head<R>(&mut self, response: &mut Response<R>, exchange: &mut Exchange) {
        // Most answers have nothing more to say.
        if exchange.is_grpc || !response.status().is_success() || !response.extensions().is_empty() {
            self.said = Said::by(response, exchange.is_grpc);
        }
    }

    #[inline(always)]
    fn end(mut self, end: &End<'_>) {
        let result = match (end.health, self.said) {
            (Health::Well, Said::Nothing | Said::ComeAgain(_)) => CallResult::Ok,
            _ => self.result(end),
        };
        self.permit.end(result, end.at);
    }
}

/// What gRPC's trailers say about coming again.
fn pushback(end: &End<'_>) -> Option<Duration> {
    let How::Complete { trailers: Some(trailers) } = end.how else {
        return None;
    };
    Hint::of_grpc(trailers).and_then(Hint::wait)
}
