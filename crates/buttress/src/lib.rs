#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
pub mod axum;
pub mod classify;
pub mod context;
pub mod observe;
#[cfg(feature = "propagate")]
pub mod propagate;
#[cfg(feature = "trace")]
pub mod redact;
#[cfg(feature = "telemetry")]
pub mod settings;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "trace")]
pub mod trace;

mod clock;
#[cfg(any(feature = "propagate", feature = "trace"))]
pub mod rate;

#[cfg(feature = "telemetry")]
pub use telemetry::Telemetry;
