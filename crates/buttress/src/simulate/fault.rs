//! What is wrong with a backend, and when.

use std::time::Duration;

/// What is wrong with a backend, for a part of the run.
///
/// Of several at one moment the one added last acts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    pub(super) kind: Kind,
    from: Duration,
    until: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Errors {
        after: Duration,
    },
    Hang,
    Share {
        share: f64,
        after: Duration,
    },
    Slow {
        latency: Duration,
    },
    /// Requests a second at the begin and at the end.
    Capacity {
        from: f64,
        to: f64,
    },
}

impl Fault {
    /// Every call is answered 503, after this time.
    #[must_use]
    pub const fn errors(after: Duration) -> Self {
        Self::always(Kind::Errors { after })
    }

    /// No call is ever answered.
    #[must_use]
    pub const fn hang() -> Self {
        Self::always(Kind::Hang)
    }

    /// Each call is answered 503 with this probability, after this time, however many there are.
    ///
    /// Clamped to 0 to 1; NaN is 0.
    #[must_use]
    pub const fn share(share: f64, after: Duration) -> Self {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        Self::always(Kind::Share { share, after })
    }

    /// Each call takes this long to serve: a brown-out. Those that wait for a server are served at the speed of the
    /// moment at which they get one.
    #[must_use]
    pub const fn slow(latency: Duration) -> Self {
        Self::always(Kind::Slow { latency })
    }

    /// Serves so many a second, and refuses the excess at once with 503.
    ///
    /// It is a bucket of a twentieth of a second, so that the unevenness of arrivals costs next to nothing.
    #[must_use]
    pub const fn overload(per_second: f64) -> Self {
        Self::warming(per_second, per_second)
    }

    /// As [`Fault::overload`], with a capacity that goes in a straight line from the one to the other, as of a backend
    /// that starts with cold caches.
    ///
    /// The line needs an end: without [`Fault::between`] the capacity stays what it is at first.
    #[must_use]
    pub const fn warming(from: f64, to: f64) -> Self {
        Self::always(Kind::Capacity { from, to })
    }

    /// From this moment after the start of the run until before that one; without it, all the time.
    #[must_use]
    pub const fn between(mut self, from: Duration, until: Duration) -> Self {
        self.from = from;
        self.until = until;
        self
    }

    const fn always(kind: Kind) -> Self {
        Self { kind, from: Duration::ZERO, until: Duration::MAX }
    }

    pub(super) fn is_on(&self, at: Duration) -> bool {
        self.from <= at && at < self.until
    }

    /// How far the fault has come, from 0 to 1.
    pub(super) fn progress(&self, at: Duration) -> f64 {
        let length = self.until.saturating_sub(self.from).as_secs_f64();
        (at.saturating_sub(self.from).as_secs_f64() / length).clamp(0.0, 1.0)
    }
}
