use std::fmt;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::probe::PermitProbe;
use super::refuse::Fail;
use super::{Choose, Circuit, CircuitBreakerLayer, Refuse, ResponseFuture};
use crate::classify::{Classify, HttpClassifier, is_grpc_request};
use crate::clock;
use crate::observe::{self, Observe, ObservedBody, Watch};

/// A service that calls while its circuit lets it; made by [`CircuitBreakerLayer`].
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S, K = Circuit, A = Fail, O = (), C = HttpClassifier> {
    pub(super) inner: S,
    pub(super) layer: CircuitBreakerLayer<K, A, O, C>,
}

impl<S, K, A, O, C, B, R> Service<Request<B>> for CircuitBreaker<S, K, A, O, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: fmt::Display + 'static,
    R: Body,
    R::Error: fmt::Display + 'static,
    K: Choose,
    A: Refuse,
    O: Observe<B>,
    C: Classify,
{
    type Response = Response<ObservedBody<R, (PermitProbe, O::Probe), C>>;
    type Error = A::Error<S::Error>;
    type Future = ResponseFuture<S::Future, (PermitProbe, O::Probe), C, A>;

    /// Ready when the inner service is: whether a call is let through is found out when there is one, so that idle
    /// connections hold no permits.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(A::inner)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Self { inner, layer } = self;
        let now = clock::now();
        let permit = match layer.choose.admit(&request, now) {
            Ok(permit) => permit,
            Err(rejected) => {
                return ResponseFuture::refused(
                    layer.refuse.clone(),
                    rejected,
                    is_grpc_request(request.method(), request.headers()),
                );
            }
        };
        let watch =
            Watch::start(&layer.watch, &mut request, now, O::ASKS_FOR_HEADERS, |observer, request, exchange| {
                (PermitProbe::new(permit), observer.start(request, exchange))
            });
        ResponseFuture::called(observe::ResponseFuture::calling(inner, request, watch))
    }
}
