//! axum's websockets.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::ready;

use ::axum::Error;
use ::axum::extract::ws::{Message, WebSocket, close_code};
use futures_core::Stream;
use futures_sink::Sink;

use super::metered::{MessageSize, Metered};
use super::stream::StreamMetrics;

impl MessageSize for Message {
    /// Of text and binary messages. Pings, pongs and close frames are control frames (RFC 6455, section 5.5).
    fn message_size(&self) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.len()),
            Self::Binary(bytes) => Some(bytes.len()),
            Self::Ping(_) | Self::Pong(_) | Self::Close(_) => None,
        }
    }

    /// Of a close frame; 1005 stands for one without a code (RFC 6455, section 7.1.5).
    fn close_code(&self) -> Option<u16> {
        match self {
            Self::Close(frame) => Some(frame.as_ref().map_or(close_code::STATUS, |frame| frame.code)),
            _ => None,
        }
    }
}

impl StreamMetrics {
    /// Counts the messages of a websocket: one line in the handler, the rest of it stays as it is.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::extract::{State, WebSocketUpgrade};
    /// use axum::response::Response;
    /// use axum::routing::any;
    /// use buttress::metrics::Registry;
    /// use buttress::metrics::source::{StreamKind, StreamMetrics};
    ///
    /// async fn echo(upgrade: WebSocketUpgrade, State(metrics): State<StreamMetrics>) -> Response {
    ///     upgrade.on_upgrade(async move |socket| {
    ///         let mut socket = metrics.websocket(socket);
    ///         while let Some(Ok(message)) = socket.recv().await {
    ///             if socket.send(message).await.is_err() {
    ///                 break;
    ///             }
    ///         }
    ///     })
    /// }
    ///
    /// let registry = Registry::new();
    /// let metrics = StreamMetrics::for_route(&registry, StreamKind::Websocket, "/echo");
    /// let app: Router = Router::new().route("/echo", any(echo)).with_state(metrics);
    /// # let _ = app;
    /// ```
    pub fn websocket(&self, socket: WebSocket) -> Metered<WebSocket> {
        self.metered(socket)
    }
}

impl Metered<WebSocket> {
    /// As [`WebSocket::recv`].
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// As [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// When the connection is closed or broken, or the message is too large.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        let mut message = Some(message);
        poll_fn(|cx| {
            let mut socket = Pin::new(&mut *self);
            if message.is_some() {
                ready!(socket.as_mut().poll_ready(cx))?;
            }
            if let Some(message) = message.take() {
                socket.as_mut().start_send(message)?;
            }
            socket.poll_flush(cx)
        })
        .await
    }
}
