//! A request body that can be sent again: what passes is kept, up to a limit.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::error::BoxError;

/// What a frame costs beside its bytes, so that a body of single bytes cannot fill the memory with their handles.
const FRAME: usize = size_of::<Bytes>();

pin_project! {
    /// The body of a request on its way to the inner service: the caller's own, or what was kept of it and the rest.
    ///
    /// Frames are shared, not copied. A body that can never be sent again passes untouched.
    pub struct ReplayBody<B> {
        #[pin]
        body: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Passing { #[pin] body: B },
        Kept { reader: Reader<B> },
        Empty,
    }
}

/// What a repeat's body is made of.
pub(super) enum Source<B> {
    /// There was none.
    Empty,
    Kept(Arc<Mutex<Kept<B>>>),
}

/// One attempt's place in what is kept.
struct Reader<B> {
    kept: Arc<Mutex<Kept<B>>>,
    at: usize,
}

pub(super) struct Kept<B> {
    frames: Vec<Bytes>,
    /// Frames that went by, kept or not.
    passed: usize,
    trailers: Option<HeaderMap>,
    /// The caller's body, until its end. Apart, since it need not be `Unpin` and outlives the attempt that reads it.
    rest: Option<Pin<Box<B>>>,
    room: usize,
    state: Whole,
    /// Attempts that wait for the rest: only the last to ask is known to it.
    waiting: Vec<Waker>,
}

/// Whether what was kept is all there was so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    /// It grew past the limit; only this reader, by its place, goes on.
    Outgrown,
    /// The caller's body failed.
    Broken,
}

impl<B> ReplayBody<B> {
    /// A body that is never sent again.
    pub fn passing(body: B) -> Self {
        Self { body: Kind::Passing { body } }
    }
}

impl<B: Body<Data = Bytes>> ReplayBody<B> {
    /// Whether a body is known to be longer than what would be kept.
    pub(super) fn is_too_long(body: &B, limit: usize) -> bool {
        usize::try_from(body.size_hint().lower()).map_or(true, |least| least > limit)
    }

    /// Keeps a body of up to `limit` bytes.
    pub(super) fn keep(body: B, limit: usize) -> (Self, Source<B>) {
        if body.is_end_stream() {
            return (Self::passing(body), Source::Empty);
        }
        let kept = Arc::new(Mutex::new(Kept {
            frames: Vec::new(),
            passed: 0,
            trailers: None,
            rest: Some(Box::pin(body)),
            // The one frame of most bodies is not charged.
            room: limit.saturating_add(FRAME),
            state: Whole::Yes,
            waiting: Vec::new(),
        }));
        let source = Source::Kept(kept);
        (source.body(), source)
    }
}

impl<B> Source<B> {
    /// The body once more, from its beginning.
    pub(super) fn body(&self) -> ReplayBody<B> {
        let body = match self {
            Self::Empty => Kind::Empty,
            Self::Kept(kept) => Kind::Kept { reader: Reader { kept: Arc::clone(kept), at: 0 } },
        };
        ReplayBody { body }
    }

    /// Whether it can be sent from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Kept(kept) => lock(kept).state == Whole::Yes,
        }
    }
}

fn lock<B>(kept: &Mutex<Kept<B>>) -> MutexGuard<'_, Kept<B>> {
    // A body that panicked is polled no more.
    kept.lock().unwrap_or_else(|poisoned| {
        let mut kept = PoisonError::into_inner(poisoned);
        kept.rest = None;
        kept.state = Whole::Broken;
        kept
    })
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.project().body.project() {
            KindProjection::Passing { body } => body.poll_frame(cx).map_err(Into::into),
            KindProjection::Kept { reader } => reader.poll_frame(cx),
            KindProjection::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kind::Passing { body } => body.is_end_stream(),
            Kind::Kept { reader } => lock(&reader.kept).is_end(reader.at),
            Kind::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Passing { body } => body.size_hint(),
            Kind::Kept { reader } => lock(&reader.kept).size_hint(reader.at),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}

impl<B> Reader<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        let mut kept = lock(&self.kept);
        let polled = kept.poll_frame(self.at, cx);
        let waiting = if polled.is_ready() { std::mem::take(&mut kept.waiting) } else { Vec::new() };
        drop(kept);
        waiting.into_iter().for_each(Waker::wake);
        if polled.is_ready() {
            self.at += 1;
        }
        polled
    }
}

impl<B> Drop for Reader<B> {
    /// Another attempt may be waiting for a body that would have woken this one.
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut lock(&self.kept).waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<B> Kept<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, at: usize, cx: &mut Context<'_>) -> Polled {
        if at < self.passed {
            let data = self.frames.get(at).cloned();
            return Poll::Ready(Some(data.map(Frame::data).ok_or_else(|| NotWhole.into())));
        }
        // Beyond the trailers, or the end.
        if at > self.passed {
            return Poll::Ready(None);
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(match self.state {
                Whole::Yes => self.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))),
                Whole::Outgrown => None,
                Whole::Broken => Some(Err(NotWhole.into())),
            });
        };
        let Poll::Ready(polled) = rest.as_mut().poll_frame(cx) else {
            if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                self.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        };
        Poll::Ready(match polled {
            Some(Ok(frame)) => Some(Ok(self.pass(frame))),
            Some(Err(error)) => {
                self.lose(Whole::Broken);
                self.rest = None;
                Some(Err(error.into()))
            }
            None => {
                self.rest = None;
                None
            }
        })
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(data) => {
                self.keep(data.clone());
                Frame::data(data)
            }
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    // Nothing comes after trailers.
                    self.trailers = (self.state == Whole::Yes).then(|| trailers.clone());
                    self.rest = None;
                }
                frame
            }
        }
    }

    fn keep(&mut self, data: Bytes) {
        self.passed += 1;
        let cost = data.len().saturating_add(FRAME);
        if cost > self.room {
            self.lose(Whole::Outgrown);
        } else if self.state == Whole::Yes {
            self.room -= cost;
            self.frames.push(data);
        }
    }

    fn lose(&mut self, state: Whole) {
        self.state = state;
        self.room = 0;
        self.frames = Vec::new();
    }

    fn is_end(&self, at: usize) -> bool {
        if at < self.passed {
            return false;
        }
        match &self.rest {
            Some(rest) => rest.is_end_stream(),
            None => self.state != Whole::Broken && (self.trailers.is_none() || at > self.passed),
        }
    }

    fn size_hint(&self, at: usize) -> SizeHint {
        let left = self.frames.iter().skip(at).map(|frame| frame.len() as u64).sum();
        let Some(rest) = &self.rest else {
            return SizeHint::with_exact(left);
        };
        let mut hint = rest.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(hint.lower().saturating_add(left));
        hint
    }
}

/// An attempt asked for a part of the body that is gone.
#[derive(Debug)]
struct NotWhole;

impl fmt::Display for NotWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body was not kept to its end")
    }
}

impl std::error::Error for NotWhole {}

impl<B: Default> Default for ReplayBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.body {
            Kind::Passing { .. } => "ReplayBody(passing)",
            Kind::Kept { .. } => "ReplayBody(kept)",
            Kind::Empty => "ReplayBody(empty)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use proptest::prelude::*;

    use super::*;

    /// What a caller's body does next.
    #[derive(Clone, Debug)]
    enum Step {
        Yield,
        Data(Vec<u8>),
        Trailers,
        Fail,
    }

    struct Script(VecDeque<Step>);

    impl Body for Script {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Ready(match self.0.pop_front() {
                Some(Step::Yield) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Data(data)) => Some(Ok(Frame::data(data.into()))),
                Some(Step::Trailers) => Some(Ok(Frame::trailers(trailers()))),
                Some(Step::Fail) => Some(Err(io::ErrorKind::Other.into())),
                None => None,
            })
        }
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("sum"), http::HeaderValue::from_static("7"))])
    }

    /// What one attempt has read.
    struct Read {
        body: Pin<Box<ReplayBody<Script>>>,
        bytes: Vec<u8>,
        trailers: bool,
        end: Option<Result<(), BoxError>>,
    }

    impl Read {
        fn of(body: ReplayBody<Script>) -> Self {
            Self { body: Box::pin(body), bytes: Vec::new(), trailers: false, end: None }
        }

        fn poll(&mut self) {
            if self.end.is_some() {
                return;
            }
            match self.body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {}
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.bytes.extend(data),
                    Err(_) => self.trailers = true,
                },
            }
        }
    }

    fn script() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Yield),
            4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Data),
        ];
        let end = prop_oneof![4 => Just(None), 2 => Just(Some(Step::Trailers)), 1 => Just(Some(Step::Fail))];
        (prop::collection::vec(step, 0..12), end).prop_map(|(steps, end)| steps.into_iter().chain(end).collect())
    }

    proptest! {
        #[test]
        fn every_attempt_reads_the_same_in_any_interleaving_or_is_told_that_it_is_gone(
            script in script(),
            limit in 0..800_usize,
            turns in prop::collection::vec((0..3_usize, prop::bool::weighted(0.05)), 0..120),
        ) {
            let all: Vec<u8> = script.iter().filter_map(|step| if let Step::Data(data) = step { Some(&data[..]) } else { None }).flatten().copied().collect();
            let has_trailers = matches!(script.last(), Some(Step::Trailers));
            let fails = matches!(script.last(), Some(Step::Fail));
            let cost: usize = script.iter().map(|step| if let Step::Data(data) = step { data.len() + FRAME } else { 0 }).sum();
            let (first, source) = ReplayBody::keep(Script(script.into()), limit);
            let mut reads = vec![Read::of(first), Read::of(source.body()), Read::of(source.body())];
            for (which, leaves) in turns {
                if leaves {
                    reads[which] = Read::of(source.body());
                }
                reads[which].poll();
                for read in &reads {
                    prop_assert!(all.starts_with(&read.bytes));
                    if let Some(Ok(())) = read.end {
                        prop_assert_eq!(&read.bytes, &all);
                        prop_assert_eq!(read.trailers, has_trailers);
                        prop_assert!(!fails);
                    }
                    if let Some(Err(_)) = read.end {
                        prop_assert!(fails || cost > limit + FRAME);
                    }
                }
            }
            let whole = source.is_whole();
            let mut last = Read::of(source.body());
            (0..100).for_each(|_| last.poll());
            prop_assert!(last.end.is_some(), "a body that nobody waits for comes to its end");
            if whole && !fails && cost <= limit + FRAME {
                prop_assert_eq!(last.bytes, all);
            }
        }
    }

    #[test]
    fn the_size_is_that_of_what_is_left() {
        use http_body_util::Full;
        let (first, source) = ReplayBody::keep(Full::new(Bytes::from_static(b"12345")), 64);
        let mut first = Box::pin(first);
        assert_eq!((first.size_hint().exact(), first.is_end_stream()), (Some(5), false));
        let _ = first.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
        assert_eq!((first.size_hint().exact(), first.is_end_stream()), (Some(0), true));
        let again = source.body();
        assert_eq!((again.size_hint().exact(), again.is_end_stream()), (Some(5), false));
    }

    #[test]
    fn an_attempt_that_leaves_wakes_the_one_that_waits_for_the_same_rest() {
        use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
        use std::task::Wake;

        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let (first, source) = ReplayBody::keep(Script(vec![Step::Yield; 9].into()), 64);
        let (mut first, mut second) = (Box::pin(first), Box::pin(source.body()));
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let _ = second.as_mut().poll_frame(&mut Context::from_waker(&Waker::from(Arc::clone(&woken))));
        let _ = first.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
        let before = woken.0.load(Relaxed);
        drop(first);
        assert_eq!(woken.0.load(Relaxed), before + 1);
    }
}
