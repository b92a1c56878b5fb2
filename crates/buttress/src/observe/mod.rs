//! One look at each exchange: the only pass-through service, future and body of this crate.
//!
//! A concern (tracing, metrics, a breaker) implements [`Observe`]: it sees the request, the head of the answer and the
//! end, and the end comes exactly once, whatever happens: completion, an error, a body that breaks, a caller that goes
//! away, a panic, an upgrade. Tuples of observers are observers, so that several concerns share one future, one body,
//! one classification and one pair of clock readings.
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! use buttress::classify::Outcome;
//! use buttress::observe::{End, Exchange, Observe, ObserveLayer, Probe};
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! #[derive(Clone, Default)]
//! struct CountErrors(Arc<AtomicUsize>);
//!
//! impl<B> Observe<B> for CountErrors {
//!     type Probe = Self;
//!
//!     fn start(&self, _request: &mut Request<B>, _exchange: &mut Exchange) -> Self {
//!         self.clone()
//!     }
//! }
//!
//! impl Probe for CountErrors {
//!     fn end(self, end: &End<'_>) {
//!         if end.outcome.is_error() {
//!             self.0.fetch_add(1, Ordering::Relaxed);
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let errors = CountErrors::default();
//! let service = ServiceBuilder::new().layer(ObserveLayer::server(errors.clone())).service(service_fn(
//!     async |_: Request<()>| Ok::<_, Infallible>(Response::builder().status(500).body(Full::<&[u8]>::default()).unwrap()),
//! ));
//! drop(service.oneshot(Request::new(())).await);
//! assert_eq!(errors.0.load(Ordering::Relaxed), 1);
//! # }
//! ```

mod body;
mod future;
mod layer;
#[cfg(any(feature = "trace", feature = "metrics"))]
pub(crate) mod methods;
#[cfg(any(feature = "trace", feature = "metrics"))]
pub(crate) mod peer;
mod present;
#[cfg(any(feature = "trace", feature = "metrics"))]
pub(crate) mod protocol;
#[cfg(feature = "metrics")]
mod request_body;
#[cfg(any(feature = "trace", feature = "metrics", feature = "axum"))]
mod route;
mod service;
mod tuple;
mod watch;
mod when;

use std::fmt;

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, Version};

pub use crate::classify::{Ending, ErrorType, GrpcCode, Health, How, Outcome};
use crate::context::Context;
pub use tokio::time::Instant;

pub use body::ObservedBody;
pub use future::ResponseFuture;
pub use layer::ObserveLayer;
#[cfg(any(feature = "trace", feature = "metrics"))]
pub use methods::{KnownMethods, KnownMethodsError};
pub(crate) use present::Present;
#[cfg(feature = "metrics")]
pub use request_body::{CountedBody, ReadEnd};
#[cfg(any(feature = "trace", feature = "metrics", feature = "axum"))]
pub use route::Route;
pub use service::Observed;
#[cfg(feature = "circuit-breaker")]
pub(crate) use watch::Watch;
pub use when::{ParseNetworkError, When};

/// One concern that watches exchanges.
pub trait Observe<B> {
    /// What it keeps for each exchange.
    type Probe: Probe;

    /// Whether starting may leave the request with other headers, as far as this crate asks for them. Nobody but this
    /// crate knows that it does not.
    #[doc(hidden)]
    const CHANGES_HEADERS: bool = true;

    /// Whether it asks the exchange which headers a request may have, which only this crate can.
    #[doc(hidden)]
    const ASKS_FOR_HEADERS: bool = false;

    /// A request has arrived. Whatever context is left in `exchange` is the current one for the inner service.
    fn start(&self, request: &mut Request<B>, exchange: &mut Exchange) -> Self::Probe;
}

/// What an observer keeps for one exchange.
pub trait Probe {
    /// Whether it looks at the time of the head or of the end. Where nobody does the clock is not read, and both are when
    /// it arrived; nobody but this crate says so.
    #[doc(hidden)]
    const READS_TIMES: bool = true;

    /// Whether it looks at the time of the head; where nobody does, `head_at` stays empty.
    #[doc(hidden)]
    const READS_HEAD_TIME: bool = Self::READS_TIMES;

    /// The head of the answer passes by; its body has not been read yet.
    fn head<R>(&mut self, response: &mut Response<R>, exchange: &mut Exchange) {
        let _ = (response, exchange);
    }

    /// A frame of the answer's body passes by, with so many bytes.
    fn data(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// The exchange is over. Called exactly once.
    fn end(self, end: &End<'_>);
}

/// For observers that are done when the request has passed.
impl Probe for () {
    const READS_TIMES: bool = false;

    fn end(self, _end: &End<'_>) {}
}

/// One exchange, as its observers share it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// When the request arrived.
    pub started: Instant,
    /// When the head of the answer passed by; none where only the circuit breaker looks on, which does not ask.
    pub head_at: Option<Instant>,
    /// The context in which the inner service runs; the caller's when there is none.
    pub context: Option<Context>,
    /// Whether it speaks gRPC, by its content type.
    pub is_grpc: bool,
    /// Which headers the request may have.
    pub(crate) present: Present,
}

/// The end of an exchange.
#[derive(Debug)]
#[non_exhaustive]
pub struct End<'a> {
    /// How it ended.
    pub how: &'a How<'a>,
    /// What that means.
    pub outcome: Outcome,
    /// What it tells about the callee.
    pub health: Health,
    /// Why it is an error.
    pub error_type: Option<ErrorType>,
    /// The status of the head, when there was one.
    pub status: Option<StatusCode>,
    /// The gRPC status, for gRPC.
    pub grpc_code: Option<GrpcCode>,
    /// Bytes of the answer's body that were passed on.
    pub body_bytes: u64,
    /// When it arrived, when the head came, and in which context it ran.
    pub exchange: &'a Exchange,
    /// When it ended.
    pub at: Instant,
}

/// The head of a request, whatever its body.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The protocol version.
    pub version: Version,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// What servers and other layers have attached.
    pub extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    /// The head of this request.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The address of the peer, from [`Peer`], or with the features `axum` and `tonic` from their connect infos.
    pub fn peer(&self) -> Option<std::net::SocketAddr> {
        if let Some(Peer(address)) = self.extensions.get() {
            return Some(*address);
        }
        #[cfg(feature = "axum")]
        if let Some(::axum::extract::ConnectInfo(address)) = self.extensions.get() {
            return Some(*address);
        }
        #[cfg(feature = "tonic")]
        if let Some(info) = self.extensions.get::<tonic::transport::server::TcpConnectInfo>() {
            return info.remote_addr();
        }
        None
    }
}

impl fmt::Debug for RequestHead<'_> {
    /// Method only: target and headers may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead").field("method", self.method).finish_non_exhaustive()
    }
}

/// The peer's address, for servers that accept their own connections: put it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub std::net::SocketAddr);
