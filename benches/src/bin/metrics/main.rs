//! What recording, reading and rendering metrics costs, beside the libraries that Rust services use today.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin metrics [-- --json] [record|window|scrape|heap]`

mod exchange;
mod heap;
mod ours;
mod peers;
mod registries;
mod rounds;
mod scrape;
mod window;
mod workload;

use buttress_benches::subject::Subject;
use buttress_benches::{Counting, allocations, count, print};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nanoseconds that a record of ours may take, with one thread and with two.
const RECORD_NANOS: f64 = 35.0;
/// Records that valgrind sees.
const COUNTED: usize = 1 << 13;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, group, name] = arguments.as_slice()
        && flag == "--count"
    {
        let subjects = group_of(group);
        let subject = subjects.iter().find(|subject| subject.name() == name).expect("the parent names a subject");
        return count::child(subject.as_ref(), COUNTED, 1);
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let asked: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|argument| *argument == part);
    if is_asked("record") {
        record(json, "record");
        record(json, "record_handle");
        layer(json);
    }
    if is_asked("window") {
        window::print_all(json);
    }
    if is_asked("scrape") {
        scrape::print_all(json);
    }
    if is_asked("heap") {
        heap::print_all(json);
    }
}

fn group_of(group: &str) -> Vec<Box<dyn Subject>> {
    let mut subjects = vec![workload::idle()];
    match group {
        "record" => {
            subjects.push(ours::route());
            subjects.push(Box::new(ours::Observer::record()));
            subjects.push(Box::new(ours::Observer::start_only()));
            subjects.push(Box::new(ours::Observer::sampled()));
            subjects.push(Box::new(ours::Observer::exchange()));
            subjects.push(ours::family());
            subjects.extend(peers::lookups());
        }
        "record_handle" => {
            subjects.push(ours::handles());
            subjects.extend(peers::handles());
        }
        _ => subjects = ours::layers().into(),
    }
    subjects
}

/// The first of a group is what is taken off the others.
fn record(json: bool, group: &str) {
    let subjects = group_of(group);
    let one = rounds::one_thread(&subjects);
    let two = rounds::two_threads(&subjects);
    let counts = subjects.iter().map(|subject| instructions(group, subject.name()));
    let counts: Vec<Option<f64>> = counts.collect();
    if counts[0].is_none() {
        eprintln!("no valgrind, no instructions");
    }
    for (at, subject) in subjects.iter().enumerate().skip(1) {
        let name = subject.name();
        let limit = |limit| (name == "buttress").then_some(limit);
        let line =
            |figure: &str, value, unit, limit| print(json, &format!("{group}.{figure}"), name, value, unit, limit);
        match one[at].zip(one[0]) {
            Some((one, idle)) => {
                line("ns", one.least - idle.least, "ns", limit(RECORD_NANOS));
                line("ns_median", one.median - idle.median, "ns", None);
                if one.settled > 0.5 {
                    line("deferred_ns", one.settled, "ns", None);
                }
            }
            None => eprintln!("{name}: the thread hardly ever had a core of its own"),
        }
        match two[at].zip(two[0]) {
            Some((two, idle)) => {
                line("ns_2threads", two.median - idle.median, "ns", limit(RECORD_NANOS));
                line("ns_2threads_least", two.least - idle.least, "ns", None);
            }
            None => eprintln!("{name}: the threads hardly ever ran at once"),
        }
        line("allocations", allocations_of(subject.as_ref()), "allocations", limit(0.0));
        if let (Some(count), Some(idle)) = (counts[at], counts[0]) {
            line("instructions", count - idle, "instructions", None);
        }
    }
}

fn instructions(group: &str, name: &str) -> Option<f64> {
    count::instructions(&["--count", group, name], COUNTED)
}

fn allocations_of(subject: &dyn Subject) -> f64 {
    const RECORDS: usize = 10_000;
    let mut counted = 0;
    subject.enter(&mut |work| {
        work(RECORDS);
        counted = allocations(|| work(RECORDS));
    });
    subject.settle();
    counted as f64 / RECORDS as f64
}

/// The whole layer over the bare service.
fn layer(json: bool) {
    let subjects = group_of("layer");
    let times = rounds::one_thread(&subjects);
    let counts: Vec<_> = subjects.iter().map(|subject| instructions("layer", subject.name())).collect();
    match times[1].zip(times[0]) {
        Some((layer, bare)) => print(json, "layer.ns", "buttress", layer.least - bare.least, "ns", None),
        None => eprintln!("layer: the thread hardly ever had a core of its own"),
    }
    let added = allocations_of(subjects[1].as_ref()) - allocations_of(subjects[0].as_ref());
    print(json, "layer.allocations", "buttress", added, "allocations", None);
    if let (Some(layer), Some(bare)) = (counts[1], counts[0]) {
        print(json, "layer.instructions", "buttress", layer - bare, "instructions", None);
    }
}
