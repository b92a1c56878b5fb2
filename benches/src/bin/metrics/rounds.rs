//! Nanoseconds of a record, in rounds that take turns.

use buttress_benches::subject::Subject;
use buttress_benches::time::{Stretch, alone, both, least, median};

/// Records of a round: a few milliseconds, so that most rounds are not interrupted.
const RECORDS: usize = 1 << 15;
const WARM_UP: usize = 1 << 13;
const ROUNDS: usize = 25;
/// Of a round of two threads, both of which have to be left alone at the same time: less than a millisecond.
const RECORDS_OF_TWO: usize = 1 << 12;
/// Rounds that are tried for those that count.
const TRIES: usize = 400;

/// Nanoseconds of a record.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub median: f64,
    pub least: f64,
    /// Of what [`Subject::settle`] did for each record.
    pub settled: f64,
}

/// With one thread.
pub fn one_thread(subjects: &[Box<dyn Subject>]) -> Vec<Option<Figures>> {
    let mut settled = vec![Vec::new(); subjects.len()];
    let figures = in_turns(subjects, |nth, subject| {
        let nanos = alone(subject, WARM_UP, RECORDS);
        settled[nth].push(Stretch::of(|| subject.settle()).nanos(RECORDS + WARM_UP));
        nanos
    });
    let figures = figures.into_iter().zip(settled);
    figures.map(|(figures, settled)| Some(Figures { settled: median(settled), ..figures? })).collect()
}

/// With two threads that record into the same series.
pub fn two_threads(subjects: &[Box<dyn Subject>]) -> Vec<Option<Figures>> {
    in_turns(subjects, |_, subject| both(subject, WARM_UP, RECORDS_OF_TWO))
}

/// `None` when fewer than three rounds count.
fn in_turns(
    subjects: &[Box<dyn Subject>],
    mut round: impl FnMut(usize, &dyn Subject) -> Option<f64>,
) -> Vec<Option<Figures>> {
    let mut rounds = vec![Vec::new(); subjects.len()];
    for _ in 0..TRIES {
        for (nth, subject) in subjects.iter().enumerate() {
            if rounds[nth].len() < ROUNDS {
                rounds[nth].extend(round(nth, subject.as_ref()));
            }
        }
    }
    rounds.into_iter().map(|rounds| (rounds.len() >= 3).then(|| Figures::of(rounds))).collect()
}

impl Figures {
    fn of(rounds: Vec<f64>) -> Self {
        Self { least: least(&rounds), median: median(rounds), settled: 0.0 }
    }
}
