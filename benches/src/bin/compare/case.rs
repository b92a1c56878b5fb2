//! The rows: a name, who does it, which requests come, and how it is made.

use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};

use buttress::context::{Context, TraceContext, TraceFlags};
use buttress_benches::subject::{Body, Subject};
use buttress_benches::{finish, held_bytes};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::Service;

use crate::requests::{Ask, Kind, call};

/// A row that can be measured, each in a process of its own.
pub struct Case {
    pub name: &'static str,
    pub subject: &'static str,
    /// Its bare service is asked the same.
    pub kind: Kind,
    pub make: fn(&Self) -> Box<dyn Subject>,
}

impl Case {
    pub const fn new(
        name: &'static str,
        subject: &'static str,
        kind: Kind,
        make: fn(&Self) -> Box<dyn Subject>,
    ) -> Self {
        Self { name, subject, kind, make }
    }

    /// Whether spans come of it, which somebody has to take away now and then.
    pub fn records(&self) -> bool {
        !self.name.ends_with(".off")
            && (matches!(self.kind, Kind::Sampled | Kind::Tenth) || self.name == "client.sampled")
    }

    /// A service that is called.
    pub fn calling<S, B>(&self, service: S) -> Box<dyn Subject>
    where
        S: Service<Ask, Response = Response<B>> + Clone + Send + Sync + 'static,
        B: http_body::Body + 'static,
    {
        self.settled(service, || {})
    }

    /// A service that is called, and what it has put off.
    pub fn settled<S, B>(&self, service: S, settle: impl Fn() + Send + Sync + 'static) -> Box<dyn Subject>
    where
        S: Service<Ask, Response = Response<B>> + Clone + Send + Sync + 'static,
        B: http_body::Body + 'static,
    {
        let context = (self.kind == Kind::Outgoing).then(|| {
            let mut trace = TraceContext::random();
            let sampled = self.name.ends_with(".sampled");
            trace.flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::NONE };
            Context::from_trace(trace)
        });
        Box::new(Called { name: self.subject, kind: self.kind, service, context, settle: Arc::new(settle) })
    }
}

struct Called<S> {
    name: &'static str,
    kind: Kind,
    service: S,
    /// What is being served while the requests go out.
    context: Option<Context>,
    settle: Arc<dyn Fn() + Send + Sync>,
}

impl<S, B> Subject for Called<S>
where
    S: Service<Ask, Response = Response<B>> + Clone + Send + Sync,
    B: http_body::Body,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn enter(&self, body: &mut Body<'_>) {
        let (mut service, requests) = (self.service.clone(), self.kind.requests());
        let mut turn = requests.iter().cycle();
        let mut run = || {
            body(&mut |times| {
                for parts in turn.by_ref().take(times) {
                    call(&mut service, Request::from_parts(parts.clone(), Full::<Bytes>::default()));
                }
            });
        };
        match &self.context {
            Some(context) => finish(context.clone().scope(async { run() })),
            None => run(),
        }
    }

    fn settle(&self) {
        (self.settle)();
    }

    fn bytes_in_flight(&self, requests: usize) -> f64 {
        let (mut service, parts) = (self.service.clone(), self.kind.requests());
        let mut held = || {
            let mut future = Box::pin(service.call(Request::from_parts(parts[0].clone(), Full::<Bytes>::default())));
            assert!(future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
            future
        };
        // Once for what is made by the first call.
        drop(held());
        let (_held, bytes) = held_bytes(|| (0..requests).map(|_| held()).collect::<Vec<_>>());
        bytes as f64 / requests as f64
    }
}
