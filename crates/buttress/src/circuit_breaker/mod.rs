//! Circuit breaker: calls that would fail are rejected before they are made.
//!
//! A [`Circuit`] stands in front of something that is called, whatever it is. It looks at what came of the last calls;
//! when too many failed it opens, and rejects calls at once instead of letting them wait for an error. After a while it
//! lets a few pass, one at a time, and closes if they go well.
//!
//! ```
//! use buttress::circuit_breaker::{CallError, Circuit, CircuitConfig, State};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let circuit = Circuit::new("stock", CircuitConfig::default());
//!
//! // The store is down: every call fails, and takes its time for it.
//! for _ in 0..20 {
//!     let answer = circuit.call(async || Err::<u32, _>("connection refused")).await;
//!     assert_eq!(answer, Err(CallError::Failed("connection refused")));
//! }
//!
//! // Twenty are enough. The next is not made, and its caller knows when to come again.
//! assert_eq!(circuit.state(), State::Open);
//! let answer = circuit.call(async || Ok::<u32, &str>(7)).await;
//! let Err(CallError::Rejected(rejected)) = answer else { panic!("not rejected") };
//! assert!(rejected.retry_after.as_secs() >= 3);
//! # }
//! ```
//!
//! Where a call does not begin and end in one place, [`Circuit::admit`] hands out a [`Permit`], which is as much as a
//! guard: what comes of the call is reported by it, once, and a permit that is dropped reports that its call was
//! cancelled. There is no other way to report, so nothing is counted twice and nothing is forgotten.
//!
//! # In front of HTTP and gRPC
//!
//! [`CircuitBreakerLayer`] has a circuit, or [one for each key](CircuitBreakerLayer::keyed), in front of a tower service of
//! `http` requests. What a call came to is known at the end of the answer's body, gRPC's trailers included, and is the
//! same verdict that span and metrics have: [`Health`](crate::classify::Health) says whether the callee is to blame.
//!
//! ```
//! use buttress::circuit_breaker::{CircuitBreakerLayer, Error};
//! use http::{Request, Response};
//! use http_body_util::Empty;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let breaker = CircuitBreakerLayer::new("stock");
//! let client = ServiceBuilder::new()
//!     // Inside of a retry and outside of a timeout, so that it sees every attempt and what a timeout made of it.
//!     .layer(breaker.clone())
//!     .service(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Empty::<&[u8]>::new()))));
//! assert!(client.clone().oneshot(Request::new(())).await.is_ok());
//!
//! breaker.circuit().force_open("the store moves", None);
//! let Err(Error::Open(rejected)) = client.oneshot(Request::new(())).await else { panic!("not rejected") };
//! assert_eq!(&*rejected.name, "stock");
//! # }
//! ```
//!
//! Where no error may be, as in axum, [`reject_with`](CircuitBreakerLayer::reject_with) answers: 503 with `Retry-After`, or
//! UNAVAILABLE with a pushback for gRPC. [`FallbackLayer`] asks somebody else. `stack` (a feature)
//! puts breaker, retry and timeouts into the right order.
//!
//! | how a call ended | to the circuit |
//! |---|---|
//! | an answer below 400 that was read to its end; gRPC OK; an upgrade | ok, or slow |
//! | 408, 429, from 500 on; gRPC UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS; an error; a body that broke off; a panic | failed |
//! | any other status from 400 on, any other code of gRPC | ignored; a probe has found out that somebody is there |
//! | given up by its caller | [`cancellation`](CircuitConfig::cancellation) decides |
//! | rejected by another circuit farther in | nothing |
//!
//! # Seen
//!
//! `Circuit::report` and `Circuits::report` put these into a registry (feature `metrics`):
//!
//! | metric | labels besides `buttress.circuit_breaker.name` and `.key` |
//! |---|---|
//! | `buttress.circuit_breaker.state`: 0 while calls pass, 1 while they are rejected, 0.5 half-open | |
//! | `buttress.circuit_breaker.in_state`: 1 for the state it is in, 0 for each other | `buttress.circuit_breaker.state` |
//! | `buttress.circuit_breaker.time_in_state`, in seconds | |
//! | `buttress.circuit_breaker.trips`: how often it opened | `buttress.circuit_breaker.reason`, [`Reason::as_str`] |
//! | `buttress.circuit_breaker.calls` | `buttress.circuit_breaker.result` |
//! | `buttress.circuit_breaker.fallbacks`, of a [`FallbackLayer`] | no key |
//!
//! [`Circuit::watch`] and [`signal`](crate::signal) tell each transition with its reason. [`Circuit::health`] is what a health
//! page or a readiness check asks for, [`Circuit::snapshot`] everything; both serialise.
//!
//! # How it decides
//!
//! **Closed**, every call passes. The circuit opens
//! - when half of the last hundred calls failed, as far as they are no older than ten seconds, and there were at least
//!   twenty of them. Failures are looked for among the last calls and not in all of a time: after a day of health, fifty
//!   failures open it, as they do after a minute. Or, if that is asked for, when too many were slow;
//! - with fewer calls than that, when five in a row failed, over at least a second;
//! - when at least twenty calls have been under way for longer than calls take. A server that hangs is seen before the
//!   first timeout.
//!
//! A call that its caller gives up is a failure if it had taken longer than calls take ([`Cancellation`]), so that a
//! timeout is seen wherever it stands.
//!
//! **Open**, calls are rejected for five seconds, twice as long each time a probe fails, up to a minute, and as long as
//! the server asks for within these bounds.
//!
//! **Half-open**, one call at a time passes as a probe. When three in a row went well the circuit closes; when one
//! failed it opens. A probe that is not heard of within its lease has failed, counted from the end of the lease: there is
//! nothing that a lost probe could block.
//!
//! **Closed again**, a growing share of the calls passes for ten seconds, from a tenth to all of them. The window begins
//! empty. Waits start with the first again once that time is over.
//!
//! Whatever was admitted before a state does not count in it: outcomes that come late are counted as
//! [stale](CircuitCounts::stale) and decide nothing.
//!
//! With a [`Throttle`] the same window holds back a part of the calls instead, about as many as the server would fail,
//! at most 90 %, and the circuit opens at 95 % of failures. The formula only helps with servers that fail what is too
//! much for them: one that fails a fixed share of whatever it gets is better left to a circuit that opens.
//!
//! # Defaults
//!
//! | setting | default |
//! |---|---|
//! | [`window`](CircuitConfig::window) | the last 100 calls no older than 10 s |
//! | [`failure_rate`](CircuitConfig::failure_rate) | 50 % |
//! | [`minimum_calls`](CircuitConfig::minimum_calls) | 20 |
//! | [`slow_calls`](CircuitConfig::slow_calls) | off |
//! | [`consecutive_failures`](CircuitConfig::consecutive_failures) | 5 over 1 s |
//! | [`stuck_calls`](CircuitConfig::stuck_calls) | on: 20 longer than 4 times the 95th percentile, and than 250 ms |
//! | [`cancellation`](CircuitConfig::cancellation) | a failure if longer than the 95th percentile |
//! | [`open_for`](CircuitConfig::open_for) | 5 s, doubling to 60 s, 20 % more or less |
//! | [`probes`](CircuitConfig::probes) | 3, one at a time |
//! | [`probe_lease`](CircuitConfig::probe_lease) | 10 s, or twice what is slow |
//! | [`ramp`](CircuitConfig::ramp) | from 10 % over 10 s |
//! | [`throttle`](CircuitConfig::throttle) | off |
//!
//! [`preset`] has others, and those of opossum.
//!
//! # By hand
//!
//! [`force_open`](Circuit::force_open), [`force_closed`](Circuit::force_closed) and [`disable`](Circuit::disable) last
//! until [`release`](Circuit::release) or for a time, and no outcome changes them. With
//! [`observe_only`](Circuit::observe_only) the circuit decides and rejects nothing, to try settings on real traffic, as
//! long. All of them have a reason, which is told. [`export`](Circuit::export) and [`import`](Circuit::import) carry a state
//! over a restart.
//!
//! # What it costs
//!
//! While the circuit is closed and calls go well, a call reads two words that are hardly ever written and writes words of
//! its own thread only: no lock, no allocation, and no cache line that threads pass around. The words are the state, and
//! when to look for stuck calls next: a server that hangs ends no call, so it is those that begin who have to look. Both
//! are in one cache line. In one word the time would take the bits of what the state ends with, and each look would make
//! those who are just changing the state begin again. Failures and slow calls share a ring.
//! A lock is taken when the state changes; one that is about every 30 ms tried, to look for stuck calls, nobody waits for.
//! Time is told to the millisecond.
//!
//! # Sources
//!
//! Michael Nygard, *Release It!*, for the pattern; the SRE book, "Handling Overload", for the throttle; Marc Brooker,
//! "Exponential Backoff And Jitter" (AWS Architecture Blog), for the waits. The presets are those of opossum's users.
//!
//! # Layout
//!
//! | file | holds |
//! |---|---|
//! | `config` | what a circuit is told |
//! | `state` | the state machine: from one word to the next. Pure |
//! | `decide` | whether what was seen is enough. Pure |
//! | `outcomes` | totals, and the window that follows from them |
//! | `stuck` | calls that hang |
//! | `core` | the word and its surroundings: admission, reports, transitions |
//! | `permit` | [`Permit`], [`CallResult`], [`Rejected`] |
//! | `circuit` | [`Circuit`], the handle |
//! | `log` | the last transitions, and who is told of them |
//! | `observe_only` | [`ObserveOnly`]: deciding without rejecting |
//! | `snapshot` | [`CircuitSnapshot`], [`CircuitCounts`] |
//! | `health` | [`CircuitHealth`] |
//! | `persist` | [`CircuitState`] |
//! | `preset` | settings that others have found to work |
//! | `transition` | [`State`], [`Reason`], [`Transition`] |
//! | `layer`, `service`, `future`, `error` | [`CircuitBreakerLayer`] and what it makes |
//! | `probe` | what becomes of an exchange: from its end to [`CallResult`] |
//! | `choose`, `registry` | which circuit: [`Choose`], [`Circuits`] |
//! | `refuse`, `fallback` | what a caller is given instead |
//! | `report` | the metrics |

mod choose;
mod circuit;
mod config;
mod core;
mod decide;
mod error;
mod fallback;
mod future;
mod health;
mod layer;
mod log;
#[cfg(test)]
mod model;
mod observe_only;
mod outcomes;
mod permit;
mod persist;
pub mod preset;
mod probe;
mod refuse;
mod registry;
#[cfg(feature = "metrics")]
mod report;
mod service;
mod snapshot;
mod state;
mod stuck;
mod transition;

#[doc(hidden)]
pub use choose::Chosen;
pub use choose::{Choose, Keyed};
pub use circuit::{Circuit, Watch};
pub use config::{
    Cancellation, CircuitConfig, Consecutive, Ramp, Share, ShareError, SlowCalls, Throttle, Window, WindowError,
};
pub use error::Error;
pub use fallback::{Cause, Fallback, FallbackFuture, FallbackLayer};
pub use future::ResponseFuture;
pub use health::CircuitHealth;
pub use layer::CircuitBreakerLayer;
pub use observe_only::ObserveOnly;
pub use permit::{CallError, CallResult, Permit, Rejected, RejectedBecause};
pub use persist::{CircuitState, ImportError};
pub use probe::PermitProbe;
pub use refuse::{Answer, Fail, Refuse, Refused};
pub use registry::Circuits;
pub use service::CircuitBreaker;
pub use snapshot::{CircuitCounts, CircuitSnapshot, PastTransition, WindowSnapshot};
pub use transition::{Reason, State, Transition};
