//! Exchanges that follow a plan and are polled by hand, with the ending that each must have.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use buttress::classify::Ending::{self, BodyFailed, Complete, DroppedBeforeHead, DroppedInBody, Failed, Panicked};
use buttress::observe::{Observe, ObserveLayer, ObservedBody, Probe};
use http::{Request, Response};
use http_body::Body;
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};

use crate::{Broken, ScriptBody, Step};

/// What the service does after it has been pending a number of times.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Answers with a body.
    Head,
    /// Fails.
    Error,
    /// Panics.
    Panic,
}

/// What one exchange would do if nobody dropped it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Polls before there is an answer.
    pub pending: usize,
    /// The answer.
    pub answer: Answer,
    /// Its body.
    pub body: Vec<Step>,
}

impl Plan {
    /// How it ends when it is dropped after that many polls: the reference that the layer is compared with.
    pub fn ending_after(&self, polls: usize) -> Ending {
        let Some(body_polls) = polls.checked_sub(self.pending + 1) else {
            return DroppedBeforeHead;
        };
        match self.answer {
            Answer::Error => return Failed,
            Answer::Panic => return Panicked,
            Answer::Head => {}
        }
        for step in self.body.iter().take(body_polls) {
            match step {
                Step::Fail(_) => return BodyFailed,
                Step::Panic => return Panicked,
                _ => {}
            }
        }
        if body_polls > self.body.len() { Complete } else { DroppedInBody }
    }

    /// Starts it behind this layer.
    pub fn start<O>(&self, layer: ObserveLayer<O>) -> Running<O::Probe>
    where
        O: Observe<()> + Clone + 'static,
    {
        self.start_with(layer, Request::new(()))
    }

    /// As [`start`](Self::start), by this request.
    pub fn start_with<O>(&self, layer: ObserveLayer<O>, request: Request<()>) -> Running<O::Probe>
    where
        O: Observe<()> + Clone + 'static,
    {
        let Self { mut pending, answer, body } = self.clone();
        let mut body = Some(body);
        let future = poll_fn(move |_| {
            if pending > 0 {
                pending -= 1;
                return Poll::Pending;
            }
            match answer {
                Answer::Head => {
                    Poll::Ready(Ok(Response::new(ScriptBody::new(body.take().expect("polled to its end")))))
                }
                Answer::Error => Poll::Ready(Err(Broken("no answer"))),
                Answer::Panic => resume_unwind(Box::new("no answer")),
            }
        });
        let mut future = Some(future);
        let mut service = layer.layer(service_fn(move |_: Request<()>| future.take().expect("called once")));
        let answer = service.call(request);
        Running::Future(Box::pin(async { answer.await.map(|response| Box::pin(response.into_body())) }))
    }
}

type WatchedBody<P> = Pin<Box<ObservedBody<ScriptBody, P>>>;
type Answering<P> = Pin<Box<dyn Future<Output = Result<WatchedBody<P>, Broken>>>>;

/// An exchange that is polled by hand.
pub enum Running<P: Probe> {
    /// There is no answer yet.
    Future(Answering<P>),
    /// The body is being read.
    Body(WatchedBody<P>),
    /// It has ended.
    Over,
}

impl<P: Probe> Running<P> {
    /// Polls whatever there is to poll, and drops it when it is done.
    pub fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let next = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Future(future) => match future.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(body)) => Some(Self::Body(body)),
                Poll::Ready(Err(_)) => Some(Self::Over),
                Poll::Pending => None,
            },
            Self::Body(body) => match body.as_mut().poll_frame(&mut cx) {
                Poll::Ready(Some(Err(_)) | None) => Some(Self::Over),
                _ => None,
            },
            Self::Over => None,
        }));
        if let Some(next) = next.unwrap_or(Some(Self::Over)) {
            *self = next;
        }
    }
}

/// Any exchange.
pub fn plans() -> impl Strategy<Value = Plan> {
    let answer = prop_oneof![6 => Just(Answer::Head), 1 => Just(Answer::Error), 1 => Just(Answer::Panic)];
    let step = prop_oneof![
        4 => Just(Step::Data("abc")),
        4 => Just(Step::Yield),
        1 => Just(Step::Fail("broken")),
        1 => Just(Step::Panic),
    ];
    (0..4_usize, answer, prop::collection::vec(step, 0..6)).prop_map(|(pending, answer, body)| Plan {
        pending,
        answer,
        body,
    })
}

impl<P: Probe> fmt::Debug for Running<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Future(_) => "Future",
            Self::Body(_) => "Body",
            Self::Over => "Over",
        })
    }
}
