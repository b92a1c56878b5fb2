//! The layers of a client in the order in which they make sense: deadline, retry, circuit breaker, timeout of an attempt.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::circuit_breaker::{Rejected, preset};
//! use buttress::stack::ClientStack;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{Empty, Full};
//! use tower::{BoxError, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let transport = service_fn(async |_| Ok::<_, BoxError>(Response::new(Full::<Bytes>::from("charged"))));
//! let stack = ClientStack::new("payments").preset(preset::PAYMENT_API).deadline(Duration::from_secs(20));
//! let payments = stack.service(transport);
//!
//! let charge = || Request::put("/charges/7").body(Empty::<Bytes>::new());
//! assert_eq!(payments.clone().oneshot(charge()?).await?.status(), 200);
//!
//! stack.circuit().force_open("maintenance", None);
//! let error = payments.oneshot(charge()?).await.unwrap_err();
//! assert_eq!(&*Rejected::of(&*error).expect("a rejection").name, "payments");
//! # Ok(()) }
//! ```
//!
//! With the feature `telemetry`, `Telemetry::client` makes one whose attempts are traced and measured too, in the look
//! that the breaker has at them anyway.
//!
#![doc = include_str!("../../docs/client-order.md")]
#![doc = include_str!("../../docs/coming-from.md")]

mod client;
mod observers;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "tonic")]
mod tonic;

pub use client::{ClientService, ClientStack};
pub use observers::Observers;
#[cfg(feature = "reqwest")]
pub use reqwest::{Reqwest, ReqwestFuture};
#[cfg(feature = "tonic")]
pub use tonic::TonicChannel;
