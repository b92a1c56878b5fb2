//! A wall clock that is set by an hour while jobs wait for their next attempt.
//!
//! It is that of a process alone: what it is told the time by is loaded before the C library, and adds so many seconds.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use buttress::backoff::Backoff;
use buttress_benches::print;
use buttress_queue::{Delivery, Outcome, Queue, Worker};
use tokio::time::{Instant, sleep};
use tower::{BoxError, service_fn};

use crate::bed::{Bed, job, push_all};
use crate::child::{Child, say};

const JOBS: usize = 1_000;
const HOUR: i64 = 3_600;
/// Until the next attempt.
const WAIT: Duration = Duration::from_secs(5);
/// How much earlier an attempt may be by what times are kept in, and how much later on a busy machine.
const EARLY: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(10);

/// Where a process finds by how much its clock is set.
const OFFSET: &str = "BUTTRESS_BENCH_CLOCK";

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("BUTTRESS_BENCH_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int answer = syscall(SYS_clock_gettime, clock, time);
    if (answer == 0 && clock == CLOCK_REALTIME && offset) time->tv_sec += *offset;
    return answer;
}
"#;

pub async fn measure(json: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("clock.so");
    if !compile(folder.path(), &library) {
        eprintln!("left out what needs a clock that is set: cc makes no library here");
        return;
    }
    for bed in Bed::all() {
        for (name, jump) in [("forward", HOUR), ("back", -HOUR)] {
            let offset = folder.path().join(format!("{}-{name}", bed.engine));
            fs::write(&offset, 0_i64.to_ne_bytes()).expect("it is written");
            let environment = [("LD_PRELOAD", library.as_path()), (OFFSET, offset.as_path())];
            let said = Child::start_with("clock", &bed, name, jump, environment).hear(3);
            let [early, late, jumped] = said.as_slice() else { panic!("it says three things, and not {said:?}") };
            assert_eq!(jumped, "true", "its clock was set");
            let figure = |what: &str, jobs: &str| {
                let jobs = jobs.parse().expect("it is a number");
                print(json, &format!("clock.{what}.{name}"), bed.engine, jobs, "jobs", Some(0.0));
            };
            figure("early", early);
            figure("late", late);
        }
    }
}

fn compile(folder: &Path, library: &Path) -> bool {
    let source = folder.join("clock.c");
    fs::write(&source, SOURCE).expect("it is written");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([library, &source]).status();
    compiled.is_ok_and(|status| status.success())
}

/// What the child does: fails each job once, has its clock set meanwhile, and says how many came too early and too late.
pub async fn retries(queue: &Queue, jump: i64) {
    push_all(queue, (0..JOBS).map(|at| job(format!("job-{at}")))).await;
    let failed: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let (again, early) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (first, counted, too_early) = (failed.clone(), again.clone(), early.clone());
    let service = service_fn(move |delivery: Delivery| {
        let before = first.lock().expect("nobody panics").insert(delivery.id.to_string(), Instant::now());
        if let Some(before) = before {
            counted.fetch_add(1, Ordering::Relaxed);
            too_early.fetch_add(usize::from(before.elapsed() + EARLY < WAIT), Ordering::Relaxed);
        }
        async move {
            match before {
                Some(_) => Ok::<_, BoxError>(Outcome::Ack),
                None => Ok(Outcome::retry("the first")),
            }
        }
    });
    let mut jumped = false;
    let shutdown = async {
        while failed.lock().expect("nobody panics").len() < JOBS {
            sleep(Duration::from_millis(5)).await;
        }
        // The last of them has to be back in the queue.
        sleep(WAIT / 10).await;
        let since = Instant::now();
        let before = SystemTime::now();
        set_clock(jump);
        let (late, far) = (Duration::from_secs(HOUR as u64), Duration::from_secs(60));
        jumped = match SystemTime::now().duration_since(before) {
            Ok(forward) => jump > 0 && forward.abs_diff(late) < far,
            Err(back) => jump < 0 && back.duration().abs_diff(late) < far,
        };
        while again.load(Ordering::Relaxed) < JOBS && since.elapsed() < WAIT + LATE {
            sleep(Duration::from_millis(5)).await;
        }
    };
    Worker::new(queue, service).backoff(Backoff::constant(WAIT)).run_until(shutdown).await;
    say(&early.load(Ordering::Relaxed).to_string());
    say(&JOBS.saturating_sub(again.load(Ordering::Relaxed)).to_string());
    say(&jumped.to_string());
}

/// Sets the clock of this process by so many seconds.
fn set_clock(jump: i64) {
    let path = std::env::var_os(OFFSET).expect("it is told where");
    // Not truncated: it is mapped.
    let mut offset = OpenOptions::new().write(true).open(path).expect("it is there");
    offset.write_all(&jump.to_ne_bytes()).expect("it is written");
}
