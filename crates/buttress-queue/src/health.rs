//! How a queue is, for a health page.

use std::time::Duration;

use serde::Serialize;

use crate::engine::{Contents, EngineError};
use crate::queue::Queue;

/// What is still well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing until health is asked with them"]
pub struct HealthLimits {
    oldest: Duration,
    dead: u64,
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self { oldest: Duration::from_secs(300), dead: 0 }
    }
}

impl HealthLimits {
    /// For how long the oldest job may wait. Five minutes by default.
    pub const fn oldest(mut self, oldest: Duration) -> Self {
        self.oldest = oldest;
        self
    }

    /// How many dead letters there may be. None by default.
    pub const fn dead(mut self, dead: u64) -> Self {
        self.dead = dead;
        self
    }
}

/// How a queue is. Serialises for a health page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// `pass`, `warn` or `fail` (draft-inadarei-api-health-check).
    pub status: HealthStatus,
    /// What is wrong, in sentences; nothing when it passes.
    pub problems: Vec<String>,
    /// Jobs that wait, are delayed or are worked on.
    pub jobs: u64,
    /// For how long the oldest could have been claimed, in seconds.
    pub oldest_age: f64,
    /// Dead letters.
    pub dead: u64,
}

/// How well. Complete by nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing is wrong.
    Pass,
    /// It works, and somebody should look.
    Warn,
    /// It does not work.
    Fail,
}

impl Queue {
    /// How it is: it fails when its engine cannot be reached, and warns of jobs that wait for too long and of dead
    /// letters.
    pub async fn health(&self, limits: HealthLimits) -> Health {
        match self.contents().await {
            Ok(contents) => Health::of(&contents, limits, self.clock.now()),
            Err(error) => Health::failed(&error),
        }
    }
}

impl Health {
    fn of(contents: &Contents, limits: HealthLimits, now: u64) -> Self {
        let jobs = contents.depths.iter().map(|depth| depth.waiting + depth.delayed + depth.active).sum();
        let age = contents.depths.iter().map(|depth| depth.age(now)).max().unwrap_or_default();
        let mut problems = Vec::new();
        if age > limits.oldest {
            problems.push(format!("the oldest job has waited for {age:?}"));
        }
        if contents.dead > limits.dead {
            problems.push(format!("there are {} dead letters", contents.dead));
        }
        let status = if problems.is_empty() { HealthStatus::Pass } else { HealthStatus::Warn };
        Self { status, problems, jobs, oldest_age: age.as_secs_f64(), dead: contents.dead }
    }

    fn failed(error: &EngineError) -> Self {
        Self { status: HealthStatus::Fail, problems: vec![error.to_string()], jobs: 0, oldest_age: 0.0, dead: 0 }
    }
}
