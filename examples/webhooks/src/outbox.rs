//! How webhooks go out.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use buttress::Telemetry;
use buttress::backoff::Backoff;
use buttress_queue::webhook::{Endpoint, GuardedResolver, Secret, Sender};
use buttress_queue::{Delivery, Outcome, Queue, Worker};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{BoxError, Service, ServiceBuilder};

/// The only destination.
pub(crate) const PARTNER: &str = "partner";

/// Where the partner is: the server itself, unless `PARTNER_URL` says otherwise.
#[allow(clippy::disallowed_methods, reason = "the library's settings know nothing of it")]
pub(crate) fn partner(own: SocketAddr, secret: Secret) -> Result<Endpoint, Box<dyn Error>> {
    let url = env::var("PARTNER_URL").unwrap_or_else(|_| format!("http://{own}/webhooks"));
    Ok(Endpoint::new(url.parse()?, secret)?)
}

pub(crate) fn worker(
    outbox: &Queue,
    telemetry: &Telemetry,
    partner: Endpoint,
) -> Worker<impl Service<Delivery, Response = Outcome, Error = BoxError, Future: Send> + Clone + Send + 'static> {
    // Names are resolved to public addresses only; addresses are let through below, since this example calls itself.
    let connector = HttpConnector::new_with_resolver(GuardedResolver);
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let client = ServiceBuilder::new()
        // A span and a duration for each call, and our trace in its headers. The retries are the queue's, which outlast
        // this process, and the circuits the sender's, one for each destination.
        .layer(telemetry.watched_client("partner"))
        .service(client);
    let sender = Sender::new("webhooks", client).allow_private_addresses().timeout(Duration::from_secs(5));
    sender.endpoints().set(PARTNER, partner);
    let backoff = Backoff::exponential(Duration::from_millis(200), 2.0, Duration::from_secs(60));
    Worker::new(outbox, sender).concurrency(8).backoff(backoff.expect("it grows from 200 ms to a minute"))
}
