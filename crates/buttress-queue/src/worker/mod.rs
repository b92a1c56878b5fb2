//! Takes jobs out of a queue and has a tower service process them.
//!
//! ```
//! use buttress_queue::{Delivery, EngineConfig, Job, Memory, Outcome, Queue, Worker};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = Queue::new("greetings", Memory::new(EngineConfig::default()));
//! queue.push(Job::new("greet", "Ada")?).await?;
//!
//! let (done, all_done) = tokio::sync::mpsc::channel(1);
//! # let mut all_done = all_done;
//! let greet = service_fn(move |delivery: Delivery| {
//!     let done = done.clone();
//!     async move {
//!         let name: Delivery<String> = delivery.read()?;
//!         done.send(name.data).await?;
//!         Ok::<_, tower::BoxError>(Outcome::Ack)
//!     }
//! });
//! let worker = Worker::new(&queue, greet).concurrency(4);
//! worker.run_until(async { assert_eq!(all_done.recv().await.as_deref(), Some("Ada")) }).await;
//! # Ok(()) }
//! ```
//!
//! # How it goes about it
//!
//! The service is asked [`poll_ready`](tower_service::Service::poll_ready) **before** a job is claimed: a concurrency limit
//! that is used up, a rate limit, an open [circuit](crate::CircuitLayer) stop the claims, and the jobs stay where another
//! worker can have them. Each claim is a lease, which is renewed while the processor works and is over soon after its
//! process has died. What comes of it is an [`Outcome`]; an error is a retry, unless [`judge`](Worker::judge) says
//! otherwise, and a rejection by a circuit breaker farther in is a deferral.
//!
//! A processor that panics frees its place, and its job is retried. One that hangs is dropped after
//! [`timeout`](Worker::timeout). A job that kills the process is buried after [`max_crashes`](Worker::max_crashes) times.
//!
//! On shutdown nothing more is claimed; what is under way has time to finish, and what has not finished by then is handed
//! back without an attempt being used.
//!
//! # What may stand around a processor
//!
//! Whatever takes any request and can be cloned, as tower's concurrency limit; its rate limit cannot be, and stands behind
//! tower's buffer, of one. What looks at `http::Request`s cannot stand there.
//!
//! ```
//! use buttress::circuit_breaker::{Circuit, CircuitConfig};
//! use buttress::retry::RetryPolicy;
//! use buttress::trace::{Operation, OperationLayer, Spans};
//! use buttress_queue::{CircuitLayer, Delivery, Outcome};
//! use tower::retry::RetryLayer;
//! use tower::{BoxError, ServiceBuilder, service_fn};
//!
//! # let spans = Spans::new();
//! let processor = ServiceBuilder::new()
//!     // Outermost: a place that waits for a job holds a permit, and repeats farther out would wait for it.
//!     .concurrency_limit(8)
//!     // What is over in a moment is tried again here, and uses no attempt of the job's.
//!     .layer(RetryLayer::new(RetryPolicy::new().any_request()))
//!     // Sees every try; while it is open nothing is claimed.
//!     .layer(CircuitLayer::new(Circuit::new("mail", CircuitConfig::default())))
//!     // A span for each try, below that of the attempt; of `Telemetry::operation` metrics, too.
//!     .layer(OperationLayer::new(Operation::new("send mail", &spans)))
//!     .service(service_fn(async |_: Delivery| Ok::<_, BoxError>(Outcome::Ack)));
//! # let _ = processor;
//! ```

mod attempt;
mod claims;
mod judge;

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use buttress::backoff::Backoff;
use claims::{Claims, Turn};
use judge::Judge;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_service::Service;

use crate::BoxError;
use crate::connectivity::Connectivity;
use crate::engine::Claimed;
use crate::job::{Delivery, Outcome};
use crate::queue::Queue;

/// How long a place waits before it asks a service again that said it will never be ready.
const BROKEN: Duration = Duration::from_secs(1);

/// Has a service process the jobs of a queue; see the [module](self).
#[derive(Clone)]
#[must_use = "a worker does nothing until it runs"]
pub struct Worker<S> {
    service: S,
    rules: Rules,
}

/// Everything about a worker but its service.
#[derive(Clone)]
struct Rules {
    queue: Queue,
    concurrency: usize,
    lease: Duration,
    timeout: Duration,
    drain: Duration,
    backoff: Backoff,
    max_attempts: u32,
    max_crashes: u32,
    in_trace_of_producer: bool,
    judge: Judge,
    connectivity: Option<Connectivity>,
}

impl<S> Worker<S> {
    /// A worker with the defaults of its setters.
    pub fn new(queue: &Queue, service: S) -> Self {
        let backoff = Backoff::exponential(Duration::from_secs(1), 2.0, Duration::from_secs(600));
        let rules = Rules {
            queue: queue.clone(),
            concurrency: 16,
            lease: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            drain: Duration::from_secs(25),
            backoff: backoff.expect("a second is above zero and below ten minutes"),
            max_attempts: 10,
            max_crashes: 3,
            in_trace_of_producer: false,
            judge: Judge::default(),
            connectivity: None,
        };
        Self { service, rules }
    }

    /// How many jobs are processed at a time. 16 by default; 0 is taken as 1.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.rules.concurrency = concurrency.max(1);
        self
    }

    /// How long after the death of this process its jobs are given to others. 30 s by default; renewed each third of it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.rules.lease = lease;
        self
    }

    /// How long an attempt may take; then it is dropped, and has failed. 30 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.rules.timeout = timeout;
        self
    }

    /// How long what is under way may take once the worker is to end. 25 s by default.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.rules.drain = drain;
        self
    }

    /// How long to wait before the next attempt where nothing else is said. By default 1 s, doubling to 10 minutes, with
    /// full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = backoff;
        self
    }

    /// After how many failed attempts a job is buried. 10 by default.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.rules.max_attempts = max_attempts.max(1);
        self
    }

    /// How often a job may be claimed and never be heard of again, before it is buried as what kills its processors.
    /// 3 by default.
    pub fn max_crashes(mut self, max_crashes: u32) -> Self {
        self.rules.max_crashes = max_crashes;
        self
    }

    /// Makes attempts children of the span that pushed the job. By default each has a trace of its own, linked to it: a job
    /// that is retried for a day makes no trace of a day.
    pub fn in_trace_of_producer(mut self) -> Self {
        self.rules.in_trace_of_producer = true;
        self
    }

    /// What an error of the service is. By default a retry, with the error and its sources as the reason; of a rejection
    /// by a circuit breaker a deferral for as long as that says.
    pub fn judge(mut self, judge: impl Fn(&BoxError) -> Outcome + Send + Sync + 'static) -> Self {
        self.rules.judge = Judge::of(judge);
        self
    }

    /// Claims nothing while this is offline, and little at first once it is back. Errors that say that nobody could be
    /// reached then use no attempt.
    pub fn connectivity(mut self, connectivity: Connectivity) -> Self {
        self.rules.connectivity = Some(connectivity);
        self
    }
}

impl<S> Worker<S>
where
    S: Service<Delivery> + Clone + Send + 'static,
    S::Response: Into<Outcome>,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    /// Works until the future is ready, then finishes what is under way.
    ///
    /// Dropped, everything under way is dropped, and comes back when its lease is over.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Drained {
        let Self { service, rules } = self;
        let (stop, stopped) = watch::channel(Stop::No);
        let (ask, asked) = mpsc::channel(rules.concurrency);
        let rules = Arc::new(rules);
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        for _ in 0..rules.concurrency {
            let (rules, counts) = (Arc::clone(&rules), Arc::clone(&counts));
            tasks.spawn(place(service.clone(), rules, counts, ask.clone(), stopped.clone()));
        }
        drop(ask);
        tasks.spawn(Claims::new(Arc::clone(&rules), Arc::clone(&counts), asked).hand_out(stopped.clone()));
        if let Some(connectivity) = rules.connectivity.clone() {
            let mut stopped = stopped.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = connectivity.probe_for_ever() => {}
                    _ = stopped.changed() => {}
                }
            });
        }
        shutdown.await;
        stop.send_replace(Stop::Draining);
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(rules.drain, drained).await.is_err() {
            stop.send_replace(Stop::Now);
            while tasks.join_next().await.is_some() {}
        }
        Drained { finished: counts.finished.load(Relaxed), released: counts.released.load(Relaxed) }
    }

    /// Works until it is dropped.
    pub async fn run(self) {
        self.run_until(std::future::pending()).await;
    }
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rules { queue, concurrency, lease, timeout, .. } = &self.rules;
        let mut worker = f.debug_struct("Worker");
        worker.field("queue", queue).field("concurrency", concurrency).field("lease", lease).field("timeout", timeout);
        worker.finish_non_exhaustive()
    }
}

/// What a worker did, and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Attempts that came to their end, however.
    pub finished: u64,
    /// Jobs that were handed back because the time was up.
    pub released: u64,
}

#[derive(Default)]
struct Counts {
    finished: AtomicU64,
    released: AtomicU64,
    /// Jobs that are being processed.
    busy: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// Nothing more is claimed.
    Draining,
    /// What is under way is dropped and handed back.
    Now,
}

/// One job after the other.
async fn place<S>(
    service: S,
    rules: Arc<Rules>,
    counts: Arc<Counts>,
    ask: mpsc::Sender<Turn>,
    mut stopped: watch::Receiver<Stop>,
) where
    S: Service<Delivery> + Clone + Send + 'static,
    S::Response: Into<Outcome>,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let mut next = service.clone();
    while *stopped.borrow() == Stop::No {
        let ready = tokio::select! {
            ready = poll_fn(|context| next.poll_ready(context)) => ready.is_ok(),
            _ = stopped.changed() => return,
        };
        if !ready {
            next = service.clone();
            sleep(BROKEN).await;
            continue;
        }
        let Some(claimed) = turn(&ask).await else { return };
        let ready = std::mem::replace(&mut next, service.clone());
        attempt::process(ready, claimed, &rules, &counts, &mut stopped).await;
    }
}

/// Waits for a job; none will come any more when nobody hands out any.
async fn turn(ask: &mpsc::Sender<Turn>) -> Option<Claimed> {
    let (give, get) = oneshot::channel();
    ask.send(give).await.ok()?;
    get.await.ok()
}
