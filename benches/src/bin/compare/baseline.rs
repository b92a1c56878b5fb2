//! What ours took when it was last looked at, and whether that still holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::exit;

use crate::{cases, is_bare, over_bare};

/// A row may grow by this part.
const TOLERANCE: f64 = 0.05;
/// ... or by so much, where a row is next to nothing.
const SLACK: f64 = 20.0;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.json")
}

/// Figures of ours by their names.
fn measured() -> BTreeMap<String, f64> {
    let ours: Vec<_> = cases().into_iter().filter(|case| is_bare(case) || case.subject == "buttress").collect();
    let mut all = BTreeMap::new();
    over_bare(&ours, &mut |case, over| {
        let Some(instructions) = over.instructions else {
            eprintln!("the check needs valgrind");
            exit(2);
        };
        all.insert(format!("{}.instructions", case.name), instructions.round());
        all.insert(format!("{}.allocations", case.name), (over.allocations * 10.0).round() / 10.0);
    });
    all
}

/// Keeps what is measured now.
pub fn record() {
    let text = serde_json::to_string_pretty(&measured()).expect("names and numbers are valid JSON");
    std::fs::write(path(), text + "\n").expect("the baseline can be written");
}

/// Fails when something has grown.
pub fn check() {
    let text = std::fs::read_to_string(path()).expect("the baseline can be read");
    let baseline: BTreeMap<String, f64> = serde_json::from_str(&text).expect("the baseline holds names and numbers");
    let measured = measured();
    let mut failures = 0;
    for (name, now) in &measured {
        let Some(before) = baseline.get(name) else {
            println!("{name}: {now}, and the baseline does not have it");
            failures += 1;
            continue;
        };
        let slack = if name.ends_with(".allocations") { 0.0 } else { SLACK };
        let grown = *now > before * (1.0 + TOLERANCE) + slack;
        let shrunk = *now < before * (1.0 - TOLERANCE) - slack;
        let verdict = match (grown, shrunk) {
            (true, _) => "  GROWN",
            (_, true) => "  less: record a new baseline",
            _ => "",
        };
        println!("{name:<36} {before:>9} -> {now:>9}{verdict}");
        failures += usize::from(grown);
    }
    for name in baseline.keys().filter(|name| !measured.contains_key(*name)) {
        println!("{name}: in the baseline, and no longer measured");
        failures += 1;
    }
    if failures > 0 {
        println!("{failures} figures do not hold; if that is meant to be, `compare --record` and commit the baseline");
        exit(1);
    }
}
