use std::fmt;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::watch::Watch;
use super::{Observe, ObserveLayer, ObservedBody, ResponseFuture};
use crate::classify::{Classify, HttpClassifier};
use crate::clock;

/// A service whose exchanges are watched; made by [`ObserveLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Observed<S, O, C = HttpClassifier> {
    pub(super) inner: S,
    pub(super) layer: ObserveLayer<O, C>,
}

impl<S, O, C, B, R> Service<Request<B>> for Observed<S, O, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: fmt::Display + 'static,
    R: Body,
    R::Error: fmt::Display + 'static,
    O: Observe<B>,
    C: Classify,
{
    type Response = Response<ObservedBody<R, O::Probe, C>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, O::Probe, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !self.layer.options.enabled {
            return ResponseFuture::new(self.inner.call(request), None);
        }
        let watch = Watch::start(&self.layer, &mut request, clock::now(), O::ASKS_FOR_HEADERS, O::start);
        ResponseFuture::calling(&mut self.inner, request, watch)
    }
}
