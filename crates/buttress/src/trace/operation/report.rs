//! What others are told of operations and flows, so that tracing need not know who counts.

use std::time::Duration;

use crate::classify::{ErrorType, Outcome};
use crate::trace::FlowEnd;

/// Told in the context of the operation.
pub(crate) trait Report: Send + Sync {
    fn operation_began(&self, operation: &str);
    fn operation_ended(&self, operation: &str, outcome: Outcome, error_type: Option<ErrorType>, took: Duration);
    fn flow_started(&self, flow: &str);
    fn flow_ended(&self, flow: &str, end: FlowEnd, failed_step: Option<&str>, took: Duration);
}
