//! OpenTelemetry.
