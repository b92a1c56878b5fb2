//! A backend that does what each request says.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tower::service_fn;

use crate::subject::{Request, Stack, stack};

/// What is to become of a call.
#[derive(Clone, Copy)]
pub struct Script {
    /// `None` hangs.
    pub status: Option<StatusCode>,
    pub after: Duration,
}

impl Script {
    pub const fn ok() -> Self {
        Self { status: Some(StatusCode::OK), after: Duration::ZERO }
    }

    pub const fn failed() -> Self {
        Self { status: Some(StatusCode::SERVICE_UNAVAILABLE), after: Duration::ZERO }
    }

    pub fn request(self) -> Request {
        let mut request = Request::new(Full::default());
        request.extensions_mut().insert(self);
        request
    }

    async fn answer(self) -> http::Response<Full<Bytes>> {
        if !self.after.is_zero() {
            tokio::time::sleep(self.after).await;
        }
        let Some(status) = self.status else { return std::future::pending().await };
        let mut response = http::Response::new(Full::default());
        *response.status_mut() = status;
        response
    }
}

/// The backend, and how many calls have reached it.
#[derive(Clone, Default)]
pub struct Scripted(Arc<AtomicU64>);

impl Scripted {
    pub fn stack(&self) -> Stack {
        let reached = Arc::clone(&self.0);
        stack(service_fn(move |request: Request| {
            reached.fetch_add(1, Relaxed);
            let script = *request.extensions().get::<Script>().expect("layers keep the extensions of a request");
            async move { Ok::<_, Infallible>(script.answer().await) }
        }))
    }

    pub fn reached(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Runs on a paused clock of its own.
pub async fn in_virtual_time<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let run = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime without I/O needs nothing of the system").block_on(work)
    });
    run.await.expect("scenarios do not panic")
}
