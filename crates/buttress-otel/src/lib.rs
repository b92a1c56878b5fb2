#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attempt;
mod bridge;
#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
mod connect;
mod convert;
#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
pub mod metrics;
#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
mod otlp;
mod sink;

pub use bridge::{OtelBridge, install_bridge};
#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
pub use connect::connect;
pub use convert::resource;
#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
pub use otlp::{OtlpError, otlp};
pub use sink::{ExportSink, ExportStats};
