//! The backend as a service.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::backend::{Backend, Plan, Working};
use crate::clock::{self, Instant};

/// A [`Backend`] at work, which the subject of a simulation is built around; clones are the same backend.
///
/// Always ready. Answers 200 or 503, with an empty body, or not at all; requests may have any body, which it does not read.
#[derive(Debug, Clone)]
pub struct SimulatedBackend(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    working: Working,
    /// When calls came.
    calls: Vec<Duration>,
}

impl SimulatedBackend {
    pub(super) fn new(backend: Backend, seed: u64) -> Self {
        let state = State { working: Working::new(backend, seed), calls: Vec::new() };
        Self(Arc::new(Shared { start: clock::now(), state: Mutex::new(state) }))
    }

    pub(super) fn start(&self) -> Instant {
        self.0.start
    }

    /// When calls came, counted from the start of the run.
    pub(super) fn calls(&self) -> Vec<Duration> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }
}

impl<B> Service<Request<B>> for SimulatedBackend {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> AnswerFuture {
        let Shared { start, state } = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: on several threads time must not go back from one call to the next.
        let at = clock::now().saturating_duration_since(*start);
        state.calls.push(at);
        let (answer, status) = match state.working.plan(at) {
            Plan::Served(answer) => (Some(answer), StatusCode::OK),
            Plan::Refused(answer) => (Some(answer), StatusCode::SERVICE_UNAVAILABLE),
            Plan::Hang => (None, StatusCode::SERVICE_UNAVAILABLE),
        };
        let wait = match answer.map(|answer| (answer > at, start.checked_add(answer))) {
            Some((false, _)) => Wait::Over,
            Some((true, Some(answer))) => Wait::Until { sleep: tokio::time::sleep_until(answer) },
            _ => Wait::Forever,
        };
        AnswerFuture { wait, status }
    }
}

pin_project! {
    /// The answer of a [`SimulatedBackend`]. Dropping it does not take the work off the backend.
    #[derive(Debug)]
    pub struct AnswerFuture {
        #[pin]
        wait: Wait,
        status: StatusCode,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = WaitProjection]
    enum Wait {
        Over,
        Until { #[pin] sleep: Sleep },
        Forever,
    }
}

impl Future for AnswerFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.wait.project() {
            WaitProjection::Over => {}
            WaitProjection::Until { sleep } => ready!(sleep.poll(cx)),
            WaitProjection::Forever => return Poll::Pending,
        }
        let mut response = Response::new(Full::default());
        *response.status_mut() = *this.status;
        Poll::Ready(Ok(response))
    }
}
