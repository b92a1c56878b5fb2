//! How requests have ended: counted where their duration is, summed over the series when it is read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::hosts::{Count, Hosts};
use super::{Beginning, ExchangeSeries, Interned, KnownMethod, Requests, RouteSeries, Scheme};
use crate::classify::{Ending, Outcome};
use crate::shard::{self, Shard};

/// How requests ended, and what that meant.
const ENDINGS: [Ending; 7] = [
    Ending::Complete,
    Ending::Failed,
    Ending::BodyFailed,
    Ending::DroppedBeforeHead,
    Ending::DroppedInBody,
    Ending::Upgraded,
    Ending::Panicked,
];
const OUTCOMES: [Outcome; 5] = [Outcome::Ok, Outcome::Error, Outcome::Cancelled, Outcome::Panicked, Outcome::TimedOut];

/// Of one series on one thread.
#[derive(Default)]
pub(super) struct Endings([[AtomicU64; OUTCOMES.len()]; ENDINGS.len()]);

impl Endings {
    #[inline]
    pub(super) fn count(&self, shard: Shard, ending: Ending, outcome: Outcome) {
        shard.add(self.of(ending, outcome), 1);
    }

    #[inline]
    pub(super) fn of(&self, ending: Ending, outcome: Outcome) -> &AtomicU64 {
        &self.0[ending as usize][outcome as usize]
    }
}

type Counts = [[u64; OUTCOMES.len()]; ENDINGS.len()];

/// Everything that had ended when it was read. What began is to be read after it: then nobody has ended who has not begun.
pub(in crate::metrics) struct Ended {
    by_request: Box<[[u64; Scheme::ALL.len()]; KnownMethod::MOST]>,
    /// Where hosts are told apart, by the [place](Count::place) that a count has.
    by_host: Vec<u64>,
    by_route: Vec<Counts>,
}

impl Requests {
    pub(in crate::metrics) fn ended(&self) -> Ended {
        let by_request = Box::new([[0; 3]; KnownMethod::MOST]);
        let mut ended = Ended { by_request, by_host: Vec::new(), by_route: Vec::new() };
        for (method, scheme) in each_request() {
            let words = self.ended_beyond.words(method, scheme);
            ended.by_request[method.index()][scheme as usize] = words.map(|word| word.load(Ordering::Acquire)).sum();
        }
        self.hosts_began.iter().for_each(|count| ended.add_at(count, count.ended_beyond()));
        self.exchange_series().for_each(|series| ended.add(series, &self.hosts_began));
        ended
    }

    /// Requests whose host is told, under way, where there ever was one, if so many have ended.
    pub(super) fn active_by_host(&self, ended: &Ended) -> impl Iterator<Item = (&Count, u64)> {
        // One that is newer than what has ended has none that did.
        let ended = |count: &Count| ended.by_host.get(count.place()).copied().unwrap_or_default();
        self.hosts_began.iter().filter_map(move |count| Some((count, count.under_way(ended(count))?)))
    }

    /// As [`active_by_host`](Self::active_by_host), of all others, by method and scheme.
    pub(super) fn active(&self, ended: &Ended) -> impl Iterator<Item = (KnownMethod, Scheme, u64)> {
        each_request().filter_map(|(method, scheme)| {
            let ended = ended.by_request[method.index()][scheme as usize];
            Some((method, scheme, shard::under_way(ended, self.started.words(method, scheme))?))
        })
    }
}

impl Ended {
    fn add(&mut self, series: &ExchangeSeries, hosts: &Hosts) {
        let nth = series.route.nth;
        if self.by_route.len() <= nth {
            self.by_route.resize(nth + 1, Counts::default());
        }
        let by_route = &mut self.by_route[nth];
        let mut all = 0;
        for Endings(cells) in series.endings() {
            for (count, cell) in by_route.iter_mut().flatten().zip(cells.iter().flatten()) {
                let ended = cell.load(Ordering::Acquire);
                *count += ended;
                all += ended;
            }
        }
        match series.began {
            None => {}
            Some(Beginning { method, scheme, host: Interned::NONE }) => {
                self.by_request[method.index()][scheme as usize] += all;
            }
            Some(began) => self.add_at(hosts.find(began), all),
        }
    }

    fn add_at(&mut self, count: &Count, ended: u64) {
        if self.by_host.len() <= count.place() {
            self.by_host.resize(count.place() + 1, 0);
        }
        self.by_host[count.place()] += ended;
    }

    /// Every ending that came about on a route, with how often.
    pub(in crate::metrics) fn of(&self, route: &RouteSeries) -> impl Iterator<Item = (Ending, Outcome, u64)> {
        let counts = self.by_route.get(route.nth).copied().unwrap_or_default();
        let all = ENDINGS.into_iter().flat_map(|ending| OUTCOMES.map(|outcome| (ending, outcome)));
        all.zip(counts.into_iter().flatten())
            .map(|((ending, outcome), count)| (ending, outcome, count))
            .filter(|(_, _, count)| *count > 0)
    }
}

fn each_request() -> impl Iterator<Item = (KnownMethod, Scheme)> {
    KnownMethod::all().flat_map(|method| Scheme::ALL.map(|scheme| (method, scheme)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_and_outcome_has_the_cell_of_its_own_number() {
        for (at, ending) in ENDINGS.into_iter().enumerate() {
            assert_eq!(ending as usize, at);
        }
        for (at, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
    }
}
