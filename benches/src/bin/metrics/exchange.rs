//! Ends of exchanges, held fast: what observers are shown once, to be shown as often as one likes.
//!
//! Nobody but the crate can make an [`Exchange`] or an [`End`]. A service whose exchanges are watched shows them to its
//! observer, and as long as that does not return they are there to be used.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use buttress::context::Context;
use buttress::observe::{End, Exchange, Observe, ObserveLayer, Probe};
use buttress_benches::finish;
use bytes::Bytes;
use http::{Request, Response, response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};

/// What an end shall tell.
#[derive(Clone)]
pub struct Shape {
    pub status: u16,
    pub took: Duration,
    /// Whether it tells when the head came.
    pub has_head: bool,
    pub context: Option<Context>,
}

/// Shows an exchange.
pub fn with_exchange(work: &mut dyn FnMut(&mut Exchange)) {
    let shape = Shape { status: 200, took: Duration::ZERO, has_head: true, context: None };
    Hold { shape: &shape, head: Cell::new(Some(work)), end: Cell::new(None) }.run();
}

/// Shows ends of all these shapes at once.
pub fn with_ends(shapes: &[Shape], work: &mut dyn FnMut(&[&End<'_>])) {
    next_end(shapes, &[], work);
}

fn next_end(shapes: &[Shape], held: &[&End<'_>], work: &mut dyn FnMut(&[&End<'_>])) {
    let Some((shape, rest)) = shapes.split_first() else {
        return work(held);
    };
    let mut end = |end: &End<'_>| {
        let held: Vec<&End<'_>> = held.iter().copied().chain([end]).collect();
        next_end(rest, &held, work);
    };
    Hold { shape, head: Cell::new(None), end: Cell::new(Some(&mut end)) }.run();
}

struct Hold<'a> {
    shape: &'a Shape,
    head: Cell<Option<&'a mut dyn FnMut(&mut Exchange)>>,
    end: Cell<Option<&'a mut dyn FnMut(&End<'_>)>>,
}

struct HoldProbe<'h, 'a>(&'h Hold<'a>);

impl Hold<'_> {
    fn run(&self) {
        let status = self.shape.status;
        let answer = move |_: Request<Full<Bytes>>| {
            let response = Response::builder().status(status).body(Full::<Bytes>::default());
            std::future::ready(Ok::<_, Infallible>(response.expect("the status is one")))
        };
        let mut service = ObserveLayer::server(self).layer(service_fn(answer));
        let Ok(_) = finish(service.call(Request::new(Full::default())));
    }
}

impl<'h, 'a, B> Observe<B> for &'h Hold<'a> {
    type Probe = HoldProbe<'h, 'a>;

    fn start(&self, _request: &mut Request<B>, _exchange: &mut Exchange) -> Self::Probe {
        HoldProbe(self)
    }
}

impl Probe for HoldProbe<'_, '_> {
    fn head(&mut self, _head: &mut response::Parts, exchange: &mut Exchange) {
        let Shape { took, has_head, context, .. } = self.0.shape;
        let now = exchange.head_at.expect("the head passes by");
        exchange.started = now - *took;
        exchange.head_at = has_head.then(|| now - *took / 8);
        exchange.context = context.clone();
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
