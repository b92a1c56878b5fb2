//! What travels from the future to the body and ends the exchange once, at the latest when it is dropped.

use std::fmt;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};

use super::layer::Options;
use super::{End, Exchange, Instant, ObserveLayer, Present, Probe};
use crate::classify::{Classify, Fault, Grpc, How, Seen, Verdict, is_grpc_request};
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
        asks_for_headers: bool,
        probe: impl FnOnce(&O, &mut Request<B>, &mut Exchange) -> P,
    ) -> Self {
        let Options { end_with_head, .. } = layer.options;
        let asked = match *request.method() {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ => Asked::Other,
        };
        let present = if asks_for_headers { Present::of(request.headers()) } else { Present::UNKNOWN };
        let is_grpc = present.may_have(const { Present::names(&["content-type"]) })
            && is_grpc_request(request.method(), request.headers());
        let grpc = is_grpc.then_some(Grpc::UNANSWERED);
        let mut watch = Self {
            probe: None,
            classifier: layer.classifier.clone(),
            exchange: Exchange { started: at, head_at: None, context: None, is_grpc, present },
            grpc,
            status: None,
            asked,
            end_with_head: end_with_head && grpc.is_none(),
            delivered: 0,
            expected: None,
        };
        // The exchange is where it stays before somebody can reach it, so that it is not moved. (There is no probe to drop.)
        let probe = probe(&layer.observer, request, &mut watch.exchange);
        std::mem::forget(watch.probe.replace(probe));
        watch
    }

    /// Runs a call or a poll of the inner service in the exchange's context; a panic ends the exchange and goes on.
    #[inline]
    pub(crate) fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if let Some(entered) = self.enter() {
            return entered.run(work);
        }
        self.run_bridged(work)
    }

    /// As [`run`](Self::run), until the guard is told to leave; `None` where a bridge has to be asked. For what is large:
    /// into a closure it would be moved.
    #[inline]
    pub(crate) fn enter(&mut self) -> Option<Entered<'_, P, C>> {
        let has_context = self.exchange.context.is_some();
        if has_context && !context::swap_in(&mut self.exchange.context) {
            return None;
        }
        Some(Entered { watch: self, has_context })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn run_bridged<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let entered = Entered { watch: self, has_context: false };
        let result = context::enter(&mut entered.watch.exchange.context, work);
        entered.leave();
        result
    }

    /// Shows the head to the probe; false when the exchange ended with it.
    #[inline]
    pub(super) fn head<B: Body>(&mut self, response: &mut Response<B>) -> bool {
        let at = P::READS_HEAD_TIME.then(clock::now);
        let Some(probe) = &mut self.probe else {
            return false;
        };
        let status = response.status();
        self.exchange.head_at = at;
        self.status = Some(status);
        if self.grpc.is_some() {
            self.grpc = Some(Grpc::of_head(status, response.headers()));
        }
        self.expected = response.body().size_hint().exact().or_else(|| content_length(response.headers()));
        probe.head(response, &mut self.exchange);
        if self.is_upgrade(response.status()) {
            self.finish_at(&How::Upgraded, at.unwrap_or_else(|| self.now()));
            return false;
        }
        if self.end_with_head || self.has_no_body(response.status()) || response.body().is_end_stream() {
            self.finish_at(&How::Complete { trailers: None }, at.unwrap_or_else(|| self.now()));
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
            self.finish_at(how, self.now());
        }
    }

    fn finish_at(&mut self, how: &How<'_>, at: Instant) {
        // Taken first: a classifier that panics ends it as well.
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

    /// This moment, if it is told to anybody.
    #[inline]
    fn now(&self) -> Instant {
        if P::READS_TIMES { clock::now() } else { self.exchange.started }
    }

    /// What one frame, or the end of them, means; the frame comes back as it was. Apart, and by value, so that a frame of
    /// data, which most are, need not lie in memory.
    #[cold]
    #[inline(never)]
    pub(super) fn finish_with<D, E: fmt::Display + 'static>(
        &mut self,
        frame: Option<Result<Frame<D>, E>>,
    ) -> Option<Result<Frame<D>, E>> {
        match &frame {
            Some(Ok(frame)) => self.finish(&How::Complete { trailers: frame.trailers_ref() }),
            Some(Err(error)) => self.finish(&How::BodyFailed(Fault::new(error))),
            None => self.finish(&How::Complete { trailers: None }),
        }
        frame
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

/// Within the exchange's context. Ends the exchange as panicked unless somebody leaves.
pub(crate) struct Entered<'a, P: Probe, C: Classify> {
    watch: &'a mut Watch<P, C>,
    has_context: bool,
}

impl<P: Probe, C: Classify> Entered<'_, P, C> {
    /// Apart from [`Watch::run`], whose result it then is without being moved.
    #[inline]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        let result = work();
        self.leave();
        result
    }

    #[inline]
    pub(crate) fn leave(mut self) {
        self.swap_back();
        std::mem::forget(self);
    }

    #[inline]
    fn swap_back(&mut self) {
        if self.has_context {
            context::swap_out(&mut self.watch.exchange.context);
        }
    }
}

impl<P: Probe, C: Classify> Drop for Entered<'_, P, C> {
    fn drop(&mut self) {
        self.swap_back();
        self.watch.finish(&How::Panicked);
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::rc::Rc;

    use http_body_util::{BodyExt, Full};
    use tower::{Layer, ServiceExt, service_fn};

    use super::super::Observe;
    use super::*;

    /// Whether the head's time was known at the end.
    #[derive(Clone, Default)]
    struct Seen<const READS: bool>(Rc<Cell<Option<bool>>>);

    impl<B, const READS: bool> Observe<B> for Seen<READS> {
        type Probe = Self;

        fn start(&self, _: &mut Request<B>, _: &mut Exchange) -> Self {
            self.clone()
        }
    }

    impl<const READS: bool> Probe for Seen<READS> {
        const READS_HEAD_TIME: bool = READS;

        fn end(self, end: &End<'_>) {
            self.0.set(Some(end.exchange.head_at.is_some()));
        }
    }

    async fn watched<O: Observe<()> + Clone>(observer: O) {
        let answer = async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::<&[u8]>::new(b"ok")));
        let Ok(answer) = ObserveLayer::server(observer).layer(service_fn(answer)).oneshot(Request::new(())).await;
        assert!(answer.into_body().collect().await.is_ok());
    }

    #[tokio::test]
    async fn the_time_of_the_head_is_read_where_somebody_looks_at_it() {
        let (reads, does_not) = (Seen::<true>::default(), Seen::<false>::default());
        watched(does_not.clone()).await;
        assert_eq!(does_not.0.get(), Some(false));
        watched((does_not.clone(), reads.clone())).await;
        assert_eq!((does_not.0.get(), reads.0.get()), (Some(true), Some(true)));
    }
}
