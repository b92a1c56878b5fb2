use std::time::Duration;

use super::{Bound, Bounds};

/// How an engine keeps jobs: the same for all engines.
#[derive(Clone, Debug)]
#[must_use = "a configuration does nothing until an engine is made with it"]
pub struct EngineConfig {
    pub(crate) bounds: Bounds,
    pub(crate) remember: Duration,
    pub(crate) ageing: Duration,
    pub(crate) keep_dead: Duration,
    pub(crate) most_dead: Bound,
}

impl Default for EngineConfig {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            bounds: Bounds::default(),
            remember: DAY,
            ageing: Duration::from_secs(60),
            keep_dead: 30 * DAY,
            most_dead: Bound { jobs: 100_000, bytes: 1 << 30 },
        }
    }
}

impl EngineConfig {
    /// How much it takes. A million jobs and 1 GiB by default, and no bounds of single priorities.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// For how long the id of a job that is done is remembered, so that a push of it is a
    /// [`Duplicate`](crate::Pushed::Duplicate). A day by default.
    pub fn remember(mut self, remember: Duration) -> Self {
        self.remember = remember;
        self
    }

    /// A job that has waited for this long counts as one priority higher, after twice as long as two; never as critical.
    /// A minute by default; [`Duration::MAX`] for never.
    pub fn ageing(mut self, ageing: Duration) -> Self {
        self.ageing = ageing;
        self
    }

    /// For how long dead letters are kept. Thirty days by default; [`Duration::MAX`] for as long as nobody discards them.
    pub fn keep_dead(mut self, keep_dead: Duration) -> Self {
        self.keep_dead = keep_dead;
        self
    }

    /// How many dead letters are kept: of more the oldest are thrown away, within seconds, by whoever works. 100,000 and 1 GiB
    /// by default; [`Bound::NONE`] for as many as there are. Redis keeps them by their age alone.
    pub fn most_dead(mut self, most_dead: Bound) -> Self {
        self.most_dead = most_dead;
        self
    }
}
