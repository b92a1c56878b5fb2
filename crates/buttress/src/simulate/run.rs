//! Offers a workload to a subject and counts.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use tokio::task::JoinSet;
use tower_service::Service;

use super::report::{Report, Tally};
use super::{Backend, SimulatedBackend, Workload};
use crate::{clock, random};

/// A workload and a backend, to be run with one subject after the other.
#[derive(Clone)]
pub struct Simulation {
    workload: Workload,
    backend: Backend,
    slice: Duration,
    grace: Duration,
    request: Arc<dyn Fn(usize) -> Request<Full<Bytes>> + Send + Sync>,
}

impl Simulation {
    /// Offers this workload to whatever stands before this backend.
    pub fn new(workload: Workload, backend: Backend) -> Self {
        Self {
            workload,
            backend,
            slice: Duration::from_millis(250),
            grace: Duration::from_secs(10),
            request: Arc::new(|_| Request::new(Full::default())),
        }
    }

    /// How long the slices of the report are, 250 ms by default and at least 1 ms.
    #[must_use]
    pub fn slice(mut self, slice: Duration) -> Self {
        self.slice = slice.max(Duration::from_millis(1));
        self
    }

    /// How long to wait for answers after the last request, 10 s by default. Callers without one are then cut off.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Makes each request out of its number, from 0. By default it is a `GET /` without headers and body.
    #[must_use]
    pub fn requests(mut self, request: impl Fn(usize) -> Request<Full<Bytes>> + Send + Sync + 'static) -> Self {
        self.request = Arc::new(request);
        self
    }

    /// Runs in virtual time, on a runtime of its own whose clock stands still while there is work and jumps when there is
    /// none.
    ///
    /// Each request gets a clone of the subject, which is built when the run begins. What is random in layers of this crate
    /// comes from the workload's seed.
    ///
    /// # Panics
    ///
    /// If the subject panics, or if called within a runtime: there, await [`Simulation::run_async`] with tokio's clock
    /// paused.
    pub fn run<S, B>(&self, subject: impl FnOnce(SimulatedBackend) -> S) -> Report
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        B: Body + Send + 'static,
    {
        in_virtual_time(self.workload.chance(), self.run_async(subject))
    }

    /// Runs on the runtime that it is awaited on, by its clock: in virtual time if that is paused, else in wall time.
    ///
    /// # Panics
    ///
    /// If the subject panics.
    pub async fn run_async<S, B>(&self, subject: impl FnOnce(SimulatedBackend) -> S) -> Report
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        B: Body + Send + 'static,
    {
        let backend = SimulatedBackend::new(self.backend.clone(), self.workload.chance());
        let start = backend.start();
        let subject = subject(backend.clone());
        let mut report = Report::new(self.slice);
        let mut count = |at, tally| report.count(at, self.backend.is_sick(at), &tally);
        let mut callers = JoinSet::new();
        for (number, at) in self.workload.arrivals().into_iter().enumerate() {
            tokio::time::sleep_until(start + at).await;
            // When it comes, not when it was meant to: timers count milliseconds.
            let at = clock::now().saturating_duration_since(start);
            count(at, Tally { offered: 1, ..Tally::default() });
            let (subject, request) = (subject.clone(), (self.request)(number));
            callers.spawn(async move { (at, exchange(subject, request).await) });
        }
        drop(subject);

        let cut_off = clock::now() + self.grace;
        while let Ok(Some(caller)) = tokio::time::timeout_at(cut_off, callers.join_next()).await {
            match caller {
                Ok((at, tally)) => count(at, tally),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        backend.calls().into_iter().for_each(|at| count(at, Tally { sent: 1, ..Tally::default() }));
        report
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, backend, slice, grace, request: _ } = self;
        let mut all = f.debug_struct("Simulation");
        all.field("workload", workload).field("backend", backend).field("slice", slice).field("grace", grace);
        all.finish_non_exhaustive()
    }
}

/// Runs on a paused tokio clock, which jumps whenever there is nothing to do, with [`random`](crate::random) seeded
/// meanwhile.
///
/// # Panics
///
/// If the work panics, or if called within a runtime.
pub fn in_virtual_time<T>(seed: u64, work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    let _seeded = random::Seeded::new(seed);
    runtime.block_on(work)
}

/// One request up to the end of the answer's body: there are layers that decide only there.
pub(super) async fn exchange<S, B>(mut subject: S, request: Request<Full<Bytes>>) -> Tally
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    B: Body,
{
    let begin = clock::now();
    let is_ok = async {
        poll_fn(|cx| subject.poll_ready(cx)).await.ok()?;
        let response = subject.call(request).await.ok()?;
        let status = response.status();
        let mut body = pin!(response.into_body());
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            frame.ok()?;
        }
        (!status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS).then_some(())
    };
    let is_ok = is_ok.await.is_some();
    let waited = clock::now().saturating_duration_since(begin);
    Tally { ok: u64::from(is_ok), failed: u64::from(!is_ok), waited, ..Tally::default() }
}
