//! What the tests of this crate share.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};

use buttress::context::{self, Context};
use buttress::observe::{Observe, Observed};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, request, response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt};

/// The example of W3C Trace Context.
pub(crate) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
pub(crate) const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const PARENT_ID: &str = "00f067aa0ba902b7";

pub(crate) type AnyBody = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Answer = Response<AnyBody>;

pub(crate) fn get(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    with(Request::get(uri), headers)
}

pub(crate) fn with(request: request::Builder, headers: &[(&str, &str)]) -> Request<()> {
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).expect("a valid request")
}

pub(crate) fn answer(status: u16) -> Answer {
    answer_of(status, Full::from("answer"))
}

pub(crate) fn answer_of<B>(status: u16, body: B) -> Answer
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let body = body.map_err(|error| match error.into().downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error),
    });
    Response::builder().status(status).body(body.boxed_unsync()).expect("a valid response")
}

/// What one exchange looked like from both ends.
pub(crate) struct Exchanged {
    /// The head of the answer as the caller got it.
    pub(crate) head: response::Parts,
    /// The headers of the request as the inner service got them.
    pub(crate) headers: HeaderMap,
    /// The context in which the inner service ran.
    pub(crate) context: Option<Context>,
}

impl Exchanged {
    /// A header of the answer.
    pub(crate) fn answered(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// A header of the request, inside.
    pub(crate) fn passed(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The inner context, where there must be one.
    pub(crate) fn context(&self) -> &Context {
        self.context.as_ref().expect("the inner service runs in a context")
    }
}

/// Sends a request through the layer, answers it, and reads the answer to its end.
pub(crate) async fn exchange<O: Observe<()>>(
    layer: impl Layer<Canned, Service = Observed<Canned, O>>,
    request: Request<()>,
    answer: Answer,
) -> Exchanged {
    let canned = Canned::new(answer);
    let Ok(response) = layer.layer(canned.clone()).oneshot(request).await;
    let (head, body) = response.into_parts();
    let _ = body.collect().await;
    let (headers, context) = canned.seen();
    Exchanged { head, headers, context }
}

/// Answers one request, and keeps what it saw of it.
#[derive(Clone)]
pub(crate) struct Canned {
    answer: Arc<Mutex<Option<Answer>>>,
    seen: Arc<Mutex<(HeaderMap, Option<Context>)>>,
}

impl Canned {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer: Arc::new(Mutex::new(Some(answer))), seen: Arc::default() }
    }

    pub(crate) fn seen(&self) -> (HeaderMap, Option<Context>) {
        self.seen.lock().expect("no test panics in here").clone()
    }
}

impl Service<Request<()>> for Canned {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        *self.seen.lock().expect("no test panics in here") = (request.headers().clone(), context::current());
        let answer = self.answer.lock().expect("no test panics in here").take();
        ready(Ok(answer.unwrap_or_else(|| self::answer(200))))
    }
}

/// An attribute of a span as text.
#[cfg(feature = "trace")]
pub(crate) fn attribute(span: &Arc<buttress::trace::SpanRecord>, key: &str) -> Option<String> {
    span.attribute(key).map(ToString::to_string)
}

/// Every attribute of a span as text, but the one that tells a measured time.
#[cfg(feature = "trace")]
pub(crate) fn steady_attributes(span: &buttress::trace::SpanRecord) -> Vec<(String, String)> {
    let steady = span.attributes.iter().filter(|(key, _)| key != "buttress.time_to_first_byte");
    steady.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// The span that a layer of this kind records of one exchange.
#[cfg(feature = "trace")]
pub(crate) async fn span_of(
    layer: impl FnOnce(buttress::trace::Spans) -> buttress::trace::TraceLayer,
    request: Request<()>,
    answer: Answer,
) -> Arc<buttress::trace::SpanRecord> {
    let spans = buttress::trace::Spans::new();
    exchange(layer(spans.clone()), request, answer).await;
    spans.latest(1).pop().expect("the exchange is recorded")
}
