//! What the shop tells of its orders: over a durable queue, so that what was promised to a customer is told to the others
//! although they may be away just now, and told once.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use buttress::Telemetry;
use buttress_queue::{
    self as queue, Delivery, EngineConfig, HealthLimits, Job, JobId, Outcome, Priority, Queue, Sqlite, Worker,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const PLACED: &str = "order.placed";

/// The queue of order events.
#[derive(Clone)]
pub(crate) struct Events {
    queue: Queue,
    told: Arc<AtomicU64>,
    /// Removed with the last of these: this shop begins with an empty book every day.
    _folder: Arc<TempDir>,
}

/// Who takes the events out.
pub(crate) struct Teller {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Events {
    pub(crate) fn open(telemetry: &Telemetry) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let engine = Sqlite::open(folder.path().join("order-events.db"), EngineConfig::default())?;
        let queue = Queue::new("order-events", engine).telemetry(telemetry);
        Ok(Self { queue, told: Arc::default(), _folder: Arc::new(folder) })
    }

    /// Writes down that an order was placed. The customer has paid: what goes wrong here is the shop's, not theirs.
    pub(crate) async fn placed(&self, order: &str, item: &str, quantity: u32) {
        if let Err(error) = self.push(order, item, quantity).await {
            eprintln!("order {order} is not told of: {error}");
        }
    }

    async fn push(&self, order: &str, item: &str, quantity: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
        let job = Job::new(PLACED, &json!({ "order": order, "item": item, "quantity": quantity }))?;
        // The order is its event's id: told twice, it is done once.
        self.queue.push(job.id(JobId::new(order)?).priority(Priority::High)).await?;
        Ok(())
    }

    /// Has the events told, by a worker in the background.
    pub(crate) fn tell(&self) -> Teller {
        let told = Arc::clone(&self.told);
        let router = queue::Router::new().on(PLACED, move |_: Delivery<Value>| {
            told.fetch_add(1, Relaxed);
            async { Ok::<_, Infallible>(Outcome::Ack) }
        });
        let (stop, stopped) = oneshot::channel();
        let worker = Worker::new(&self.queue, router).concurrency(4);
        let task = tokio::spawn(async move {
            worker
                .run_until(async {
                    // A sender that is gone means the same.
                    let _ = stopped.await;
                })
                .await;
        });
        Teller { stop, task }
    }

    /// How many were told.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Relaxed)
    }

    /// `/events`: how the queue is.
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/events", get(show)).with_state(self.clone())
    }

    async fn is_empty(&self) -> bool {
        self.queue.contents().await.is_ok_and(|contents| contents.depths.is_empty())
    }
}

impl Teller {
    /// Tells what is left, but not for longer than this, and ends.
    pub(crate) async fn finish(self, events: &Events, patience: Duration) {
        let empty = async {
            while !events.is_empty().await {
                // The queue's own process: there is nothing here to wait on.
                sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(patience, empty).await.is_err() {
            eprintln!("There are events left to be told.");
        }
        // A worker that has ended already needs no telling.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            eprintln!("order-events ended: {error}");
        }
    }
}

async fn show(State(events): State<Events>) -> Json<Value> {
    let health = events.queue.health(HealthLimits::default()).await;
    Json(json!({ "told": events.told(), "queue": health }))
}
