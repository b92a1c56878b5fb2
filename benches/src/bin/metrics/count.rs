//! Instructions of a record, counted by valgrind: the figure that a busy machine does not change.

use std::process::Command;

use crate::workload::Subject;

const RECORDS: usize = 1 << 13;

/// Records in the sight of valgrind.
pub fn child(subject: &dyn Subject) {
    subject.enter(&mut |work| {
        work(RECORDS);
        counted(work);
    });
}

/// Collecting begins and ends with it, by its name.
#[inline(never)]
#[unsafe(no_mangle)]
fn counted(work: &mut dyn FnMut(usize)) {
    work(RECORDS);
}

/// Instructions of a record; `None` without valgrind.
pub fn instructions(group: &str, name: &str) -> Option<f64> {
    let this = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
            "--toggle-collect=counted",
        ])
        .arg(this)
        .args(["--count", group, name])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let (_, collected) = told.lines().find_map(|line| line.split_once("Collected :"))?;
    collected.trim().parse::<f64>().ok().map(|collected| collected / RECORDS as f64)
}
