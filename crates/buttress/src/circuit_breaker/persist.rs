//! A circuit's state on paper: to be kept over a restart, or handed to a twin.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::circuit::Circuit;
use super::core::to_millis;
use super::state::{NEVER, Phase};
use super::transition::{Reason, State};
use crate::clock;

const VERSION: u32 = 1;

/// What is written down of a circuit. Times are durations, so that neither clocks nor time zones matter.
///
/// The window is not part of it: what is closed begins with an empty one. Nor is that it only observes, which stays what
/// it is where the state is taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitState {
    version: u32,
    state: String,
    /// How much longer, in milliseconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remaining_ms: Option<u64>,
    /// How often it opened in a row: how far its waits have grown.
    #[serde(default)]
    opened: u32,
}

impl CircuitState {
    /// What the circuit did with calls; `None` if that word is not known.
    pub fn state(&self) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == self.state)
    }

    /// How much longer, where that is known.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining_ms.map(Duration::from_millis)
    }
}

impl Circuit {
    /// Its state now.
    pub fn export(&self) -> CircuitState {
        let core = self.core();
        let now = self.now();
        let status = core.settled(now);
        let lasts = match status.phase {
            Phase::Open => true,
            phase => phase.is_forced() && status.time != NEVER,
        };
        CircuitState {
            version: VERSION,
            state: status.phase.state().as_str().to_owned(),
            remaining_ms: lasts.then(|| status.time.saturating_sub(now)),
            opened: core.reopened(),
        }
    }

    /// Takes over the state of another circuit, or of this one before a restart.
    ///
    /// A wait longer than the longest of [`open_for`](super::CircuitConfig::open_for) is cut to it; half-open becomes
    /// open without a wait, since its probes are another's.
    ///
    /// # Errors
    ///
    /// [`ImportError`] when it was written by a version that is not known, or names a state that is not; nothing has
    /// changed then.
    pub fn import(&self, state: &CircuitState) -> Result<(), ImportError> {
        if state.version != VERSION {
            return Err(ImportError::Version(state.version));
        }
        let Some(known) = state.state() else { return Err(ImportError::State(Arc::from(state.state.as_str()))) };
        let (core, now) = (self.core(), self.core().millis(clock::now()));
        let longest = to_millis(core.config.open_for.max());
        let until = |remaining: u64| now.saturating_add(remaining);
        let forced = || state.remaining_ms.map_or(NEVER, until);
        core.change(now, &Reason::Imported, |status, _| {
            Some(match known {
                State::Closed => status.reset(),
                State::Open => status.open_until(until(state.remaining_ms.unwrap_or(0).min(longest))),
                State::HalfOpen => status.open_until(now),
                State::ForcedOpen => status.force(Phase::ForcedOpen, forced()),
                State::ForcedClosed => status.force(Phase::ForcedClosed, forced()),
                State::Disabled => status.force(Phase::Disabled, forced()),
            })
        });
        core.set_reopened(if known == State::Closed { 0 } else { state.opened });
        Ok(())
    }
}

/// A state that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// Written by a version that is not known.
    Version(u32),
    /// No state of a circuit.
    State(Arc<str>),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version} of a circuit's state; accepted is {VERSION}"),
            Self::State(state) => {
                write!(f, "a circuit is never {state:?}; accepted are ")?;
                for (at, state) in State::ALL.into_iter().enumerate() {
                    write!(f, "{}{state}", if at > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ImportError {}
