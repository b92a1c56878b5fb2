//! One hook for other tracing libraries, so that their spans become children of ours and ours of theirs.

use std::fmt;
use std::sync::OnceLock;

use super::{Context, SpanId, TraceContext, carrier};

static BRIDGE: OnceLock<Box<dyn ContextBridge>> = OnceLock::new();

/// Follows the current context into another tracing library.
///
/// There is one a process, set by [`install_bridge`]; without it the cost of the hook is one atomic load.
pub trait ContextBridge: Send + Sync + 'static {
    /// Runs `work`, exactly once, with `context` as the other library's current span.
    fn enter(&self, context: &Context, work: &mut dyn FnMut());

    /// The other library's current span, when it has one.
    fn active(&self) -> Option<TraceContext>;
}

/// Installs the bridge of this process.
///
/// # Errors
///
/// [`BridgeInstalled`] when there is one already; the first one stays.
pub fn install_bridge(bridge: impl ContextBridge) -> Result<(), BridgeInstalled> {
    BRIDGE.set(Box::new(bridge)).map_err(|_| BridgeInstalled)
}

#[inline]
pub(super) fn installed() -> Option<&'static dyn ContextBridge> {
    BRIDGE.get().map(|bridge| &**bridge)
}

/// The span that new work belongs under: the innermost of ours and of the bridged library's.
///
/// The bridged library's current span is the innermost whenever it has one, since each of our scopes makes ours its
/// current span first.
pub fn active() -> Option<Context> {
    let ours = carrier::current();
    let Some(theirs) = installed().and_then(ContextBridge::active) else {
        return ours;
    };
    match ours {
        Some(context) if context.is_or_hangs_under(theirs.span_id) => Some(context),
        Some(context) if context.trace_id() == theirs.trace_id => Some(context.under(theirs)),
        _ => Some(Context::from_trace(theirs).decided_elsewhere()),
    }
}

impl Context {
    /// Whether the other library's current span only follows ours.
    fn is_or_hangs_under(&self, span_id: SpanId) -> bool {
        self.span_id() == span_id || self.recorded().is_some_and(|recorded| recorded.span_id == span_id)
    }

    /// The same trace state, baggage and fields around a span that another library has started.
    fn under(mut self, theirs: TraceContext) -> Self {
        self.parent = Some(self.recorded().unwrap_or(self.trace).span_id);
        self.trace = theirs;
        self.annotations = None;
        self.decided_elsewhere()
    }

    fn decided_elsewhere(mut self) -> Self {
        self.origin.claimed = true;
        self.origin.decided = true;
        self
    }
}

/// A bridge was installed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeInstalled;

impl fmt::Display for BridgeInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a context bridge is already installed in this process; there can be one")
    }
}

impl std::error::Error for BridgeInstalled {}
