//! Instructions of a call, counted by valgrind: the figure that a busy machine does not change.

use std::process::Command;

use crate::subject::Subject;

/// Makes calls in the sight of valgrind, so many at a time; in a child of [`instructions`].
pub fn child(subject: &dyn Subject, calls: usize, times: usize) {
    subject.enter(&mut |work| {
        // Once without being counted, for what is made by the first call.
        for nth in 0..=times {
            if nth > 0 {
                counted(work, calls)
            } else {
                work(calls)
            }
            subject.settle();
        }
    });
}

/// Collecting begins and ends with it, by its name.
#[inline(never)]
#[unsafe(no_mangle)]
fn counted(work: &mut dyn FnMut(usize), calls: usize) {
    work(calls);
}

/// Instructions that this program, with these arguments, spends within [`child`]'s calls; `None` without valgrind.
pub fn instructions(arguments: &[&str], calls: usize) -> Option<f64> {
    let output = callgrind("/dev/null", arguments)?;
    let told = String::from_utf8_lossy(&output);
    let (_, collected) = told.lines().find_map(|line| line.split_once("Collected :"))?;
    collected.trim().parse::<f64>().ok().map(|collected| collected / calls as f64)
}

/// What valgrind tells when it runs this program with these arguments and writes its profile there.
pub fn callgrind(profile: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let this = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=counted"])
        .arg(format!("--callgrind-out-file={profile}"))
        .arg(this)
        .args(arguments)
        .output()
        .ok()?;
    output.status.success().then_some(output.stderr)
}
