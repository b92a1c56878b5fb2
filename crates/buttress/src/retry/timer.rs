//! One sleep for whatever comes next: the end of a wait, of an attempt, of the deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::clock::Instant;

pin_project! {
    #[derive(Default)]
    pub(super) struct Timer {
        // Made when there first is something to wait for.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer {
    /// Ready at this time; never without one.
    pub(super) fn poll_until(self: Pin<&mut Self>, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else {
            return Poll::Pending;
        };
        let mut sleep = self.project().sleep;
        match sleep.as_mut().as_pin_mut() {
            None => sleep.set(Some(sleep_until(at))),
            Some(sleep) if sleep.deadline() != at => sleep.reset(at),
            Some(_) => {}
        }
        sleep.as_pin_mut().expect("just made").poll(cx)
    }
}
