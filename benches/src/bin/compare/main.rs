//! What the layers cost a request, beside the libraries that services use today and the same work written by hand.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin compare [-- --json] [--check|--record|--profile NAME SUBJECT]
//! [counts|times|growth|http]`

mod baseline;
mod case;
mod child;
mod floor;
mod forget;
mod growth;
#[cfg(feature = "http")]
mod http;
mod limits;
mod ours;
#[cfg(feature = "peers")]
mod peers;
mod requests;

use std::collections::HashMap;

use buttress_benches::{Counting, print};
use case::Case;
use child::{Child, Counts};
use requests::Kind;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds of each subject, which take turns: with one thread and with two.
const ROUNDS: [usize; 2] = [25, 25];
const ROUNDS_OF_GROWTH: [usize; 2] = [9, 0];

fn cases() -> Vec<Case> {
    let mut cases = floor::cases();
    cases.extend(ours::cases());
    #[cfg(feature = "peers")]
    cases.extend(peers::cases());
    cases
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let find = |name: &str, subject: &str| {
        let is_it = |case: &Case| case.name == name && case.subject == subject;
        let mut all = cases().into_iter().chain(growth::cases()).chain(growth::in_flight());
        all.find(is_it).expect("the name and the subject of a row")
    };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--count", name, subject] => child::count(&find(name, subject)),
        ["--serve", name, subject] => child::serve(&find(name, subject)),
        ["--profile", name, subject] => child::profile(&find(name, subject)),
        ["--check"] => baseline::check(),
        ["--record"] => baseline::record(),
        #[cfg(feature = "http")]
        ["--http", subject, collector, core] => http::serve(subject, collector, core),
        others => tables(others),
    }
}

fn tables(arguments: &[&str]) {
    let json = arguments.contains(&"--json");
    let asked: Vec<&str> = arguments.iter().copied().filter(|argument| !argument.starts_with("--")).collect();
    let is_asked = |part| asked.is_empty() || asked.contains(&part);
    if is_asked("counts") {
        counts(json, &cases());
    }
    if is_asked("times") {
        times(json, cases(), ROUNDS);
    }
    if is_asked("growth") {
        counts(json, &growth::cases());
        growth::bytes(json);
        times(json, growth::cases(), ROUNDS_OF_GROWTH);
    }
    #[cfg(feature = "http")]
    if is_asked("http") {
        http::print_ratios(json);
    }
}

fn is_bare(case: &Case) -> bool {
    case.subject == "bare"
}

fn counts(json: bool, cases: &[Case]) {
    over_bare(cases, &mut |case, over| {
        for (figure, value) in [("instructions", over.instructions), ("allocations", Some(over.allocations))] {
            let Some(value) = value else { continue };
            let limit = limits::of(case, figure);
            print(json, &format!("{}.{figure}", case.name), case.subject, value, figure, limit);
        }
    });
}

/// Shows each row what it takes over the bare service, which comes before.
fn over_bare(cases: &[Case], show: &mut dyn FnMut(&Case, Counts)) {
    let mut bare: HashMap<Kind, Counts> = HashMap::new();
    for case in cases {
        let counted = child::counts(case);
        if is_bare(case) {
            if counted.instructions.is_none() {
                eprintln!("no valgrind, no instructions");
            }
            bare.insert(case.kind, counted);
            continue;
        }
        show(case, counted.over(&bare[&case.kind]));
    }
}

fn times(json: bool, cases: Vec<Case>, [rounds, rounds_of_two]: [usize; 2]) {
    let mut children: Vec<(Case, Child)> =
        cases.into_iter().map(|case| (Child::of(&case), case)).map(|(child, case)| (case, child)).collect();
    for _ in 0..rounds {
        children.iter_mut().for_each(|(_, child)| child.round());
    }
    for _ in 0..rounds_of_two {
        children.iter_mut().for_each(|(_, child)| child.round_of_two());
    }
    let figures: Vec<_> = children.into_iter().map(|(case, child)| (child.figures(), case)).collect();
    let bare = |kind: Kind| {
        let is_it = |case: &Case| is_bare(case) && case.kind == kind;
        figures.iter().find(|(_, case)| is_it(case)).map(|(figures, _)| *figures).expect("each kind has one")
    };
    for (figures, case) in figures.iter().filter(|(_, case)| !is_bare(case)) {
        let bare = bare(case.kind);
        let Some(ns) = figures.one.zip(bare.one).map(|(one, bare)| one - bare) else {
            eprintln!("{} of {}: the thread hardly ever had a core of its own", case.name, case.subject);
            continue;
        };
        print(json, &format!("{}.ns", case.name), case.subject, ns, "ns", None);
        match figures.two.zip(bare.two) {
            Some((two, bare)) => {
                let limit = limits::of_two(case, ns);
                print(json, &format!("{}.ns_2threads", case.name), case.subject, two - bare, "ns", limit);
            }
            None if rounds_of_two == 0 => {}
            None => eprintln!("{} of {}: the threads hardly ever ran at once", case.name, case.subject),
        }
    }
}
