//! Workers that are asked to end while they have much to do.

use std::collections::HashSet;
use std::time::Duration;

use buttress_benches::print;
use buttress_queue::JobId;

use crate::bed::{Bed, job, push_all};
use crate::child::{CONCURRENCY, Child};

const JOBS: usize = 5_000;
const ROUNDS: usize = 10;
/// How long a job takes.
const EACH: Duration = Duration::from_millis(100);

pub async fn measure(json: bool) {
    for bed in Bed::durable() {
        let queue = bed.queue("terminate");
        push_all(&queue, (0..JOBS).map(|at| job(format!("job-{at}")))).await;
        let (mut unfinished, mut failed) = (0, 0);
        for _ in 0..ROUNDS {
            let mut worker = Child::start("drain", &bed, "terminate", EACH.as_millis());
            let mut said = worker.hear(5 * CONCURRENCY);
            let (status, rest) = worker.terminate();
            said.extend(rest);
            let of = |what| said.iter().filter_map(move |line| line.strip_prefix(what)).collect::<HashSet<_>>();
            unfinished += of("begun ").difference(&of("ended ")).count();
            failed += usize::from(!status.success());
        }
        let (mut used, mut held) = (0, 0);
        for at in 0..JOBS {
            let id = JobId::new(format!("job-{at}")).expect("it is an id");
            let found = queue.find(&id).await.expect("it can be asked").expect("it was pushed");
            used += found.attempts + found.crashes;
            held += u32::from(found.state == buttress_queue::JobState::Active);
        }
        print(json, "sigterm.attempts_used", bed.engine, f64::from(used), "attempts", Some(0.0));
        print(json, "sigterm.unfinished", bed.engine, unfinished as f64, "jobs", Some(0.0));
        print(json, "sigterm.held", bed.engine, f64::from(held), "jobs", Some(0.0));
        print(json, "sigterm.failed", bed.engine, failed as f64, "processes", Some(0.0));
    }
}
