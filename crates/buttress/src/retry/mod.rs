//! Retry: requests that failed by chance are sent again, within a budget.
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! use buttress::retry::{Reason, RetryLayer};
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Empty;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let layer = RetryLayer::new().name("prices");
//! let client = ServiceBuilder::new().layer(layer.clone()).service(service_fn(async |_| {
//!     let busy = CALLS.fetch_add(1, Ordering::Relaxed) < 2;
//!     let status = if busy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
//!     Ok::<_, Infallible>(Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap())
//! }));
//!
//! let answer = client.oneshot(Request::get("/prices").body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
//! assert_eq!(answer.status(), 200);
//! assert_eq!(layer.stats().repeats(Reason::Status), 2);
//! # }
//! ```
//!
//! # What is repeated
//!
//! Requests that may be sent twice: GET, HEAD, OPTIONS, TRACE, QUERY, PUT and DELETE, whatever has an `Idempotency-Key`, and
//! what [`RetryPolicy::idempotent_when`] says. Of these a repeat follows
//!
//! - the statuses 408, 425, 429, 502, 503 and 504;
//! - a connection that could not be made, or broke before there was an answer;
//! - an attempt that took longer than its timeout;
//! - a stream that HTTP/2 refused unseen (REFUSED_STREAM, GOAWAY; needs the feature `h2`). It was no attempt: it neither
//!   counts nor takes from the budget. As many of them are allowed as attempts.
//!
//! A gRPC call is a POST, and only its author knows whether it may run twice. It is repeated after UNAVAILABLE in an answer
//! that has no messages, or in an error instead of one; after RESOURCE_EXHAUSTED if the server pushes back; and when there
//! was no connection or the stream was refused. [`RetryPolicy::grpc`] turns that off.
//!
//! Nothing is repeated once the head of a good answer has been handed out, whatever becomes of its body. What other
//! statuses and errors mean to you says [`RetryPolicy::failure`].
//!
//! What must not be sent twice passes as it is: neither the request nor the service is cloned, nothing is allocated.
//! So it is while the budget is spent. [`RetryPolicy::unprocessed_of_every_method`] is for those who would rather pay for
//! keeping every request than lose one to a connection that closes.
//!
//! # When
//!
//! After the wait of the [`Backoff`](crate::backoff::Backoff), 50 ms doubling to 1 s with full jitter; no two requests
//! wait alike. `Retry-After` and `grpc-retry-pushback-ms` ([`Hint`]) decide instead where they ask for more, plus up to a
//! tenth. Where that does not fit before the deadline, or is more than 30 s, or never, the answer is handed out at once.
//! The failed answer is let go before the wait; what is there of its body is read first, up to 16 KiB, so that its
//! connection can be used again.
//!
//! # How often
//!
//! Three attempts, as long as the [`RetryBudget`] lasts. Without a budget a second of trouble becomes a storm that does
//! not end with its cause: every failure triples the load that made it fail.
//!
//! Across tiers: the number of the attempt goes out in [`RETRY_ATTEMPT`] (and in gRPC's own
//! `grpc-previous-rpc-attempts`). A [`TierLayer`] in front of a server reads it, Envoy's `x-envoy-attempt-count` too, and
//! what was a repeat when it came is repeated only by what successes have earned. An answer that is handed out because
//! attempts or budget are exhausted is marked with [`DO_NOT_RETRY`], and nobody further up who reads it tries again: three
//! tiers of three attempts send three requests to the leaf and not twenty-seven.
//!
//! # Where it stands
//!
//! Outside of everything that concerns one attempt: circuit breaker, timeout of an attempt ([`AttemptTimeoutLayer`]),
//! tracing, metrics, injection. A span of a repeat tells `http.request.resend_count` and links to the attempt before.
//! Inside of it an error is a `Box<dyn Error + Send + Sync>`, as in tower: that is how errors of any service are looked
//! through to their sources. An error that has a [`NotRetryable`] among them is never followed by a repeat.
//!
//! Services of other requests than those of HTTP have tower's own `Retry`, with [`RetryPolicy::any_request`].
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `policy` | [`RetryPolicy`]: the decision; `tower`: for tower's own `Retry`, [`AnyRequest`] |
//! | `budget` | [`RetryBudget`] |
//! | `hint`, `deadline` | what servers and callers say about time |
//! | `tier` | attempt numbers and marks between tiers, [`TierLayer`] |
//! | `replay_body` | [`ReplayBody`] |
//! | `layer`, `service`, `attempts`, `original`, `future` | [`RetryLayer`], and a request's way through its attempts |
//! | `hedge` | [`Hedge`] |
//! | `attempt_timeout` | [`AttemptTimeoutLayer`] |
//! | `resend`, `timer`, `stats`, `error` | what spans are told, the one sleep, the numbers, the errors |

mod attempt_timeout;
mod attempts;
mod budget;
mod deadline;
mod error;
mod future;
mod hedge;
mod layer;
mod original;
mod policy;
mod replay_body;
#[cfg(feature = "metrics")]
mod report;
mod resend;
mod service;
mod stats;
mod tier;
mod timer;
mod tower;

pub use self::tower::AnyRequest;
pub use crate::hint::Hint;
pub use attempt_timeout::{AttemptTimeout, AttemptTimeoutFuture, AttemptTimeoutLayer};
pub use budget::{BudgetCounts, BudgetError, RetryBudget};
pub use error::{AttemptError, NotRetryable, TimedOut};
pub use future::ResponseFuture;
pub use hedge::Hedge;
pub use layer::RetryLayer;
pub use policy::{Answer, Because, Decision, Progress, Reason, RetryPolicy, Situation};
pub use replay_body::ReplayBody;
pub use service::Retry;
pub use stats::RetryStats;
pub use tier::{DO_NOT_RETRY, DoNotRetry, Inbound, InboundScope, RETRY_ATTEMPT, Tier, TierFuture, TierLayer};
