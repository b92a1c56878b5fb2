//! A backend that does what each request says.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower_service::Service;

/// What is to become of a call; in the extensions of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    status: Option<StatusCode>,
    after: Duration,
}

impl Script {
    /// 200 at once.
    pub const OK: Self = Self::answer(StatusCode::OK, Duration::ZERO);

    /// 503 at once.
    pub const FAILED: Self = Self::answer(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO);

    /// No answer, ever.
    pub const HANG: Self = Self { status: None, after: Duration::ZERO };

    /// This status, after this time.
    pub const fn answer(status: StatusCode, after: Duration) -> Self {
        Self { status: Some(status), after }
    }

    /// A `GET /` that says so.
    pub fn request(self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        request.extensions_mut().insert(self);
        request
    }

    async fn play(self) -> Result<Response<Full<Bytes>>, Infallible> {
        if !self.after.is_zero() {
            tokio::time::sleep(self.after).await;
        }
        let Some(status) = self.status else { return pending().await };
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    }
}

/// A backend that does what each request's [`Script`] says, and [`Script::OK`] without one; clones are the same backend.
#[derive(Debug, Clone, Default)]
pub struct Scripted(Arc<AtomicU64>);

impl Scripted {
    /// How many calls have reached it.
    pub fn reached(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<B> Service<Request<B>> for Scripted {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.fetch_add(1, Relaxed);
        Box::pin(request.extensions().get().copied().unwrap_or(Script::OK).play())
    }
}
