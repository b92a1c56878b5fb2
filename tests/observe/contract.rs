//! What tower and whoever polls may rely on: readiness, clones, cancellation anywhere, the context of each poll.

use std::convert::Infallible;
use std::future::{Ready, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use buttress::classify::Ending::Panicked;
use buttress::classify::Outcome;
use buttress::context::{self, TraceId};
use buttress::observe::{End, Exchange, Observe, ObserveLayer, Observed, ObservedBody, Probe, ResponseFuture};
use buttress_tests::plan::{Answer, Plan, Running, plans};
use buttress_tests::{Broken, Recorder, RecordingProbe, ScriptBody, Step};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{Empty, Full, StreamBody};
use proptest::prelude::*;
use tower::{Layer, Service, ServiceExt, service_fn};

/// Is ready after being pending once, and only the instance that said so may be called.
#[derive(Debug, Default)]
struct Strict {
    asked: bool,
    ready: bool,
    closed: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { closed: self.closed, ..Self::default() }
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<Empty<Bytes>>;
    type Error = Broken;
    type Future = Ready<Result<Self::Response, Broken>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.closed {
            return Poll::Ready(Err(Broken("closed")));
        }
        if !std::mem::replace(&mut self.asked, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called an instance that was not ready");
        self.asked = false;
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn the_instance_that_was_polled_ready_is_the_one_that_is_called() {
    let recorder = Recorder::default();
    let mut service = ObserveLayer::server(recorder.clone()).layer(Strict::default());
    for _ in 0..3 {
        let ready = service.ready().await.unwrap();
        let _clone_takes_no_readiness_away = ready.clone();
        ready.call(Request::new(())).await.unwrap();
    }
    assert_eq!(recorder.ends().len(), 3);
}

#[tokio::test]
async fn a_clone_has_to_be_polled_ready_itself_and_shares_the_observer() {
    let recorder = Recorder::default();
    let mut service = ObserveLayer::server(recorder.clone()).layer(Strict::default());
    service.ready().await.unwrap();
    let mut clone = service.clone();
    assert!(poll(&mut Box::pin(poll_fn(|cx| clone.poll_ready(cx)))).is_pending());
    clone.ready().await.unwrap().call(Request::new(())).await.unwrap();
    service.call(Request::new(())).await.unwrap();
    assert_eq!((recorder.started(), recorder.ends().len()), (2, 2));
}

#[tokio::test]
async fn an_error_of_poll_ready_passes_and_starts_no_exchange() {
    let recorder = Recorder::default();
    let mut service = ObserveLayer::server(recorder.clone()).layer(Strict { closed: true, ..Strict::default() });
    assert_eq!(service.ready().await.map(drop), Err(Broken("closed")));
    assert_eq!(recorder.started(), 0);
}

#[test]
fn service_future_and_body_are_send_and_sync_when_their_parts_are() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<ObserveLayer<(Recorder, Recorder)>>();
    check::<Observed<Strict, Recorder>>();
    check::<ResponseFuture<Ready<Result<Response<Empty<Bytes>>, Broken>>, RecordingProbe>>();
    check::<ObservedBody<Full<Bytes>, RecordingProbe>>();
}

/// An observer that is not `Send`, and counts in one thread.
#[derive(Clone, Default)]
struct Local(Rc<std::cell::Cell<usize>>);

impl<B> Observe<B> for Local {
    type Probe = Self;

    fn start(&self, _request: &mut Request<B>, _exchange: &mut Exchange) -> Self {
        self.clone()
    }
}

impl Probe for Local {
    fn end(self, _end: &End<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

#[tokio::test]
async fn nothing_has_to_be_send() {
    let (local, held) = (Local::default(), Rc::new(()));
    let service = ObserveLayer::client(local.clone()).layer(service_fn(move |_: Request<()>| {
        let held = Rc::clone(&held);
        async move {
            tokio::task::yield_now().await;
            drop(held);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    }));
    service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(local.0.get(), 1);
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn an_exchange_that_is_dropped_after_any_number_of_polls_ends_once_and_as_what_it_was() {
    let body = [Step::Yield, Step::Data("a"), Step::Yield, Step::Data("b"), Step::Data("c"), Step::Yield];
    let plan = Plan { pending: 4, answer: Answer::Head, body: body.to_vec() };
    for polls in 0..=plan.pending + plan.body.len() + 3 {
        let (first, second) = (Recorder::default(), Recorder::default());
        let mut exchange = plan.start(ObserveLayer::server((first.clone(), second.clone())));
        for _ in 0..polls {
            exchange.poll();
        }
        drop(exchange);
        assert_eq!(first.only().ending, plan.ending_after(polls), "after {polls} polls");
        assert_eq!(first.only(), second.only(), "after {polls} polls");
    }
}

proptest! {
    #[test]
    fn exchanges_interleaved_in_any_way_end_once_each_and_as_the_reference_says(
        plans in prop::collection::vec(plans(), 1..8),
        turns in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.05)), 0..100),
    ) {
        let all = Recorder::default();
        let mut exchanges: Vec<_> = plans
            .iter()
            .map(|plan| {
                let own = Recorder::default();
                (plan.start(ObserveLayer::server((all.clone(), own.clone()))), own, 0)
            })
            .collect();
        prop_assert_eq!(all.started(), plans.len());

        for (index, leaves) in turns {
            let index = index.index(exchanges.len());
            let (exchange, _, polls) = &mut exchanges[index];
            if leaves {
                *exchange = Running::Over;
            } else if !matches!(exchange, Running::Over) {
                exchange.poll();
                *polls += 1;
            }
        }
        let ended = exchanges.iter().filter(|(exchange, ..)| matches!(exchange, Running::Over)).count();
        prop_assert_eq!(all.ends().len(), ended, "an end comes when the exchange ends, and not later");

        for (plan, (exchange, own, polls)) in plans.iter().zip(exchanges) {
            drop(exchange);
            prop_assert_eq!(own.only().ending, plan.ending_after(polls));
        }
        prop_assert_eq!(all.ends().len(), all.started());
    }
}

/// Where the current context was looked at, and whose it was.
type Sighting = (&'static str, Option<TraceId>);

#[derive(Clone, Debug, Default)]
struct Sightings(Arc<Mutex<Vec<Sighting>>>);

impl Sightings {
    fn look(&self, place: &'static str) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).push((place, current()));
    }

    fn all(&self) -> Vec<Sighting> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).clone()
    }
}

fn current() -> Option<TraceId> {
    context::current().map(|context| context.trace_id())
}

/// A handler that looks when it is called, in two polls of its future and in three of its body.
fn looking(
    sightings: Sightings,
) -> impl Future<Output = Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible>> {
    sightings.look("call");
    let (mut future_polls, mut body_polls) = (0, 0);
    poll_fn(move |_| {
        sightings.look("future");
        future_polls += 1;
        if future_polls < 2 {
            return Poll::Pending;
        }
        let sightings = sightings.clone();
        Poll::Ready(Ok(Response::new(StreamBody::new(stream::poll_fn(move |_| {
            sightings.look("body");
            body_polls += 1;
            match body_polls {
                1 => Poll::Pending,
                2 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x"))))),
                _ => Poll::Ready(None),
            }
        })))))
    })
}

/// Polls an exchange of [`looking`] to its end, and checks the caller's context after each poll.
fn run_looking(recorder: &Recorder, callers: Option<TraceId>) -> Vec<Sighting> {
    let sightings = Sightings::default();
    let mut cx = Context::from_waker(Waker::noop());
    let handler = service_fn(|_: Request<()>| looking(sightings.clone()));
    let mut service = ObserveLayer::server(recorder.clone()).layer(handler);
    let mut future = Box::pin(service.call(Request::new(())));
    assert_eq!(current(), callers);
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert_eq!(current(), callers);
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
        panic!("the second poll answers");
    };
    assert_eq!(current(), callers);
    let mut body = Box::pin(response.into_body());
    while !matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(None)) {
        assert_eq!(current(), callers);
    }
    assert_eq!(current(), callers);
    sightings.all()
}

fn everywhere(trace: Option<TraceId>) -> Vec<Sighting> {
    ["call", "future", "future", "body", "body", "body"].map(|place| (place, trace)).to_vec()
}

#[test]
fn the_context_of_an_observer_is_current_in_call_and_in_each_poll_and_nowhere_else() {
    let ours = context::Context::root();
    let recorder = Recorder::default().with_context(ours.clone());
    assert_eq!(run_looking(&recorder, None), everywhere(Some(ours.trace_id())));
    assert_eq!(recorder.only().trace_id, Some(ours.trace_id()));
}

#[test]
fn the_context_of_the_caller_is_put_back_after_each_poll() {
    let (ours, callers) = (context::Context::root(), context::Context::root());
    let recorder = Recorder::default().with_context(ours.clone());
    let seen = callers.enter(|| run_looking(&recorder, Some(callers.trace_id())));
    assert_eq!(seen, everywhere(Some(ours.trace_id())));
    assert_eq!(current(), None);
}

#[test]
fn without_a_context_of_an_observer_the_callers_stays_current() {
    let callers = context::Context::root();
    let recorder = Recorder::default();
    let seen = callers.enter(|| run_looking(&recorder, Some(callers.trace_id())));
    assert_eq!(seen, everywhere(Some(callers.trace_id())));
    assert_eq!(recorder.only().trace_id, None);
}

/// Runs something that panics inside a caller's context, and checks what is left behind.
fn end_of_panic(work: impl FnOnce(ObserveLayer<Recorder>)) {
    let (ours, callers) = (context::Context::root(), context::Context::root());
    let recorder = Recorder::default().with_context(ours.clone());
    callers.enter(|| {
        let layer = ObserveLayer::server(recorder.clone());
        assert!(catch_unwind(AssertUnwindSafe(|| work(layer))).is_err(), "the panic has to go on");
        assert_eq!(current(), Some(callers.trace_id()), "the caller's context has to be back");
    });
    assert_eq!(current(), None);
    let end = recorder.only();
    assert_eq!((end.ending, end.outcome), (Panicked, Outcome::Panicked));
    assert_eq!(end.trace_id, Some(ours.trace_id()), "the observer still has its context at the end");
}

type NoAnswer = std::future::Pending<Result<Response<Empty<Bytes>>, Infallible>>;

#[test]
fn the_context_of_the_caller_is_put_back_after_a_panic_in_call() {
    end_of_panic(|layer| {
        let mut service = layer.layer(service_fn(|_: Request<()>| -> NoAnswer {
            if true {
                resume_unwind(Box::new("in call"));
            }
            pending()
        }));
        drop(service.call(Request::new(())));
    });
}

#[test]
fn the_context_of_the_caller_is_put_back_after_a_panic_in_the_future() {
    end_of_panic(|layer| {
        let mut service = layer.layer(service_fn(|_: Request<()>| {
            poll_fn(|_| -> Poll<Result<Response<Empty<Bytes>>, Infallible>> {
                resume_unwind(Box::new("in the future"))
            })
        }));
        let _ = poll(&mut Box::pin(service.call(Request::new(()))));
    });
}

#[test]
fn the_context_of_the_caller_is_put_back_after_a_panic_in_the_body() {
    end_of_panic(|layer| {
        let mut service = layer.layer(service_fn(|_: Request<()>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(ScriptBody::new([Step::Panic]))))
        }));
        let Poll::Ready(Ok(response)) = poll(&mut Box::pin(service.call(Request::new(())))) else {
            panic!("the head is ready");
        };
        let _ = Box::pin(response.into_body()).as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
    });
}

/// Tells, when it is dropped, which context it was dropped in.
struct TellsOnDrop(Arc<Mutex<Option<TraceId>>>);

impl Drop for TellsOnDrop {
    fn drop(&mut self) {
        *self.0.lock().expect("nobody panics here") = context::current().map(|context| context.trace_id());
    }
}

#[tokio::test]
async fn what_a_cancelled_call_drops_sees_its_context() {
    let context = context::Context::root();
    let seen = Arc::new(Mutex::new(None));
    let guard = Arc::new(Mutex::new(Some(TellsOnDrop(Arc::clone(&seen)))));
    let handler = service_fn(move |_: Request<()>| {
        let held = guard.lock().expect("nobody panics here").take();
        async move {
            let _held = held;
            pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    let observer = Recorder::default().with_context(context.clone());
    let mut call = Box::pin(ObserveLayer::server(observer).layer(handler).oneshot(Request::new(())));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(call);
    assert_eq!(*seen.lock().expect("nobody panics here"), Some(context.trace_id()));
    assert!(context::current().is_none());
}
