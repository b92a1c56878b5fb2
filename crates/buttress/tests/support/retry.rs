//! A server that answers by a script and remembers what it was asked.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::retry::ReplayBody;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tower::Service;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn get() -> Request<Full<Bytes>> {
    request(Method::GET, &[], "")
}

pub(crate) fn request(method: Method, headers: &[(&'static str, &str)], body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = method;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a valid value"));
    }
    request
}

/// What it does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16, HeaderMap),
    /// So many frames of so many bytes.
    Body(u16, usize, usize),
    After(Duration, u16),
    Error(fn(io::ErrorKind) -> BoxError, io::ErrorKind),
    Hang,
    Panic,
}

#[derive(Default)]
struct Seen {
    script: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Option<Reply>>,
    heads: Mutex<Vec<HeaderMap>>,
    bodies: Mutex<Vec<String>>,
    dropped: AtomicUsize,
    alive: AtomicUsize,
    frames: AtomicUsize,
    clones: AtomicUsize,
}

/// Its clones share the script; the one that was made first may be the only one that is ever ready.
#[derive(Default)]
pub(crate) struct Server {
    seen: Arc<Seen>,
    clones_hang: bool,
    hangs: bool,
    ready: bool,
}

impl Clone for Server {
    fn clone(&self) -> Self {
        self.seen.clones.fetch_add(1, Relaxed);
        Self { seen: Arc::clone(&self.seen), clones_hang: self.clones_hang, hangs: self.clones_hang, ready: false }
    }
}

impl Server {
    pub(crate) fn replies(script: impl IntoIterator<Item = Reply>) -> Self {
        let server = Self::default();
        server.reply(script);
        server
    }

    pub(crate) fn always(reply: Reply) -> Self {
        let server = Self::default();
        *server.seen.otherwise.lock().unwrap() = Some(reply);
        server
    }

    pub(crate) fn reply(&self, script: impl IntoIterator<Item = Reply>) {
        self.seen.script.lock().unwrap().extend(script);
    }

    pub(crate) fn whose_clones_are_never_ready(mut self) -> Self {
        self.clones_hang = true;
        self
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.heads.lock().unwrap().len()
    }

    pub(crate) fn clones(&self) -> usize {
        self.seen.clones.load(Relaxed)
    }

    pub(crate) fn header(&self, name: &str) -> Vec<Option<String>> {
        let heads = self.seen.heads.lock().unwrap();
        heads.iter().map(|head| Some(head.get(name)?.to_str().unwrap().to_owned())).collect()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.seen.bodies.lock().unwrap().clone()
    }

    /// Attempts that were dropped before they had an answer.
    pub(crate) fn dropped(&self) -> usize {
        self.seen.dropped.load(Relaxed)
    }

    pub(crate) fn bodies_alive(&self) -> usize {
        self.seen.alive.load(Relaxed)
    }

    /// Polls of answers' bodies.
    pub(crate) fn frames_read(&self) -> usize {
        self.seen.frames.load(Relaxed)
    }

    fn next(&self) -> Reply {
        let next = self.seen.script.lock().unwrap().pop_front();
        next.or_else(|| self.seen.otherwise.lock().unwrap().clone())
            .unwrap_or_else(|| Reply::Status(200, HeaderMap::new()))
    }

    fn body(&self, frames: usize, bytes: usize) -> Frames {
        self.seen.alive.fetch_add(1, Relaxed);
        Frames { seen: Arc::clone(&self.seen), left: frames, bytes }
    }
}

impl<B> Service<Request<ReplayBody<B>>> for Server
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Frames>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.hangs {
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called an instance that was not ready");
        let server = Self { seen: Arc::clone(&self.seen), ..Self::default() };
        let (head, body) = request.into_parts();
        server.seen.heads.lock().unwrap().push(head.headers);
        let reply = server.next();
        if let Reply::Error(make, kind) = reply {
            return Box::pin(ready(Err(make(kind))));
        }
        Box::pin(async move {
            let mut cancelled = OnDrop(Some(Arc::clone(&server.seen)));
            let body = body.collect().await?.to_bytes();
            server.seen.bodies.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
            let (status, headers, body) = match reply {
                Reply::Status(status, headers) => (status, headers, server.body(0, 0)),
                Reply::Body(status, frames, bytes) => (status, HeaderMap::new(), server.body(frames, bytes)),
                Reply::After(time, status) => {
                    // Paused: whoever scripts a wait starts so.
                    tokio::time::sleep(time).await;
                    (status, HeaderMap::new(), server.body(0, 0))
                }
                Reply::Hang => pending().await,
                Reply::Panic => std::panic::resume_unwind(Box::new("the script says so")),
                Reply::Error(..) => unreachable!("answered above"),
            };
            cancelled.0 = None;
            let mut response = Response::new(body);
            *response.status_mut() = status.try_into().expect("a status");
            *response.headers_mut() = headers;
            Ok(response)
        })
    }
}

struct OnDrop(Option<Arc<Seen>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(seen) = &self.0 {
            seen.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// The body of an answer.
pub(crate) struct Frames {
    seen: Arc<Seen>,
    left: usize,
    bytes: usize,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frames({})", self.left)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.seen.alive.fetch_sub(1, Relaxed);
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.seen.frames.fetch_add(1, Relaxed);
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; self.bytes])))))
    }
}
