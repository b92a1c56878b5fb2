use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::attempts::Attempts;
use super::budget::Tally;
use super::error::BoxError;
use super::layer::Config;
use super::{ReplayBody, ResponseFuture, RetryLayer};
use crate::shard::{Shard, Sharded};

/// A service whose failed requests are repeated; made by [`RetryLayer`].
///
/// The inner service gets requests with a [`ReplayBody`]. It is cloned once when the layer is applied, and again only when
/// a request is really repeated; each clone is polled ready before it is called.
pub struct Retry<S> {
    inner: S,
    handle: Arc<Handle<S>>,
}

struct Handle<S> {
    core: Arc<Core<S>>,
    tickets: Sharded<Arc<Ticket<S>>>,
}

/// What all share as one thread holds it: to clone it writes no cache line that other threads write.
#[repr(align(128))]
pub(super) struct Ticket<S> {
    pub(super) core: Arc<Core<S>>,
    shard: Shard,
    /// The thread's own in the budget.
    tally: Arc<Tally>,
}

impl<S> Ticket<S> {
    /// A request begins, on the thread whose ticket this is.
    #[inline]
    pub(super) fn begin(&self) {
        self.tally.begin(self.shard);
    }

    /// A request ends, wherever that is.
    #[inline]
    pub(super) fn end(&self) {
        let shard = Shard::mine();
        self.tally(shard).end(shard);
    }

    #[inline]
    pub(super) fn succeeded(&self) {
        let shard = Shard::mine();
        self.tally(shard).succeeded(shard);
    }

    #[inline]
    fn tally(&self, shard: Shard) -> &Tally {
        if shard == self.shard { &self.tally } else { self.core.config.policy.budget.tally(shard) }
    }
}

/// What the service and its calls share.
pub(super) struct Core<S> {
    pub(super) config: Arc<Config>,
    /// What repeats are sent by clones of. Behind a lock because a service need not be `Sync`; taken by repeats only.
    spare: Mutex<S>,
}

impl<S: Clone> Core<S> {
    pub(super) fn spare(&self) -> S {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S> Handle<S> {
    #[inline]
    fn ticket(&self) -> Arc<Ticket<S>> {
        let shard = Shard::mine();
        let core = &self.core;
        let tally = || Arc::clone(core.config.policy.budget.tally(shard));
        Arc::clone(self.tickets.of(shard, || Arc::new(Ticket { core: Arc::clone(core), shard, tally: tally() })))
    }
}

impl<S: Clone> Retry<S> {
    pub(super) fn new(inner: S, layer: &RetryLayer) -> Self {
        let spare = Mutex::new(inner.clone());
        let core = Arc::new(Core { config: Arc::clone(&layer.0), spare });
        Self { inner, handle: Arc::new(Handle { core, tickets: Sharded::new() }) }
    }
}

impl<S: Clone> Clone for Retry<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), handle: Arc::clone(&self.handle) }
    }
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    R: Body,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S, S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut attempts = Attempts::begin(self.handle.ticket(), &mut request);
        if !attempts.is_in_time() {
            return ResponseFuture::late(attempts);
        }
        attempts.sending();
        // Two calls, and not one for both: a request that may be either has to be moved once more.
        if attempts.keeps(request.body()) {
            let request = attempts.keep(request);
            return ResponseFuture::new(attempts, self.inner.call(request));
        }
        ResponseFuture::new(attempts, self.inner.call(request.map(ReplayBody::passing)))
    }
}

impl<S> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("name", &self.handle.core.config.name).finish_non_exhaustive()
    }
}
