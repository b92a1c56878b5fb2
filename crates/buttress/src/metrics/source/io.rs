use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::{OpenStream, StreamMetrics};

pin_project! {
    /// A connection whose bytes are counted; of [`StreamMetrics::metered_io`].
    ///
    /// It is open until this is dropped. What was read came in, what was written went out; errors of either are counted,
    /// each of them. Bytes are no messages: those are not counted.
    #[must_use = "it is closed when it is dropped"]
    pub struct MeteredIo<T> {
        #[pin]
        inner: T,
        open: OpenStream,
    }
}

impl StreamMetrics {
    /// Opens a stream that counts the bytes that pass through this connection: one line where an upgrade is handled.
    ///
    /// ```
    /// use buttress::metrics::Registry;
    /// use buttress::metrics::source::{StreamKind, StreamMetrics, stream_totals};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let registry = Registry::new();
    /// let tunnels = StreamMetrics::for_route(&registry, StreamKind::Upgrade, "/tunnel");
    /// // Of hyper's `upgrade::on(request).await`, in a `TokioIo`.
    /// let (upgraded, mut caller) = tokio::io::duplex(64);
    /// let mut tunnel = tunnels.metered_io(upgraded);
    /// caller.write_all(b"ping").await?;
    /// tunnel.read_exact(&mut [0; 4]).await?;
    /// drop(tunnel);
    /// let stats = stream_totals(&registry.snapshot(), StreamKind::Upgrade);
    /// assert_eq!((stats.opened, stats.open, stats.bytes_in), (1, 0, 4));
    /// # Ok(()) }
    /// ```
    pub fn metered_io<T>(&self, inner: T) -> MeteredIo<T> {
        MeteredIo { inner, open: self.open() }
    }
}

impl<T> MeteredIo<T> {
    /// What is counted.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// What is counted; what passes through it meanwhile is not.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Takes it out; nothing more is counted, and the stream counts as closed.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

/// Counts what has passed, or that it failed.
fn noted<R>(open: &OpenStream, result: io::Result<R>, passed: impl FnOnce(&R)) -> Poll<io::Result<R>> {
    match &result {
        Ok(result) => passed(result),
        Err(_) => open.error(),
    }
    Poll::Ready(result)
}

impl<T: AsyncRead> AsyncRead for MeteredIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (this, before) = (self.project(), buffer.filled().len());
        let read = ready!(this.inner.poll_read(cx, buffer));
        noted(this.open, read, |()| this.open.bytes_in(buffer.filled().len() - before))
    }
}

impl<T: AsyncWrite> AsyncWrite for MeteredIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        noted(this.open, ready!(this.inner.poll_write(cx, bytes)), |written| this.open.bytes_out(*written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = ready!(this.inner.poll_write_vectored(cx, slices));
        noted(this.open, written, |written| this.open.bytes_out(*written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        noted(this.open, ready!(this.inner.poll_flush(cx)), |()| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        noted(this.open, ready!(this.inner.poll_shutdown(cx)), |()| ())
    }
}

impl<T> fmt::Debug for MeteredIo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeteredIo").field("open", &self.open).finish_non_exhaustive()
    }
}
