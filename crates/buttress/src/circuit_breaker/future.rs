use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::refuse::Fail;
use super::{Refuse, Rejected};
use crate::classify::{Classify, HttpClassifier};
use crate::observe::{self, ObservedBody, Probe};

pin_project! {
    /// The answer to come, or the refusal; of [`CircuitBreaker`](super::CircuitBreaker).
    pub struct ResponseFuture<F, P, C = HttpClassifier, A = Fail>
    where
        P: Probe,
        C: Classify,
    {
        #[pin]
        state: State<F, P, C, A>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, P, C, A>
    where
        P: Probe,
        C: Classify,
    {
        Called { #[pin] future: observe::ResponseFuture<F, P, C> },
        // Taken when it is told.
        Refused { refusal: Option<(A, Rejected)>, is_grpc: bool },
    }
}

impl<F, P: Probe, C: Classify, A> ResponseFuture<F, P, C, A> {
    pub(super) const fn called(future: observe::ResponseFuture<F, P, C>) -> Self {
        Self { state: State::Called { future } }
    }

    pub(super) const fn refused(refuse: A, rejected: Rejected, is_grpc: bool) -> Self {
        Self { state: State::Refused { refusal: Some((refuse, rejected)), is_grpc } }
    }
}

impl<F, R, E, P, C, A> Future for ResponseFuture<F, P, C, A>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: fmt::Display + 'static,
    P: Probe,
    C: Classify,
    A: Refuse,
{
    type Output = Result<Response<ObservedBody<R, P, C>>, A::Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future } => future.poll_with(cx, A::inner),
            StateProj::Refused { refusal, is_grpc } => {
                let (refuse, rejected) = refusal.take().expect("polled after it was done");
                let answer = refuse.refuse(rejected, *is_grpc);
                Poll::Ready(answer.map(|response| response.map(|()| ObservedBody::empty())))
            }
        }
    }
}

impl<F, P: Probe, C: Classify, A> fmt::Debug for ResponseFuture<F, P, C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = matches!(self.state, State::Refused { .. });
        f.debug_struct("ResponseFuture").field("refused", &refused).finish_non_exhaustive()
    }
}
