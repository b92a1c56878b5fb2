//! What a queue tells.

use std::sync::Arc;

use buttress::signal::Signal;

use crate::job::{Envelope, Reason};

pub(crate) fn dead_lettered(queue: &Arc<str>, envelope: &Envelope, reason: &Reason) -> Signal {
    Signal::JobDeadLettered {
        queue: Arc::clone(queue),
        id: envelope.id.as_str().into(),
        kind: Arc::clone(&envelope.kind),
        reason: reason.as_str().into(),
    }
}
