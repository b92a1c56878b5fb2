//! What the tests of workers share.

#![allow(dead_code, reason = "not every test needs everything")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress::backoff::Backoff;
use buttress_queue::engine::Found;
use buttress_queue::{Delivery, Drained, EngineConfig, Job, JobId, Memory, Outcome, Queue, Worker};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tower::{BoxError, Service, service_fn};

pub(crate) fn queue() -> Queue {
    Queue::new("work", Memory::new(EngineConfig::default()))
}

pub(crate) fn id(id: &str) -> JobId {
    JobId::new(id).unwrap()
}

pub(crate) fn job(name: &str) -> Job {
    Job::new("test", &json!({ "name": name })).unwrap().id(id(name))
}

/// Waits a second after each failure.
pub(crate) fn second() -> Backoff {
    Backoff::constant(Duration::from_secs(1))
}

/// A processor that counts its calls.
pub(crate) fn counting<F, A>(
    process: F,
) -> (impl Service<Delivery, Response = Outcome, Error = BoxError, Future: Send> + Clone + Send, Arc<AtomicUsize>)
where
    F: Fn(Delivery, usize) -> A + Clone + Send + 'static,
    A: Future<Output = Result<Outcome, BoxError>> + Send + 'static,
{
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    (service_fn(move |delivery| process(delivery, counted.fetch_add(1, Ordering::SeqCst) + 1)), calls)
}

pub(crate) async fn found(queue: &Queue, name: &str) -> Found {
    queue.find(&id(name)).await.unwrap().unwrap()
}

/// Long enough, on the paused clock, for everything that can happen without a wait.
pub(crate) async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

/// A worker that runs until it is told to stop.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Drained>,
}

impl Running {
    pub(crate) fn start<S>(worker: Worker<S>) -> Self
    where
        S: Service<Delivery, Response = Outcome, Error = BoxError, Future: Send> + Clone + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        Self { stop, worker: tokio::spawn(worker.run_until(async { _ = stopped.await })) }
    }

    pub(crate) async fn stop(self) -> Drained {
        self.stop.send(()).unwrap();
        self.worker.await.unwrap()
    }

    /// Dies without a word, as a process that is killed.
    pub(crate) async fn kill(self) {
        self.worker.abort();
        let _ = self.worker.await;
    }
}
