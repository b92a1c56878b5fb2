use std::sync::Arc;

use super::buckets::Buckets;

/// What the numbers of a family stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Themselves.
    Plain,
    /// Nanoseconds, told in seconds; microseconds in windows.
    Time,
}

impl Measure {
    /// A recorded number in the unit of the metric. Divided, because 5 ms times 1e-9 is not the number that 0.005 is.
    pub(super) fn in_unit(self, value: u64) -> f64 {
        match self {
            Self::Plain => value as f64,
            Self::Time => value as f64 / 1e9,
        }
    }

    pub(super) fn in_window(self, value: u64) -> u64 {
        match self {
            Self::Plain => value,
            Self::Time => value / 1000,
        }
    }

    /// A number of a window in the unit of the metric.
    pub(super) fn of_window(self, value: u64) -> f64 {
        match self {
            Self::Plain => value as f64,
            Self::Time => value as f64 / 1e6,
        }
    }

    pub(super) fn bounds(self, buckets: &Buckets) -> Arc<[f64]> {
        buckets.bounds().iter().map(|bound| self.in_unit(*bound)).collect()
    }
}
