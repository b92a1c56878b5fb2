use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::stream::{Follow, OpenStream, Side, StreamMetrics};

/// What a stream or a sink carries, as [`Metered`] counts it.
pub trait MessageSize {
    /// Bytes of payload; `None` for what is no message: an error, a control frame.
    fn message_size(&self) -> Option<usize>;

    /// Whether it tells that something went wrong.
    fn is_error(&self) -> bool {
        false
    }

    /// The code with which it closes the stream, if it does.
    fn close_code(&self) -> Option<u16> {
        None
    }
}

macro_rules! message_size {
    ($($message:ty),* $(,)?) => {
        $(impl MessageSize for $message {
            fn message_size(&self) -> Option<usize> {
                Some(self.len())
            }
        })*
    };
}

message_size!(Bytes, String, Vec<u8>, &str, &[u8]);

impl<T: MessageSize, E> MessageSize for Result<T, E> {
    fn message_size(&self) -> Option<usize> {
        self.as_ref().ok()?.message_size()
    }

    fn is_error(&self) -> bool {
        self.as_ref().map_or(true, T::is_error)
    }

    fn close_code(&self) -> Option<u16> {
        self.as_ref().ok()?.close_code()
    }
}

pin_project! {
    /// A [`Stream`], a [`Sink`] or both, whose messages are counted; of [`StreamMetrics::metered`].
    ///
    /// What the stream yields came in; what the sink accepts went out. Errors of either are counted, each of them. It is
    /// open until the stream has ended, the sink has been closed or this is dropped, whichever comes first; what passes
    /// after that is still counted.
    #[must_use = "it is closed when it is dropped"]
    pub struct Metered<S> {
        #[pin]
        inner: S,
        open: OpenStream,
    }
}

impl StreamMetrics {
    /// Opens a stream that counts what passes through this one.
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use buttress::metrics::Registry;
    /// use buttress::metrics::source::{StreamKind, StreamMetrics, stream_totals};
    /// use bytes::Bytes;
    /// use futures_util::{StreamExt, stream};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let registry = Registry::new();
    /// let imports = StreamMetrics::new(&registry, StreamKind::Other);
    /// let rows = stream::iter(["one", "three"].map(|row| Ok::<_, Infallible>(Bytes::from(row))));
    /// imports.metered(rows).for_each(async |_row| ()).await;
    /// let stats = stream_totals(&registry.snapshot(), StreamKind::Other);
    /// assert_eq!((stats.messages_in, stats.bytes_in, stats.open), (2, 8, 0));
    /// # }
    /// ```
    pub fn metered<S>(&self, inner: S) -> Metered<S> {
        Metered { inner, open: self.open() }
    }

    /// The same, and somebody else is told what happens.
    #[cfg_attr(not(all(feature = "websocket", feature = "trace")), allow(dead_code, reason = "spans of websockets"))]
    pub(crate) fn followed<S>(&self, inner: S, follower: Box<dyn Follow>) -> Metered<S> {
        Metered { inner, open: self.open().followed_by(follower) }
    }
}

impl<S> Metered<S> {
    /// What is counted.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// What is counted; what passes through it meanwhile is not.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes it out; nothing more is counted, and the stream counts as closed.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> Stream for Metered<S>
where
    S: Stream,
    S::Item: MessageSize,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let item = ready!(this.inner.poll_next(cx));
        if let Some(code) = item.as_ref().and_then(MessageSize::close_code) {
            this.open.closed_by(Side::Peer, code);
        }
        match &item {
            Some(item) if item.is_error() => this.open.error(),
            Some(item) => item.message_size().into_iter().for_each(|bytes| this.open.message_in(bytes)),
            None => this.open.close(),
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<S> FusedStream for Metered<S>
where
    S: FusedStream,
    S::Item: MessageSize,
{
    fn is_terminated(&self) -> bool {
        self.inner.is_terminated()
    }
}

impl<S, M> Sink<M> for Metered<S>
where
    S: Sink<M>,
    M: MessageSize,
{
    type Error = S::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let this = self.project();
        this.inner.poll_ready(cx).map_err(|error| noted(this.open, error))
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), S::Error> {
        let this = self.project();
        let (size, code) = (message.message_size(), message.close_code());
        this.inner.start_send(message).map_err(|error| noted(this.open, error))?;
        size.into_iter().for_each(|bytes| this.open.message_out(bytes));
        if let Some(code) = code {
            this.open.closed_by(Side::Us, code);
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let this = self.project();
        this.inner.poll_flush(cx).map_err(|error| noted(this.open, error))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let this = self.project();
        let closed = ready!(this.inner.poll_close(cx)).map_err(|error| noted(this.open, error));
        this.open.close();
        Poll::Ready(closed)
    }
}

fn noted<E>(open: &OpenStream, error: E) -> E {
    open.error();
    error
}

impl<S> fmt::Debug for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").field("open", &self.open).finish_non_exhaustive()
    }
}
