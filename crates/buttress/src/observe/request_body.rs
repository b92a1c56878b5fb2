use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Is told how many bytes of a request's body were read, once: at its end, or when nobody reads on.
pub trait ReadEnd {
    /// The body is over.
    fn end(self, bytes: u64);
}

pin_project! {
    /// A request's body whose bytes are counted as they are read.
    pub struct CountedBody<B, W>
    where
        W: ReadEnd,
    {
        #[pin]
        inner: B,
        watch: Option<W>,
        bytes: u64,
    }

    impl<B, W> PinnedDrop for CountedBody<B, W>
    where
        W: ReadEnd,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(watch) = this.watch.take() {
                watch.end(*this.bytes);
            }
        }
    }
}

impl<B, W: ReadEnd> CountedBody<B, W> {
    /// Counts what is read of this.
    pub fn new(inner: B, watch: W) -> Self {
        Self { inner, watch: Some(watch), bytes: 0 }
    }
}

impl<B: Body, W: ReadEnd> Body for CountedBody<B, W> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        *this.bytes += data.map_or(0, |data| data.remaining() as u64);
        // Who reads a body of known length to its end may never ask for more: the drop tells of that.
        if !matches!(frame, Some(Ok(_)))
            && let Some(watch) = this.watch.take()
        {
            watch.end(*this.bytes);
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

impl<B, W: ReadEnd> fmt::Debug for CountedBody<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedBody").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
