//! One service, one future and one body for all parts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header, request};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;

use super::part::{BREAKER, Context, ECHO, INJECT, METRICS, PROPAGATE, RETRY, TRACE, enter};

#[derive(Clone)]
pub struct Floor<S, const PARTS: u8> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all requests share.
pub struct Shared {
    in_flight: AtomicI64,
    /// By a power of two of microseconds.
    buckets: [AtomicU64; 32],
    sum: AtomicU64,
    open: AtomicU8,
    successes: AtomicU64,
    failures: AtomicU64,
    tokens: AtomicI64,
    spans: ArrayQueue<Box<Span>>,
}

/// What is kept of a request that is sampled; its texts are counted, not copied.
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "an exporter reads it"))]
pub struct Span {
    pub context: Context,
    pub method: Method,
    pub uri: Uri,
    pub host: Option<HeaderValue>,
    pub agent: Option<HeaderValue>,
    pub started: Instant,
    pub ended: Instant,
    pub status: u16,
}

/// What is done once, at the end or when the request is dropped.
pub struct Ending<const PARTS: u8> {
    shared: Arc<Shared>,
    started: Option<Instant>,
    span: Option<Box<Span>>,
    status: u16,
}

impl Shared {
    pub fn new() -> Self {
        Self {
            in_flight: AtomicI64::new(0),
            buckets: [const { AtomicU64::new(0) }; 32],
            sum: AtomicU64::new(0),
            open: AtomicU8::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            tokens: AtomicI64::new(10),
            spans: ArrayQueue::new(2048),
        }
    }

    /// For an exporter.
    pub fn take(&self) -> Option<Box<Span>> {
        self.spans.pop()
    }
}

impl<S, const PARTS: u8> Floor<S, PARTS> {
    /// Whether anything asks for the time.
    const IS_TIMED: bool = PARTS & (TRACE | METRICS | BREAKER) != 0;
    /// Whether anything is done at the end.
    const ENDS: bool = Self::IS_TIMED || PARTS & RETRY != 0;

    pub fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S, B, R, const PARTS: u8> Service<Request<B>> for Floor<S, PARTS>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<FloorBody<R, Ending<PARTS>>>;
    type Error = S::Error;
    type Future = FloorFuture<S::Future, Ending<PARTS>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = &self.shared;
        let context = match PARTS {
            _ if PARTS & PROPAGATE != 0 => Some(Context::extract(request.headers())),
            _ if PARTS & INJECT != 0 => Some(Context::root(buttress::context::with_current(|current| {
                current.is_some_and(buttress::context::Context::is_sampled)
            }))),
            _ => None,
        };
        assert!(PARTS & BREAKER == 0 || shared.open.load(Relaxed) == 0, "nothing fails here");
        if PARTS & METRICS != 0 {
            shared.in_flight.fetch_add(1, Relaxed);
        }
        let repeats = PARTS & RETRY != 0 && is_idempotent(request.method()) && shared.tokens.load(Relaxed) > 0;
        let kept = repeats.then(|| head_of(&request));
        let started = Self::IS_TIMED.then(Instant::now);
        let sampled = context.filter(|context| PARTS & TRACE != 0 && context.sampled);
        let span = sampled.zip(started).map(|(context, started)| Box::new(Span::of(context, &request, started)));
        let ending = Self::ENDS.then(|| Ending { shared: Arc::clone(shared), started, span, status: 0 });
        if PARTS & INJECT != 0
            && let Some(context) = &context
        {
            context.inject(request.headers_mut());
        }
        let inner = enter(context, || self.inner.call(request));
        FloorFuture { inner, context, kept, ending }
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}

fn head_of<B>(request: &Request<B>) -> request::Parts {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    *head.extensions_mut() = request.extensions().clone();
    head.into_parts().0
}

impl Span {
    fn of<B>(context: Context, request: &Request<B>, started: Instant) -> Self {
        let header = |name: HeaderName| request.headers().get(name).cloned();
        Self {
            context,
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: header(header::HOST),
            agent: header(header::USER_AGENT),
            started,
            ended: started,
            status: 0,
        }
    }
}

impl<const PARTS: u8> Drop for Ending<PARTS> {
    fn drop(&mut self) {
        let shared = &self.shared;
        if let Some(started) = self.started {
            let now = Instant::now();
            if PARTS & METRICS != 0 {
                let micros = (now - started).as_micros() as u64;
                shared.buckets[(64 - micros.leading_zeros() as usize).min(31)].fetch_add(1, Relaxed);
                shared.sum.fetch_add(micros, Relaxed);
                shared.in_flight.fetch_sub(1, Relaxed);
            }
            if let Some(mut span) = self.span.take() {
                (span.ended, span.status) = (now, self.status);
                let _ = shared.spans.push(span);
            }
        }
        if PARTS & BREAKER != 0 {
            let counter = if self.status < 500 { &shared.successes } else { &shared.failures };
            counter.fetch_add(1, Relaxed);
        }
        if PARTS & RETRY != 0 && self.status < 500 && shared.tokens.load(Relaxed) < 1000 {
            shared.tokens.fetch_add(1, Relaxed);
        }
    }
}

pin_project! {
    pub struct FloorFuture<F, E> {
        #[pin]
        inner: F,
        context: Option<Context>,
        // For a repeat, until the answer says that there will be none.
        kept: Option<request::Parts>,
        ending: Option<E>,
    }
}

impl<F, R, E, const PARTS: u8> Future for FloorFuture<F, Ending<PARTS>>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<FloorBody<R, Ending<PARTS>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(enter(*this.context, || this.inner.poll(cx)))?;
        drop(this.kept.take());
        let mut ending = this.ending.take();
        if let Some(ending) = &mut ending {
            ending.status = response.status().as_u16();
        }
        if PARTS & ECHO != 0
            && let Some(context) = this.context
        {
            context.echo(response.headers_mut());
        }
        Poll::Ready(Ok(response.map(|inner| FloorBody { inner, ending })))
    }
}

pin_project! {
    pub struct FloorBody<B, E> {
        #[pin]
        inner: B,
        ending: Option<E>,
    }
}

impl<B: Body, const PARTS: u8> Body for FloorBody<B, Ending<PARTS>> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if frame.is_none() || this.inner.is_end_stream() {
            drop(this.ending.take());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
