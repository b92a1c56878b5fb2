//! What became of a run.

use std::time::Duration;

use serde::Serialize;

/// So many requests a slice must have for silence of the backend to mean something.
const ENOUGH: u64 = 20;

/// Requests and what became of them.
///
/// Requests are counted where they came, calls where they reached the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Requests that came.
    pub offered: u64,
    /// Calls that reached the backend: fewer than offered behind an open circuit, more with retries.
    pub sent: u64,
    /// Requests that got an answer below 500 which is not 429.
    pub ok: u64,
    /// Requests that got another answer, an error or a body that broke.
    pub failed: u64,
    /// Time that the callers of the answered ones waited, in sum.
    pub waited: Duration,
}

impl Tally {
    /// The part of the offered requests that succeeded, 0 to 1; 1 if none came.
    pub fn goodput(&self) -> f64 {
        ratio(self.ok, self.offered)
    }

    /// Calls on the backend for each request that came; 1 if none came.
    pub fn load(&self) -> f64 {
        ratio(self.sent, self.offered)
    }

    /// Requests whose callers had no answer when the run ended.
    pub fn unanswered(&self) -> u64 {
        self.offered.saturating_sub(self.ok + self.failed)
    }

    /// How long a caller waited on the average, if there was one.
    pub fn mean_wait(&self) -> Option<Duration> {
        let answered = u32::try_from(self.ok + self.failed).ok()?;
        self.waited.checked_div(answered)
    }

    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.ok += other.ok;
        self.failed += other.failed;
        self.waited += other.waited;
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// What became of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The whole run.
    pub total: Tally,
    /// The part of it during faults: requests that came and calls that reached the backend while it was sick.
    pub sick: Tally,
    /// The run in slices of [`Report::slice`], from its start.
    pub slices: Vec<Tally>,
    /// How long a slice is.
    pub slice: Duration,
}

impl Report {
    pub(super) fn new(slice: Duration) -> Self {
        Self { slice, ..Self::default() }
    }

    /// Counts into the whole, into the slice of this moment, and as sick.
    pub(super) fn count(&mut self, at: Duration, is_sick: bool, tally: &Tally) {
        let slice = self.index(at);
        if self.slices.len() <= slice {
            self.slices.resize(slice + 1, Tally::default());
        }
        self.slices[slice].add(tally);
        self.total.add(tally);
        if is_sick {
            self.sick.add(tally);
        }
    }

    /// The slices that begin within these two moments after the start, in sum.
    pub fn between(&self, from: Duration, until: Duration) -> Tally {
        let mut sum = Tally::default();
        self.within(from, until).iter().for_each(|slice| sum.add(slice));
        sum
    }

    /// How long after this moment 95 % of the requests succeeded again, and in each slice of a second on; `None` if they
    /// never did.
    pub fn recovery(&self, since: Duration) -> Option<Duration> {
        let first = self.ceiling(since).min(self.slices.len());
        let second = self.ceiling(Duration::from_secs(1)).max(1);
        let is_well = |slice: &Tally| slice.goodput() >= 0.95;
        let mut seconds = self.slices[first..].windows(second);
        let well =
            seconds.position(|second| second.iter().all(is_well) && second.iter().any(|slice| slice.offered > 0))?;
        Some((self.slice * (first + well) as u32).saturating_sub(since))
    }

    /// How often within these moments calls ceased to reach the backend although requests came: the trips of a circuit,
    /// seen from outside.
    ///
    /// It is a slice with at least 20 requests of which none reached the backend, after one in which more than a
    /// twentieth did. Probes of an open circuit are fewer, and make no trip.
    pub fn stops(&self, from: Duration, until: Duration) -> usize {
        let mut flows = false;
        let mut stops = 0;
        for slice in self.within(from, until) {
            if flows && slice.sent == 0 && slice.offered >= ENOUGH {
                stops += 1;
                flows = false;
            }
            flows |= slice.sent * 20 > slice.offered;
        }
        stops
    }

    fn within(&self, from: Duration, until: Duration) -> &[Tally] {
        let end = self.ceiling(until).min(self.slices.len());
        &self.slices[self.ceiling(from).min(end)..end]
    }

    fn index(&self, at: Duration) -> usize {
        (at.as_nanos() / self.slice.as_nanos()) as usize
    }

    fn ceiling(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos().div_ceil(self.slice.as_nanos())).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Duration = Duration::from_millis(250);

    /// One slice for each pair of calls sent and requests that succeeded, of 100.
    fn report(slices: &[(u64, u64)]) -> Report {
        let mut report = Report::new(SLICE);
        for (index, &(sent, ok)) in slices.iter().enumerate() {
            let tally = Tally { offered: 100, sent, ok, failed: 100 - ok, ..Tally::default() };
            report.count(SLICE * index as u32, false, &tally);
        }
        report
    }

    #[test]
    fn recovery_is_when_a_whole_second_goes_well() {
        let well = (100, 100);
        let bad = (100, 10);
        let report = report(&[bad, well, well, bad, well, (100, 95), well, well, bad, bad]);
        assert_eq!(report.recovery(Duration::ZERO), Some(SLICE * 4));
        assert_eq!(report.recovery(SLICE), Some(SLICE * 3));
        assert_eq!(report.recovery(SLICE * 5), None);
        assert_eq!(report.recovery(SLICE * 1000), None);
    }

    #[test]
    fn a_stop_is_silence_after_a_flow_and_probes_are_none() {
        let flow = (100, 100);
        let silence = (0, 0);
        let probes = (3, 0);
        let stops = |slices: &[_]| report(slices).stops(Duration::ZERO, Duration::MAX);
        assert_eq!(stops(&[flow, flow]), 0);
        assert_eq!(stops(&[flow, silence, silence, probes, silence]), 1);
        assert_eq!(stops(&[flow, silence, probes, flow, probes, silence, flow]), 2);
        assert_eq!(stops(&[silence, silence, flow]), 0);
        assert_eq!(report(&[flow, silence, flow, silence]).stops(SLICE, SLICE * 3), 0);
    }

    #[test]
    fn between_takes_the_slices_that_begin_there() {
        let report = report(&[(1, 0), (2, 0), (4, 0), (8, 0)]);
        assert_eq!(report.between(SLICE, SLICE * 3).sent, 6);
        assert_eq!(report.between(SLICE / 2, SLICE * 3).sent, 6);
        assert_eq!(report.between(SLICE * 3, Duration::MAX).sent, 8);
        assert_eq!(report.between(SLICE * 3, SLICE).sent, 0);
    }

    #[test]
    fn nothing_offered_is_nothing_lost() {
        let tally = Tally::default();
        assert_eq!((tally.goodput(), tally.load(), tally.unanswered(), tally.mean_wait()), (1.0, 1.0, 0, None));
    }
}
