//! What is done with webhooks that came in.

use std::convert::Infallible;

use buttress_queue::{Delivery, Outcome, Queue, Router, Worker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Event {
    data: Created,
}

#[derive(Deserialize)]
struct Created {
    item: String,
}

pub(crate) fn worker(inbox: &Queue) -> Worker<Router> {
    let router = Router::new().on("order.created", async |event: Delivery<Event>| {
        println!("order.created {} item={} attempt={}", event.id, event.data.data.item, event.attempt);
        Ok::<_, Infallible>(Outcome::Ack)
    });
    // What is of another type becomes a dead letter that says so.
    Worker::new(inbox, router)
}
