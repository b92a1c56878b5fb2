//! Each row in a process of its own, so that what one installs for the whole process is not there for the others.

use std::io::{BufRead, BufReader, Write};
use std::process::{self, Command, Stdio};

use buttress_benches::subject::Subject;
use buttress_benches::time::{alone, both, least, median};
use buttress_benches::{allocations, count};

use crate::case::Case;

/// Calls at a time: few where spans come of them, so that no queue fills up.
const FEW: usize = 512;
const MANY: usize = 1 << 13;
/// Calls of each of two threads: so short a stretch that a busy machine seldom interrupts it.
const AT_ONCE: usize = 256;
/// How often a round is tried until it counts.
const TRIES: usize = 64;
/// Calls that valgrind sees.
const COUNTED: usize = 1 << 12;
/// Spans are taken away between them, too.
const WARM_UP: usize = 512;

fn calls_at_once(case: &Case) -> usize {
    if case.records() { FEW } else { MANY }
}

/// In the sight of valgrind.
pub fn count(case: &Case) {
    let subject = (case.make)(case);
    count::child(subject.as_ref(), FEW, COUNTED / FEW);
}

/// Does what the parent asks, line by line.
pub fn serve(case: &Case) {
    let subject = (case.make)(case);
    for line in std::io::stdin().lines() {
        let answer = match line.as_deref() {
            Ok("allocations") => allocations_of(subject.as_ref()),
            Ok("one") => tried(|| alone_settled(subject.as_ref(), calls_at_once(case))),
            Ok("two") => {
                subject.settle();
                tried(|| both(subject.as_ref(), AT_ONCE, AT_ONCE))
            }
            Ok(line) => match line.strip_prefix("bytes ").and_then(|requests| requests.parse().ok()) {
                Some(requests) => subject.bytes_in_flight(requests),
                None => return,
            },
            Err(_) => return,
        };
        println!("{answer}");
    }
}

/// Not a number where no try counted.
fn tried(mut round: impl FnMut() -> Option<f64>) -> f64 {
    (0..TRIES).find_map(|_| round()).unwrap_or(f64::NAN)
}

fn alone_settled(subject: &dyn Subject, calls: usize) -> Option<f64> {
    subject.settle();
    let nanos = alone(subject, WARM_UP, calls);
    subject.settle();
    nanos
}

fn allocations_of(subject: &dyn Subject) -> f64 {
    let mut counted = 0;
    subject.enter(&mut |work| {
        for _ in 0..10 {
            work(FEW);
            subject.settle();
        }
        counted = allocations(|| work(FEW / 2));
    });
    counted as f64 / (FEW / 2) as f64
}

/// Of a call.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// `None` without valgrind.
    pub instructions: Option<f64>,
    pub allocations: f64,
}

impl Counts {
    pub fn over(&self, bare: &Self) -> Self {
        let instructions = self.instructions.zip(bare.instructions).map(|(mine, bare)| mine - bare);
        Self { instructions, allocations: self.allocations - bare.allocations }
    }
}

pub fn counts(case: &Case) -> Counts {
    let instructions = count::instructions(&["--count", case.name, case.subject], COUNTED);
    Counts { instructions, allocations: Child::of(case).ask("allocations") }
}

/// Leaves a profile for `callgrind_annotate`.
pub fn profile(case: &Case) {
    let told = count::callgrind("callgrind.out", &["--count", case.name, case.subject]);
    match told {
        Some(_) => println!("callgrind.out: {COUNTED} calls"),
        None => eprintln!("no valgrind, no profile"),
    }
}

/// A process that waits to be asked.
pub struct Child {
    process: process::Child,
    answers: BufReader<process::ChildStdout>,
    one: Vec<f64>,
    two: Vec<f64>,
}

/// Nanoseconds of a call: the least of rounds with one thread, the median with two, because there the least is the round in
/// which they met least.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub one: Option<f64>,
    pub two: Option<f64>,
}

impl Child {
    pub fn of(case: &Case) -> Self {
        Self::with(&["--serve", case.name, case.subject])
    }

    /// This program with these arguments.
    pub fn with(arguments: &[&str]) -> Self {
        let this = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(this)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts once more");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, answers, one: Vec::new(), two: Vec::new() }
    }

    pub fn ask(&mut self, what: &str) -> f64 {
        let questions = self.process.stdin.as_mut().expect("it is piped");
        writeln!(questions, "{what}").expect("the child reads");
        self.told()
    }

    /// A number that it tells by itself.
    pub fn told(&mut self) -> f64 {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the child answers");
        answer.trim().parse().expect("the child answers with a number")
    }

    /// Counts if the thread had a core of its own.
    pub fn round(&mut self) {
        let nanos = self.ask("one");
        self.one.extend((!nanos.is_nan()).then_some(nanos));
    }

    /// Counts if the threads really ran at once.
    pub fn round_of_two(&mut self) {
        let nanos = self.ask("two");
        self.two.extend((!nanos.is_nan()).then_some(nanos));
    }

    /// `None` where fewer than three rounds counted.
    pub fn figures(mut self) -> Figures {
        let two = std::mem::take(&mut self.two);
        Figures { one: (self.one.len() >= 3).then(|| least(&self.one)), two: (two.len() >= 3).then(|| median(two)) }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
