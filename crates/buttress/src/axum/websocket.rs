//! Websockets that are counted and have spans of their own.

use std::borrow::Cow;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ::axum::extract::WebSocketUpgrade;
use ::axum::extract::ws::{OnFailedUpgrade, WebSocket};
use ::axum::response::Response;

use crate::context::{self, Context};
use crate::metrics::source::{Follow, Metered, Side, StreamKind, StreamMetrics};
use crate::metrics::{Counter, Family, Registry};
use crate::trace::{Connection, Spans};

/// The websockets of one route: each is counted as [`StreamMetrics`] has it, and has a span of its own as [`Connection`] has
/// it, a trace that is linked to the request which opened it, with its messages in both directions and how it was closed.
///
/// ```
/// use axum::Router;
/// use axum::extract::{State, WebSocketUpgrade};
/// use axum::response::Response;
/// use axum::routing::any;
/// use buttress::axum::Websockets;
/// use buttress::metrics::Registry;
/// use buttress::trace::Spans;
///
/// async fn echo(upgrade: WebSocketUpgrade, State(sockets): State<Websockets>) -> Response {
///     sockets.on_upgrade(upgrade, async |mut socket| {
///         while let Some(Ok(message)) = socket.recv().await {
///             if socket.send(message).await.is_err() {
///                 break;
///             }
///         }
///     })
/// }
///
/// let sockets = Websockets::new(&Registry::new(), &Spans::new(), "/echo");
/// let app: Router = Router::new().route("/echo", any(echo)).with_state(sockets);
/// # let _ = app;
/// ```
///
/// How a socket was closed is in `stream.closed`, by `websocket.close.code`: the code of the first close frame, whoever sent
/// it; 1005 for one without a code, 1006 where none was sent (RFC 6455, section 7.4.1), `_OTHER` for codes of applications.
/// The span has the code itself, and in `websocket.closed_by` who sent the frame: `peer` or `server`. A code that tells of
/// trouble is the span's error.
#[derive(Clone, Debug)]
pub struct Websockets {
    route: Cow<'static, str>,
    metrics: StreamMetrics,
    closed: Family<Counter>,
    /// None where nobody wants spans.
    spans: Option<Spans>,
}

impl Websockets {
    /// Of this route: its template, never a path. It is the name of the spans, too.
    pub fn new(registry: &Registry, spans: &Spans, route: impl Into<Cow<'static, str>>) -> Self {
        let route = route.into();
        let metrics = StreamMetrics::for_route(registry, StreamKind::Websocket, &route);
        let closed =
            registry.counter("stream.closed").unit("{stream}").description("Websockets that were closed, by code");
        Self { route, metrics, closed, spans: Some(spans.clone()) }
    }

    /// As [`WebSocketUpgrade::on_upgrade`], in the context of the connection. Belongs into the handler, which knows the
    /// request.
    pub fn on_upgrade<C, F, U>(&self, upgrade: WebSocketUpgrade<U>, serve: C) -> Response
    where
        C: FnOnce(Metered<WebSocket>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
        U: OnFailedUpgrade,
    {
        let (sockets, request) = (self.clone(), context::active());
        upgrade.on_upgrade(move |socket| async move {
            let follower = sockets.follow(request.as_ref());
            let context = follower.connection.as_ref().map(|connection| connection.context().clone());
            let serving = serve(sockets.metrics.followed(socket, Box::new(follower)));
            match context {
                Some(context) => context.scope(serving).await,
                None => serving.await,
            }
        })
    }

    fn follow(&self, request: Option<&Context>) -> Follower {
        let open = |spans: &Spans| Connection::open(self.route.clone(), spans);
        let connection = self.spans.as_ref().map(|spans| match request {
            Some(request) => request.enter(|| open(spans)),
            None => open(spans),
        });
        Follower { sockets: self.clone(), connection, broke: AtomicBool::new(false), closed_by: OnceLock::new() }
    }
}

#[cfg(feature = "telemetry")]
impl crate::Telemetry {
    /// The websockets of a route: counted, with spans of their own.
    pub fn websockets(&self, route: impl Into<Cow<'static, str>>) -> Websockets {
        let sockets = Websockets::new(self.metrics(), self.spans(), route);
        let is_enabled = self.settings().enabled.value;
        Websockets { spans: sockets.spans.filter(|_| is_enabled), ..sockets }
    }
}

/// Tells the span what the metrics are told, and both how it was closed.
struct Follower {
    sockets: Websockets,
    connection: Option<Connection>,
    broke: AtomicBool,
    closed_by: OnceLock<(Side, u16)>,
}

impl Follow for Follower {
    fn message_in(&self, bytes: usize) {
        self.connection.iter().for_each(|connection| connection.received(bytes));
    }

    fn message_out(&self, bytes: usize) {
        self.connection.iter().for_each(|connection| connection.sent(bytes));
    }

    fn error(&self) {
        self.broke.store(true, Relaxed);
    }

    fn closed_by(&self, side: Side, code: u16) {
        // The first frame is the reason, the second the answer to it.
        let _ = self.closed_by.set((side, code));
    }
}

/// "Abnormal Closure": there was no close frame.
const ABNORMAL: u16 = 1006;

impl Drop for Follower {
    fn drop(&mut self) {
        let closed_by = self.closed_by.get();
        let code = closed_by.map_or(ABNORMAL, |(_, code)| *code);
        let label = match code {
            1000..=1015 => Cow::Owned(code.to_string()),
            // 4000 codes that a peer may choose are not for labels.
            _ => Cow::Borrowed("_OTHER"),
        };
        let labels =
            [("stream.kind", "websocket"), ("http.route", &*self.sockets.route), ("websocket.close.code", &*label)];
        self.sockets.closed.with(labels).add(1);
        let Some(connection) = &mut self.connection else { return };
        let context = connection.context();
        context.set_attribute("websocket.close.code", i64::from(code));
        if let Some((side, _)) = closed_by {
            context.set_attribute("websocket.closed_by", if matches!(side, Side::Us) { "server" } else { "peer" });
        }
        // A handler that returns without a word ends a socket as it likes; it did not break.
        if let Some(trouble) = trouble(code).filter(|_| closed_by.is_some() || self.broke.load(Relaxed)) {
            connection.failed(trouble);
        }
    }
}

/// The codes of RFC 6455, section 7.4.1, and of its registry that tell of trouble.
fn trouble(code: u16) -> Option<&'static str> {
    Some(match code {
        1002 => "1002",
        1003 => "1003",
        1006 => "1006",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1010 => "1010",
        1011 => "1011",
        1014 => "1014",
        1015 => "1015",
        _ => return None,
    })
}
