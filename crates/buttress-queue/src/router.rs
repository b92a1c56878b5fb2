//! A processor for each type of job.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use crate::BoxError;
use crate::job::{Delivery, Outcome};

type Processing = Pin<Box<dyn Future<Output = Result<Outcome, BoxError>> + Send>>;
type Processor = Arc<dyn Fn(Delivery) -> Processing + Send + Sync>;

/// Has each type of job processed by a function of its own. A job of an unknown type, or whose data is not what its
/// processor takes, becomes a dead letter that says so.
///
/// ```
/// use buttress_queue::{Delivery, EngineConfig, Memory, Outcome, Queue, Router, Worker};
///
/// #[derive(serde::Deserialize)]
/// struct Placed {
///     order: u64,
/// }
///
/// let router = Router::new()
///     .on("order.placed", async |placed: Delivery<Placed>| {
///         println!("order {}", placed.data.order);
///         Ok::<_, std::io::Error>(Outcome::Ack)
///     })
///     .on("order.cancelled", async |_: Delivery<u64>| Err::<Outcome, _>("not now"));
/// # let queue = Queue::new("orders", Memory::new(EngineConfig::default()));
/// let worker = Worker::new(&queue, router);
/// # let _ = worker;
/// ```
#[derive(Clone, Default)]
pub struct Router(Arc<HashMap<Arc<str>, Processor>>);

impl Router {
    /// No type is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Jobs of this type are processed so; the last one that is said for a type counts.
    #[must_use]
    pub fn on<T, F, A, O, E>(mut self, kind: impl Into<Arc<str>>, process: F) -> Self
    where
        T: DeserializeOwned,
        F: Fn(Delivery<T>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: Into<BoxError>,
    {
        let processor: Processor = Arc::new(move |delivery: Delivery| match delivery.read() {
            Ok(delivery) => {
                let processing = process(delivery);
                Box::pin(async move { processing.await.map(Into::into).map_err(Into::into) })
            }
            Err(error) => bury(format!("its data cannot be read: {error}")),
        });
        Arc::make_mut(&mut self.0).insert(kind.into(), processor);
        self
    }
}

impl tower_service::Service<Delivery> for Router {
    type Response = Outcome;
    type Error = BoxError;
    type Future = Processing;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Processing {
        match self.0.get(&delivery.kind) {
            Some(processor) => processor(delivery),
            None => bury(format!("no processor knows the type {:?}", delivery.kind)),
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&self.0.keys()).finish()
    }
}

fn bury(reason: String) -> Processing {
    Box::pin(async { Ok(Outcome::bury(reason)) })
}
