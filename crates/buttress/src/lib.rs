#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(any(feature = "circuit-breaker", feature = "retry"))]
pub mod backoff;
#[cfg(feature = "circuit-breaker")]
pub mod circuit_breaker;
pub mod classify;
pub mod context;
#[cfg(feature = "macros")]
pub mod function;
#[cfg(any(feature = "circuit-breaker", feature = "retry"))]
pub mod hint;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod observe;
#[cfg(feature = "propagate")]
pub mod propagate;
pub mod random;
#[cfg(any(feature = "trace", feature = "metrics"))]
pub mod redact;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "telemetry")]
pub mod settings;
#[cfg(feature = "shutdown")]
pub mod shutdown;
#[cfg(any(feature = "circuit-breaker", feature = "retry"))]
pub mod signal;
#[cfg(feature = "simulate")]
pub mod simulate;
#[cfg(feature = "stack")]
pub mod stack;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "trace")]
pub mod trace;
#[cfg(feature = "metrics")]
pub mod window;

mod clock;
mod headers;
#[cfg(any(feature = "propagate", feature = "trace"))]
pub mod rate;
#[cfg(any(feature = "trace", feature = "metrics", feature = "circuit-breaker", feature = "retry"))]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "the others use a part of it"))]
mod shard;

#[cfg(feature = "macros")]
#[doc = include_str!("../docs/observe.md")]
pub use buttress_macros::observe;
#[cfg(feature = "telemetry")]
pub use telemetry::Telemetry;
