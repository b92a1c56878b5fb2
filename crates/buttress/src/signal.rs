//! What happens rarely and is worth telling: a circuit opened, retries were used up.
//!
//! Whoever wants to know subscribes; nobody who tells waits for a listener, and a listener that falls behind misses the
//! oldest and is told how many.
//!
//! ```
//! use buttress::signal::{Signal, Signals};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let signals = Signals::new();
//! let mut heard = signals.subscribe();
//! signals.send(Signal::RetriesExhausted { client: "payments".into(), attempts: 3 });
//! assert_eq!(heard.next().await, Some(Signal::RetriesExhausted { client: "payments".into(), attempts: 3 }));
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::Transition;

/// Signals that a listener may be behind.
const CAPACITY: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Signal {
    /// A circuit changed its state, or whether it only observes.
    #[cfg(feature = "circuit-breaker")]
    Circuit(Transition),
    /// A request failed after as many attempts as it may have.
    RetriesExhausted {
        /// Whose request it was.
        client: Arc<str>,
        /// How often it was sent.
        attempts: u32,
    },
    /// A request was not retried, because retries had used up their budget. Told once for each time of trouble: again
    /// after ten seconds in which no retry was denied.
    RetryBudgetSpent {
        /// Whose budget it is.
        client: Arc<str>,
    },
    /// A job was given up.
    JobDeadLettered {
        /// The queue it was in.
        queue: Arc<str>,
        /// Its id.
        id: Arc<str>,
        /// Its type.
        kind: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// A queue had no room for a job, or threw one away for it; told once until there is room again.
    QueueFull {
        /// Which.
        queue: Arc<str>,
    },
    /// Whether something can be reached has changed.
    Connectivity {
        /// What.
        name: Arc<str>,
        /// Whether it can be reached.
        online: bool,
    },
    /// The listener fell behind, and so many signals were lost to it.
    Missed(u64),
}

/// Where signals are told. Clones tell the same listeners.
#[derive(Clone)]
pub struct Signals(broadcast::Sender<Signal>);

impl Signals {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// Tells everybody who listens; never waits.
    pub fn send(&self, signal: Signal) {
        // Nobody listens: nothing to tell.
        let _ = self.0.send(signal);
    }

    /// Hears everything that is told from now on.
    pub fn subscribe(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("listeners", &self.0.receiver_count()).finish()
    }
}

/// Hears signals; of [`Signals::subscribe`].
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Signal>);

impl Listener {
    /// The next signal; `None` when nobody is left to tell any.
    ///
    /// Can be cancelled without a loss.
    pub async fn next(&mut self) -> Option<Signal> {
        match self.0.recv().await {
            Ok(signal) => Some(signal),
            Err(RecvError::Lagged(missed)) => Some(Signal::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exhausted(attempts: u32) -> Signal {
        Signal::RetriesExhausted { client: "payments".into(), attempts }
    }

    #[tokio::test]
    async fn everybody_who_listens_hears_everything_in_order() {
        let signals = Signals::new();
        let (mut one, mut other) = (signals.subscribe(), signals.subscribe());
        signals.clone().send(exhausted(2));
        signals.send(exhausted(3));
        for listener in [&mut one, &mut other] {
            assert_eq!(listener.next().await, Some(exhausted(2)));
            assert_eq!(listener.next().await, Some(exhausted(3)));
        }
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_how_much_was_missed() {
        let signals = Signals::new();
        let mut listener = signals.subscribe();
        for attempts in 0..CAPACITY as u32 + 5 {
            signals.send(exhausted(attempts));
        }
        assert_eq!(listener.next().await, Some(Signal::Missed(5)));
        assert_eq!(listener.next().await, Some(exhausted(5)));
    }

    #[tokio::test]
    async fn listening_ends_with_the_last_who_could_tell() {
        let signals = Signals::new();
        let mut listener = signals.subscribe();
        signals.send(exhausted(1));
        drop(signals);
        assert_eq!(listener.next().await, Some(exhausted(1)));
        assert_eq!(listener.next().await, None);
    }
}
