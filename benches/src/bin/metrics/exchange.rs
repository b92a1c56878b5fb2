//! An exchange and its end, held fast: what observers are shown once, to be shown as often as one likes.
//!
//! Nobody but the crate can make an [`Exchange`] or an [`End`]. A service whose exchanges are watched shows them to its
//! observer, and as long as that does not return they are there to be used.

use std::cell::Cell;
use std::convert::Infallible;

use buttress::context::Context;
use buttress::observe::{End, Exchange, Observe, ObserveLayer, Probe};
use buttress_benches::finish;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};

/// What an end shall tell.
#[derive(Clone, Default)]
pub struct Shape {
    /// Whether it tells when the head came.
    pub has_head: bool,
    pub context: Option<Context>,
}

/// Shows an exchange that has begun, and an end that can be changed at will.
pub fn with_end(shape: &Shape, work: &mut dyn FnMut(&mut Exchange, End<'_>)) {
    let mut begun = |exchange: &mut Exchange| {
        let mut ended = |end: &End<'_>| {
            const { assert!(!std::mem::needs_drop::<End<'_>>()) };
            // SAFETY: it is a valid end, for as long as it is borrowed, and nothing of it is ever dropped.
            work(exchange, unsafe { std::ptr::read(end) });
        };
        Hold { shape, head: Cell::new(None), end: Cell::new(Some(&mut ended)) }.run();
    };
    Hold { shape, head: Cell::new(Some(&mut begun)), end: Cell::new(None) }.run();
}

type OnHead<'a> = dyn FnMut(&mut Exchange) + 'a;
type OnEnd<'a> = dyn FnMut(&End<'_>) + 'a;

struct Hold<'a> {
    shape: &'a Shape,
    head: Cell<Option<&'a mut OnHead<'a>>>,
    end: Cell<Option<&'a mut OnEnd<'a>>>,
}

struct HoldProbe<'h, 'a>(&'h Hold<'a>);

impl Hold<'_> {
    fn run(&self) {
        let answer = |_| std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
        let mut service = ObserveLayer::server(self).layer(service_fn(answer));
        let Ok(_) = finish(service.call(Request::new(())));
    }
}

impl<'h, 'a, B> Observe<B> for &'h Hold<'a> {
    type Probe = HoldProbe<'h, 'a>;

    fn start(&self, _request: &mut Request<B>, _exchange: &mut Exchange) -> Self::Probe {
        HoldProbe(self)
    }
}

impl Probe for HoldProbe<'_, '_> {
    fn head<R>(&mut self, _response: &mut Response<R>, exchange: &mut Exchange) {
        exchange.head_at = self.0.shape.has_head.then_some(exchange.started);
        exchange.context = self.0.shape.context.clone();
        if let Some(work) = self.0.head.take() {
            work(exchange);
        }
    }

    fn end(self, end: &End<'_>) {
        if let Some(work) = self.0.end.take() {
            work(end);
        }
    }
}
