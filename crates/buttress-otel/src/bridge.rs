//! Our current context is OpenTelemetry's, and the other way round.

use buttress::context::{self, BridgeInstalled, ContextBridge, SpanId, TraceContext, TraceFlags, TraceId};
use opentelemetry::trace::TraceContextExt;

use crate::convert;

/// Makes our current span the current one of OpenTelemetry, so that spans made by its API or by `tracing-opentelemetry`
/// become children of ours; and finds theirs, so that ours become children of theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct OtelBridge;

/// Installs the bridge of this process.
///
/// # Errors
///
/// [`BridgeInstalled`] when there is one already.
pub fn install_bridge() -> Result<(), BridgeInstalled> {
    context::install_bridge(OtelBridge)
}

impl ContextBridge for OtelBridge {
    fn enter(&self, context: &context::Context, work: &mut dyn FnMut()) {
        // A root that nobody records is no parent: what is made inside is a root of its own.
        let Some(recorded) = context.recorded() else {
            return work();
        };
        let ours = convert::span_context(recorded, context.tracestate(), false);
        let _attached = opentelemetry::Context::current().with_remote_span_context(ours).attach();
        work();
    }

    fn active(&self) -> Option<TraceContext> {
        opentelemetry::Context::map_current(|current| {
            let span = current.span();
            let theirs = span.span_context();
            Some(TraceContext {
                trace_id: TraceId::from_bytes(theirs.trace_id().to_bytes())?,
                span_id: SpanId::from_bytes(theirs.span_id().to_bytes())?,
                flags: TraceFlags::from_byte(theirs.trace_flags().to_u8()),
            })
        })
    }
}
