//! A server that stops well: the requests that are under way are answered, then what was recorded of them is delivered,
//! each within a time, and what was lost is told.
//!
//! ```no_run
//! use axum::{Router, routing::get, serve};
//! use buttress::Telemetry;
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let telemetry = Telemetry::from_env("storefront")?;
//! let app: Router = Router::new().route("/orders", get(async || "none yet")).layer(telemetry.server());
//!
//! let stop = telemetry.shutdown_on_signal()?;
//! let listener = TcpListener::bind("127.0.0.1:3000").await?;
//! let serving = serve(listener, app).with_graceful_shutdown(stop.requested());
//! stop.drain(serving).await?;
//! # Ok(()) }
//! ```
//!
//! [`Shutdown::requested`] fits wherever a server takes a future that tells it to stop: axum, tonic's
//! `serve_with_shutdown`, an accept loop of one's own; and in an answer that lasts, as events from the server and websockets
//! do: a server waits for those as for any other, so that they end themselves when it resolves, or the grace ends them.

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::telemetry::Telemetry;
use crate::trace::FlushError;

/// When to stop a server, and how; see the [module](self). Clones are asked together.
#[derive(Clone, Debug)]
pub struct Shutdown {
    telemetry: Telemetry,
    /// How often it was asked to stop.
    asked: watch::Receiver<u32>,
    grace: Duration,
    delivery: Duration,
}

impl Telemetry {
    /// Stops a server when the process is told to: by SIGTERM or SIGINT, elsewhere than on Unix by ctrl-c. The second of
    /// them cuts off the requests that are still under way.
    ///
    /// From here on these signals do not end the process by themselves.
    ///
    /// # Errors
    ///
    /// When the signals cannot be listened to.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio that has its I/O enabled.
    pub fn shutdown_on_signal(&self) -> io::Result<Shutdown> {
        let (ask, asked) = watch::channel(0);
        listen(ask)?;
        Ok(Shutdown::new(self, asked))
    }

    /// Stops a server when this resolves.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio.
    pub fn shutdown_when(&self, asked: impl Future<Output = ()> + Send + 'static) -> Shutdown {
        let (ask, receiver) = watch::channel(0);
        tokio::spawn(async move {
            asked.await;
            ask.send_modify(|times| *times += 1);
        });
        Shutdown::new(self, receiver)
    }
}

impl Shutdown {
    fn new(telemetry: &Telemetry, asked: watch::Receiver<u32>) -> Self {
        let (grace, delivery) = (Duration::from_secs(20), Duration::from_secs(5));
        Self { telemetry: telemetry.clone(), asked, grace, delivery }
    }

    /// How long requests under way are waited for once the server is asked to stop. 20 seconds by default: with the
    /// delivery, less than the 30 that Kubernetes waits.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long the delivery of what was recorded may take after that. 5 seconds by default.
    #[must_use]
    pub fn delivery(mut self, delivery: Duration) -> Self {
        self.delivery = delivery;
        self
    }

    /// Resolves when the server is asked to stop.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + use<> {
        let asked = self.asked.clone();
        async move { times(asked, 1).await }
    }

    /// Serves until the server has ended, by itself or because it was asked to, and delivers what was recorded.
    ///
    /// `serving` is the server, which stops by itself once [`requested`](Self::requested) resolves. When the grace is over
    /// it is dropped; what its tasks still do is given up.
    ///
    /// # Errors
    ///
    /// [`ShutdownError::Server`] when the server failed, else [`ShutdownError::Lost`] when a request was cut off or
    /// telemetry was not delivered.
    pub async fn drain<E>(self, serving: impl IntoFuture<Output = Result<(), E>>) -> Result<(), ShutdownError<E>> {
        let Self { telemetry, asked, grace, delivery } = self;
        let over = async {
            times(asked.clone(), 1).await;
            let _ = timeout(grace, times(asked, 2)).await;
        };
        let served = first(serving.into_future(), over).await;
        let cut_off = served.is_none().then(|| telemetry.performance().active_requests);
        let delivered = telemetry.shutdown(delivery).await;
        if let Some(Err(error)) = served {
            return Err(ShutdownError::Server(error));
        }
        let stats = telemetry.spans().stats();
        let lost = Lost { cut_off, spans: stats.dropped, undelivered: delivered.err() };
        if lost.cut_off.is_some() || lost.undelivered.is_some() { Err(ShutdownError::Lost(lost)) } else { Ok(()) }
    }
}

/// Resolves when it was asked so often.
async fn times(mut asked: watch::Receiver<u32>, least: u32) {
    if asked.wait_for(|times| *times >= least).await.is_err() {
        // Whoever could ask is gone.
        std::future::pending().await
    }
}

/// What the work came to, unless the other resolves before.
async fn first<T>(work: impl Future<Output = T>, other: impl Future<Output = ()>) -> Option<T> {
    let (mut work, mut other) = (pin!(work), pin!(other));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => other.as_mut().poll(cx).map(|()| None),
    })
    .await
}

#[cfg(unix)]
fn listen(ask: watch::Sender<u32>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    // Both before either is awaited, so that none that comes from here on is missed.
    let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    for mut signal in signals {
        let ask = ask.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                ask.send_modify(|times| *times += 1);
            }
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn listen(ask: watch::Sender<u32>) -> io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            ask.send_modify(|times| *times += 1);
        }
    });
    Ok(())
}

/// What did not go well when a server stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum ShutdownError<E> {
    /// The server failed. What was recorded has been delivered, as far as it could be.
    Server(E),
    /// The server stopped, and not everything was brought to its end.
    Lost(Lost),
}

/// What was lost when a server stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The server did not end within the grace; so many requests were under way then, 0 where nobody has counted them.
    pub cut_off: Option<u64>,
    /// Spans that were dropped since the start, because a queue was full.
    pub spans: u64,
    /// Why not everything that was recorded has been delivered.
    pub undelivered: Option<FlushError>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut and = "";
        if let Some(requests) = self.cut_off {
            write!(f, "the server was cut off with {requests} requests under way")?;
            and = "; ";
        }
        if let Some(why) = &self.undelivered {
            write!(f, "{and}{why}")?;
            and = "; ";
        }
        if self.spans > 0 {
            write!(f, "{and}{} spans were dropped before", self.spans)?;
        }
        Ok(())
    }
}

impl<E> fmt::Display for ShutdownError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(_) => f.write_str("the server failed"),
            Self::Lost(lost) => lost.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for ShutdownError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Server(error) => Some(error),
            Self::Lost(_) => None,
        }
    }
}
