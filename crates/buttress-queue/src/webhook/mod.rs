//! Webhooks by the Standard Webhooks specification: signed, delivered with patience, verified on receipt.
//!
//! A [`Webhook`] is a job like any other; [`Sender`] is the processor that delivers it, one circuit for each destination;
//! [`Receiver`] is the service on the other side, which verifies and enqueues.
//!
//! ```
//! use buttress_queue::webhook::{Endpoint, Secret, Sender, Webhook};
//! use buttress_queue::{EngineConfig, Memory, Queue, Worker};
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use serde_json::json;
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any tower client of HTTP.
//! let client = service_fn(async |request: Request<Full<Bytes>>| {
//!     assert!(request.headers().contains_key("webhook-signature"));
//!     Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::default()))
//! });
//! let sender = Sender::new("webhooks", client);
//! let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! sender.endpoints().set("acme", Endpoint::new("https://hooks.example.com/in".parse()?, secret)?);
//!
//! let queue = Queue::new("webhooks", Memory::new(EngineConfig::default()));
//! queue.push(Webhook::new("acme", "payment.captured", &json!({ "order": 17 }))?.into_job()?).await?;
//! # let shutdown = std::future::ready(());
//! Worker::new(&queue, sender).run_until(shutdown).await;
//! # Ok(()) }
//! ```
//!
//! # Destinations that others name
//!
//! Whoever may name a destination may name one of your own network. The sender refuses addresses that are not public, however
//! they are written. What a name stands for is seen by the client alone, and may be another address each time: it takes a
//! resolver that knows public ones only, and follows no redirections.
//!
//! ```
//! use buttress_queue::webhook::{GuardedResolver, Sender};
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use hyper_util::client::legacy::Client;
//! use hyper_util::client::legacy::connect::HttpConnector;
//! use hyper_util::rt::TokioExecutor;
//!
//! // For `https` as well, a connector of TLS is put around this one.
//! let connector = HttpConnector::new_with_resolver(GuardedResolver);
//! let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
//! let sender = Sender::new("webhooks", client);
//! # let _ = sender;
//! ```

mod calls;
mod endpoints;
mod guard;
mod receiver;
mod sender;
mod signature;

pub use endpoints::{Endpoint, EndpointError, Endpoints};
pub use guard::{GuardedResolver, NotPublic, is_public};
pub use receiver::Receiver;
pub use sender::{Sender, Webhook};
pub use signature::{Secret, SecretError, Verified, VerifyError, sign, verify};

use crate::job::Priority;

/// How urgent an event of this type is: payments are critical, subscriptions high, everything else normal, which on Redis
/// are BullMQ's priorities 1, 2 and 5.
pub fn priority_of(kind: &str) -> Priority {
    match kind.split('.').next() {
        Some("payment" | "payments") => Priority::Critical,
        Some("subscription" | "subscriptions") => Priority::High,
        _ => Priority::Normal,
    }
}
