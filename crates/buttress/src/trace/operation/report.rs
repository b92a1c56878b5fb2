//! What others are told of operations and flows, so that tracing need not know who counts.

use std::time::Duration;

use crate::classify::{ErrorType, Outcome};
use crate::trace::FlowEnd;

/// How a run ended.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "telemetry"), allow(dead_code, reason = "only who counts looks at it"))]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) error_type: Option<ErrorType>,
    pub(crate) took: Duration,
    pub(crate) is_slow: bool,
    pub(crate) met_slo: Option<bool>,
}

/// Told in the context of the operation.
pub(crate) trait Report: Send + Sync {
    fn operation_began(&self, operation: &str);
    fn operation_ended(&self, operation: &str, ended: Ended);
    fn flow_started(&self, flow: &str);
    fn flow_ended(&self, flow: &str, end: FlowEnd, failed_step: Option<&str>, took: Duration);
}
