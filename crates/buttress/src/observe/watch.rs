//! What travels from the future to the body and ends the exchange once, at the latest when it is dropped.

use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode, response};
use http_body::Body;

use super::layer::Options;
use super::{End, Exchange, Instant, ObserveLayer, Present, Probe};
use crate::classify::{Classify, Grpc, How, Seen, Verdict, is_grpc};
use crate::{clock, context};

pub(crate) struct Watch<P: Probe, C: Classify> {
    /// Taken at the end.
    probe: Option<P>,
    classifier: C,
    exchange: Exchange,
    grpc: Option<Grpc>,
    status: Option<StatusCode>,
    asked: Asked,
    end_with_head: bool,
    delivered: u64,
    /// What the body will hold, when that is known.
    expected: Option<u64>,
}

/// What the method says about the answer's body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Head,
    Connect,
    Other,
}

impl<P: Probe, C: Classify> Watch<P, C> {
    /// Starts watching at this instant, with what `probe` makes of the observer.
    #[inline]
    pub(crate) fn start<O, B>(
        layer: &ObserveLayer<O, C>,
        request: &mut Request<B>,
        at: Instant,
        probe: impl FnOnce(&O, &mut Request<B>, &mut Exchange) -> P,
    ) -> Self {
        let Options { end_with_head, .. } = layer.options;
        let asked = match *request.method() {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ => Asked::Other,
        };
        let present = Present::of(request.headers());
        let is_grpc = present.may_have(const { Present::names(&["content-type"]) }) && is_grpc(request.headers());
        let mut exchange = Exchange { started: at, head_at: None, context: None, is_grpc, present };
        let grpc = is_grpc.then_some(Grpc::UNANSWERED);
        let probe = probe(&layer.observer, request, &mut exchange);
        Self {
            probe: Some(probe),
            classifier: layer.classifier.clone(),
            exchange,
            grpc,
            status: None,
            asked,
            end_with_head: end_with_head && grpc.is_none(),
            delivered: 0,
            expected: None,
        }
    }

    /// Runs a call or a poll of the inner service in the exchange's context; a panic ends the exchange and goes on.
    #[inline]
    pub(crate) fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let guard = EndOnPanic(self);
        let result = match &mut guard.0.exchange.context {
            None => work(),
            context => context::enter(context, work),
        };
        std::mem::forget(guard);
        result
    }

    /// Shows the head to the probe; false when the exchange ended with it.
    #[inline]
    pub(super) fn head<B: Body>(&mut self, head: &mut response::Parts, body: &B) -> bool {
        let Some(probe) = &mut self.probe else {
            return false;
        };
        let at = clock::now();
        self.exchange.head_at = Some(at);
        self.status = Some(head.status);
        if self.grpc.is_some() {
            self.grpc = Some(Grpc::of_head(head.status, &head.headers));
        }
        self.expected = body.size_hint().exact().or_else(|| content_length(head));
        probe.head(head, &mut self.exchange);
        if self.is_upgrade(head.status) {
            self.finish_at(&How::Upgraded, at);
            return false;
        }
        if self.end_with_head || self.has_no_body(head.status) || body.is_end_stream() {
            self.finish_at(&How::Complete { trailers: None }, at);
            return false;
        }
        true
    }

    pub(super) fn delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
        if let Some(probe) = &mut self.probe {
            probe.data(bytes);
        }
    }

    /// Ends the exchange now; later calls do nothing.
    pub(super) fn finish(&mut self, how: &How<'_>) {
        if self.probe.is_some() {
            self.finish_at(how, clock::now());
        }
    }

    fn finish_at(&mut self, how: &How<'_>, at: Instant) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        let seen = Seen { how, status: self.status, grpc: self.grpc };
        let Verdict { outcome, health, error_type, grpc_code } = self.classifier.classify(&seen);
        probe.end(&End {
            how,
            outcome,
            health,
            error_type,
            status: self.status,
            grpc_code,
            body_bytes: self.delivered,
            exchange: &self.exchange,
            at,
        });
    }

    fn is_upgrade(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || (self.asked == Asked::Connect && status.is_success())
    }

    /// RFC 9110, section 6.4.1: servers drop the body of such an answer without polling it.
    fn has_no_body(&self, status: StatusCode) -> bool {
        self.asked == Asked::Head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    fn how_dropped(&self) -> How<'static> {
        let Some(status) = self.status else {
            return How::DroppedBeforeHead;
        };
        // A server stops polling once it has sent as much as it announced; gRPC's trailers come after that.
        let needs_trailers = self.grpc.is_some_and(|grpc| !grpc.is_told_by_head(status));
        if self.expected == Some(self.delivered) && !needs_trailers {
            How::Complete { trailers: None }
        } else {
            How::DroppedInBody
        }
    }
}

impl<P: Probe, C: Classify> Drop for Watch<P, C> {
    fn drop(&mut self) {
        self.finish(&self.how_dropped());
    }
}

/// Ends the exchange as panicked unless it is forgotten.
struct EndOnPanic<'a, P: Probe, C: Classify>(&'a mut Watch<P, C>);

impl<P: Probe, C: Classify> Drop for EndOnPanic<'_, P, C> {
    fn drop(&mut self) {
        self.0.finish(&How::Panicked);
    }
}

fn content_length(head: &response::Parts) -> Option<u64> {
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
