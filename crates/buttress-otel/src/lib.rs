//! OpenTelemetry.

#![forbid(unsafe_code)]
