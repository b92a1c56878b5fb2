#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
pub mod axum;
pub mod classify;
pub mod context;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod observe;
#[cfg(feature = "propagate")]
pub mod propagate;
#[cfg(any(feature = "trace", feature = "metrics"))]
pub mod redact;
#[cfg(feature = "telemetry")]
pub mod settings;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "trace")]
pub mod trace;
#[cfg(feature = "metrics")]
pub mod window;

mod clock;
#[cfg(any(feature = "propagate", feature = "trace"))]
pub mod rate;
#[cfg(any(feature = "trace", feature = "metrics"))]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "tracing alone counts, and nothing else"))]
mod shard;

#[cfg(feature = "telemetry")]
pub use telemetry::Telemetry;
