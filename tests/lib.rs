//! Shared helpers of the tests: an observer that records, and a body that follows a script.

#![forbid(unsafe_code)]

pub mod example;
pub mod numbers;
pub mod peers;
pub mod plan;
pub mod servers;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress::classify::{Ending, GrpcCode, How, Outcome};
use buttress::context::{self, TraceId};
use buttress::observe::{End, Exchange, Observe, Probe};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Sleep;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// What a [`Recorder`] keeps of one end.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// How it ended.
    pub ending: Ending,
    /// What that meant.
    pub outcome: Outcome,
    /// The text of `error.type`.
    pub error_type: Option<String>,
    /// The status of the head.
    pub status: Option<u16>,
    /// The gRPC status.
    pub grpc_code: Option<GrpcCode>,
    /// Bytes of the body that were passed on.
    pub body_bytes: u64,
    /// From the request to the end.
    pub duration: Duration,
    /// From the request to the head.
    pub to_head: Option<Duration>,
    /// The trailers of a complete answer.
    pub trailers: Option<HeaderMap>,
    /// The text of the error.
    pub fault: Option<String>,
    /// The trace of the context it ran in, when an observer had set one.
    pub trace_id: Option<TraceId>,
}

impl Recorded {
    /// Ending, outcome and error type, for one comparison.
    pub fn verdict(&self) -> (Ending, Outcome, Option<&str>) {
        (self.ending, self.outcome, self.error_type.as_deref())
    }

    fn of(end: &End<'_>) -> Self {
        let (trailers, fault) = match end.how {
            How::Complete { trailers } => (trailers.cloned(), None),
            How::Failed(fault) | How::BodyFailed(fault) => (None, Some(fault.to_string())),
            _ => (None, None),
        };
        Self {
            ending: end.how.ending(),
            outcome: end.outcome,
            error_type: end.error_type.map(|error_type| error_type.to_string()),
            status: end.status.map(|status| status.as_u16()),
            grpc_code: end.grpc_code,
            body_bytes: end.body_bytes,
            duration: end.at - end.exchange.started,
            to_head: end.exchange.head_at.map(|at| at - end.exchange.started),
            trailers,
            fault,
            trace_id: end.exchange.context.as_ref().map(context::Context::trace_id),
        }
    }
}

/// An observer that keeps what it is shown; clones share it.
#[derive(Clone, Debug)]
pub struct Recorder {
    name: &'static str,
    context: Option<context::Context>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    calls: Mutex<Vec<String>>,
    ends: watch::Sender<Vec<Recorded>>,
    started: watch::Sender<usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        let shared =
            Shared { calls: Mutex::default(), ends: watch::Sender::new(Vec::new()), started: watch::Sender::new(0) };
        Self { name: "", context: None, shared: Arc::new(shared) }
    }
}

impl Recorder {
    /// One whose requests run in this context.
    #[must_use]
    pub fn with_context(mut self, context: context::Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Another that counts as a different observer but writes into the same [`Recorder::calls`] and ends.
    #[must_use]
    pub fn named(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    /// How many exchanges have started.
    pub fn started(&self) -> usize {
        *self.shared.started.borrow()
    }

    /// Every end so far.
    pub fn ends(&self) -> Vec<Recorded> {
        self.shared.ends.borrow().clone()
    }

    /// Every call so far, as `name start`, `name head`, `name end`.
    pub fn calls(&self) -> Vec<String> {
        self.log().clone()
    }

    /// The end of the one exchange there was.
    ///
    /// # Panics
    ///
    /// When not exactly one exchange has started and ended.
    pub fn only(&self) -> Recorded {
        let ends = self.ends();
        assert_eq!((self.started(), ends.len()), (1, 1), "started, ended: {ends:?}");
        ends.into_iter().next().expect("just counted")
    }

    /// Waits until that many exchanges have ended.
    ///
    /// # Panics
    ///
    /// After ten seconds of waiting.
    pub async fn ended(&self, count: usize) -> Vec<Recorded> {
        let mut ends = self.shared.ends.subscribe();
        let waiting = ends.wait_for(|ends| ends.len() >= count);
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .expect("the exchanges end in time")
            .expect("the sender is alive")
            .clone()
    }

    fn note(&self, call: &str) {
        self.log().push(format!("{} {call}", self.name));
    }

    fn log(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Observe<B> for Recorder {
    type Probe = RecordingProbe;

    fn start(&self, _request: &mut Request<B>, exchange: &mut Exchange) -> RecordingProbe {
        self.note("start");
        self.shared.started.send_modify(|started| *started += 1);
        if let Some(context) = &self.context {
            exchange.context = Some(context.clone());
        }
        RecordingProbe(self.clone())
    }
}

/// The probe of a [`Recorder`].
#[derive(Debug)]
pub struct RecordingProbe(Recorder);

impl Probe for RecordingProbe {
    fn head<R>(&mut self, _response: &mut Response<R>, _exchange: &mut Exchange) {
        self.0.note("head");
    }

    fn end(self, end: &End<'_>) {
        self.0.note("end");
        self.0.shared.ends.send_modify(|ends| ends.push(Recorded::of(end)));
    }
}

/// What a [`ScriptBody`] does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Is pending for this long.
    Wait(Duration),
    /// Is pending once and wakes itself.
    Yield,
    /// Yields these bytes.
    Data(&'static str),
    /// Yields these trailers.
    Trailers(HeaderMap),
    /// Breaks with this text.
    Fail(&'static str),
    /// Panics, without a word on stderr.
    Panic,
}

/// A body that does one step after the other and then ends.
#[derive(Debug, Default)]
pub struct ScriptBody {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    hint: SizeHint,
}

impl ScriptBody {
    /// A body of these steps, of unknown size.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    /// The same with this exact size, true or not.
    #[must_use]
    pub fn sized(mut self, bytes: u64) -> Self {
        self.hint = SizeHint::with_exact(bytes);
        self
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let Some(step) = self.steps.pop_front() else {
                return Poll::Ready(None);
            };
            return Poll::Ready(Some(match step {
                Step::Wait(time) => {
                    // Paused: whoever scripts a wait starts so.
                    self.sleep = Some(Box::pin(tokio::time::sleep(time)));
                    continue;
                }
                Step::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Data(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
                Step::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                Step::Fail(text) => Err(Broken(text)),
                Step::Panic => std::panic::resume_unwind(Box::new("the script says so")),
            }));
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

/// The error of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

/// A header map of these.
///
/// # Panics
///
/// When a name or a value is not allowed in a header.
pub fn headers<const N: usize>(pairs: [(&'static str, &'static str); N]) -> HeaderMap {
    pairs
        .into_iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .collect()
}

/// Reads a body to its end, or to its error.
pub async fn read<B: Body>(body: B) -> Result<(), B::Error> {
    use http_body_util::BodyExt;

    let mut body = std::pin::pin!(body);
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}
