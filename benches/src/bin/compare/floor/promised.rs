//! By hand, with what is promised besides: still one service, without options, without routes, without anything checked twice.
//!
//! Both ids in headers of their own; the context around the body's polls too; a look for the headers that change what is done
//! (trace state, baggage, a trace id of the caller's, gRPC, streams); durations, time to the head, time of the body and its
//! size, by method and status, and what is active; seven endings; a window of the last ten seconds for the circuit, whose calls
//! may be slow.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use buttress::classify::Ending;
use bytes::{Buf, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;

use super::part::{BREAKER, Context, ECHO, METRICS, PROPAGATE, enter, hex};

const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const X_SPAN_ID: HeaderName = HeaderName::from_static("x-span-id");

/// The convention's bounds, in nanoseconds.
const DURATIONS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];
const SIZES: [u64; 14] = [
    0, 128, 512, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 2_097_152, 4_194_304, 8_388_608, 16_777_216,
    67_108_864,
];
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::TRACE,
    Method::CONNECT,
];
const SLOW: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Promised<S, const PARTS: u8> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all requests share.
pub struct Shared {
    began: Instant,
    started: [AtomicU64; METHODS.len() + 1],
    by_method: [OnceLock<Box<[OnceLock<Box<Series>>; 500]>>; METHODS.len() + 1],
    /// The last ten seconds.
    window: [Second; 10],
    is_open: AtomicU64,
}

/// Of one method and status.
struct Series {
    duration: Histogram,
    /// Of the duration, 32 to a power of two: for percentiles.
    fine: Box<[AtomicU64; 32 * 60]>,
    first_byte: Histogram,
    body: Histogram,
    size: Histogram,
    endings: [AtomicU64; 7],
}

struct Histogram {
    buckets: [AtomicU64; 15],
    sum: AtomicU64,
}

#[derive(Default)]
struct Second {
    number: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

/// What is done once, at the end or when the request is dropped.
pub struct Finish<const PARTS: u8> {
    shared: Arc<Shared>,
    context: Option<Context>,
    started: Option<Instant>,
    head_at: Option<Instant>,
    status: Option<StatusCode>,
    bytes: u64,
    method: u8,
    is_grpc: bool,
    is_stream: bool,
    has_ended: bool,
}

impl Shared {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            started: Default::default(),
            by_method: Default::default(),
            window: Default::default(),
            is_open: AtomicU64::new(0),
        }
    }

    fn series(&self, method: u8, status: Option<StatusCode>) -> &Series {
        let row = self.by_method[usize::from(method)].get_or_init(|| Box::new([const { OnceLock::new() }; 500]));
        let place = status.map_or(0, |status| usize::from(status.as_u16() - 99).min(499));
        row[place].get_or_init(|| Box::new(Series::new()))
    }

    fn count_call(&self, now: Instant, took: Duration, failed: bool) {
        let number = (now - self.began).as_secs();
        let second = &self.window[(number % 10) as usize];
        if second.number.load(Relaxed) != number {
            second.number.store(number, Relaxed);
            for count in [&second.calls, &second.failed, &second.slow] {
                count.store(0, Relaxed);
            }
        }
        second.calls.fetch_add(1, Relaxed);
        if !failed && took < SLOW {
            return;
        }
        second.failed.fetch_add(u64::from(failed), Relaxed);
        second.slow.fetch_add(u64::from(took >= SLOW), Relaxed);
        let all =
            |of: fn(&Second) -> &AtomicU64| self.window.iter().map(|second| of(second).load(Relaxed)).sum::<u64>();
        let calls = all(|second| &second.calls);
        if calls >= 100 && 2 * all(|second| &second.failed).max(all(|second| &second.slow)) > calls {
            self.is_open.store(1, Relaxed);
        }
    }
}

impl Series {
    fn new() -> Self {
        let histogram = || Histogram { buckets: Default::default(), sum: AtomicU64::new(0) };
        Self {
            duration: histogram(),
            fine: Box::new([const { AtomicU64::new(0) }; 32 * 60]),
            first_byte: histogram(),
            body: histogram(),
            size: histogram(),
            endings: Default::default(),
        }
    }

    fn record_fine(&self, value: u64) {
        let micros = value / 1_000;
        let shift = (64 - micros.leading_zeros()).saturating_sub(6);
        self.fine[(32 * u64::from(shift) + (micros >> shift)) as usize].fetch_add(1, Relaxed);
    }
}

impl Histogram {
    fn record(&self, bounds: &[u64; 14], value: u64) {
        self.buckets[bounds.partition_point(|bound| *bound < value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }
}

fn number_of(method: &Method) -> u8 {
    METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len()) as u8
}

/// Whether one of these may be there, by one look at each name.
fn has_rare(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .map(HeaderName::as_str)
        .any(|name| matches!((name.len(), name.as_bytes().last()), (7 | 10 | 12, Some(b'e' | b'd'))))
}

#[cold]
fn refuse_rare() {
    unreachable!("requests of the benchmark have none of these headers");
}

impl<S, const PARTS: u8> Promised<S, PARTS> {
    pub fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S, B, R, const PARTS: u8> Service<Request<B>> for Promised<S, PARTS>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<PromisedBody<R, Finish<PARTS>>>;
    type Error = S::Error;
    type Future = PromisedFuture<S::Future, Finish<PARTS>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = &self.shared;
        if PARTS & (PROPAGATE | METRICS) != 0 && has_rare(request.headers()) {
            refuse_rare();
        }
        let context = (PARTS & PROPAGATE != 0).then(|| Context::extract(request.headers()));
        assert!(PARTS & BREAKER == 0 || shared.is_open.load(Relaxed) == 0, "nothing fails here");
        let method = if PARTS & METRICS != 0 { number_of(request.method()) } else { 0 };
        if PARTS & METRICS != 0 {
            shared.started[usize::from(method)].fetch_add(1, Relaxed);
        }
        let ending = Finish {
            shared: Arc::clone(shared),
            context,
            started: (PARTS & (METRICS | BREAKER) != 0).then(Instant::now),
            head_at: None,
            status: None,
            bytes: 0,
            method,
            is_grpc: false,
            is_stream: false,
            has_ended: false,
        };
        let inner = enter(context, || self.inner.call(request));
        PromisedFuture { inner, ending: Some(ending) }
    }
}

impl<const PARTS: u8> Finish<PARTS> {
    fn end(&mut self, how: Ending) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let Some(started) = self.started else { return };
        let now = Instant::now();
        let took = now - started;
        if PARTS & METRICS != 0 {
            let series = self.shared.series(self.method, self.status);
            if !self.is_stream && !self.is_grpc {
                let nanos = took.as_nanos() as u64;
                series.duration.record(&DURATIONS, nanos);
                series.record_fine(nanos);
                if let Some(head_at) = self.head_at {
                    let first_byte = (head_at - started).as_nanos() as u64;
                    series.first_byte.record(&DURATIONS, first_byte);
                    series.body.record(&DURATIONS, nanos - first_byte);
                    series.size.record(&SIZES, self.bytes);
                }
            }
            series.endings[how as usize].fetch_add(1, Relaxed);
        }
        if PARTS & BREAKER != 0 {
            let is_failure = matches!(how, Ending::Failed | Ending::BodyFailed | Ending::Panicked)
                || self.status.is_some_and(|status| status.is_server_error());
            self.shared.count_call(now, took, is_failure);
        }
    }

    fn how_dropped(&self) -> Ending {
        match self.head_at.or(self.started.filter(|_| self.status.is_some())) {
            _ if std::thread::panicking() => Ending::Panicked,
            None => Ending::DroppedBeforeHead,
            Some(_) => Ending::DroppedInBody,
        }
    }
}

impl<const PARTS: u8> Drop for Finish<PARTS> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(self.how_dropped());
        }
    }
}

pin_project! {
    pub struct PromisedFuture<F, E> {
        #[pin]
        inner: F,
        ending: Option<E>,
    }
}

impl<F, R, E, const PARTS: u8> Future for PromisedFuture<F, Finish<PARTS>>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<PromisedBody<R, Finish<PARTS>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let ending = this.ending.as_mut().expect("it is not polled after it was ready");
        let mut response = match ready!(enter(ending.context, || this.inner.poll(cx))) {
            Ok(response) => response,
            Err(error) => {
                ending.end(Ending::Failed);
                return Poll::Ready(Err(error));
            }
        };
        ending.status = Some(response.status());
        if PARTS & METRICS != 0 {
            ending.head_at = Some(Instant::now());
            let kind = response.headers().get(CONTENT_TYPE);
            ending.is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        }
        if PARTS & ECHO != 0
            && let Some(context) = ending.context
        {
            answer_ids(&context, response.headers_mut());
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            ending.end(Ending::Upgraded);
        }
        Poll::Ready(Ok(response.map(|inner| PromisedBody { inner, ending: this.ending.take() })))
    }
}

fn answer_ids(context: &Context, headers: &mut HeaderMap) {
    let mut digits = [0; 48];
    hex(&context.trace_id, &mut digits[..32]);
    hex(&context.span_id, &mut digits[32..]);
    let mut trace_id = Bytes::copy_from_slice(&digits);
    let span_id = trace_id.split_off(32);
    let value = |digits| HeaderValue::from_maybe_shared(digits).expect("hex digits are valid in a header");
    headers.insert(X_TRACE_ID, value(trace_id));
    headers.insert(X_SPAN_ID, value(span_id));
}

pin_project! {
    pub struct PromisedBody<B, E> {
        #[pin]
        inner: B,
        ending: Option<E>,
    }
}

impl<B: Body, const PARTS: u8> Body for PromisedBody<B, Finish<PARTS>> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(ending) = this.ending.as_mut() else {
            return this.inner.poll_frame(cx);
        };
        let frame = ready!(enter(ending.context, || this.inner.as_mut().poll_frame(cx)));
        let how = match &frame {
            Some(Ok(frame)) => {
                ending.bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
                this.inner.is_end_stream().then_some(Ending::Complete)
            }
            Some(Err(_)) => Some(Ending::BodyFailed),
            None => Some(Ending::Complete),
        };
        if let Some(how) = how {
            ending.end(how);
            *this.ending = None;
        }
        Poll::Ready(frame)
    }

    /// False until the end has been recorded.
    fn is_end_stream(&self) -> bool {
        self.ending.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
