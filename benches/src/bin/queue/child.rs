//! Processes that work, push and are killed: this program again, with `child` for its first argument.

use std::future::{pending, ready};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use buttress_queue::{Delivery, Outcome, Queue, Worker};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tower::{BoxError, service_fn};

use crate::bed::{Bed, job, open, until_empty};
use crate::clock;

/// Jobs that a worker has at once.
pub const CONCURRENCY: usize = 16;

/// For as long a worker that is to be killed has them.
pub const LEASE: Duration = Duration::from_secs(1);

/// What a child says when there is nothing left.
const NOTHING: &str = "(nothing)";

pub struct Child {
    process: std::process::Child,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// One that does this with the queue of this name.
    pub fn start(role: &str, bed: &Bed, name: &str, number: impl ToString) -> Self {
        Self::start_with(role, bed, name, number, [])
    }

    /// The same in this environment besides.
    pub fn start_with<const N: usize>(
        role: &str,
        bed: &Bed,
        name: &str,
        number: impl ToString,
        environment: [(&str, &Path); N],
    ) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("it runs"))
            .args(["child", role, bed.engine, &bed.place(name), name, &number.to_string()])
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started again");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, output }
    }

    /// What it says, until it has said so many things or ends.
    pub fn hear(&mut self, things: usize) -> Vec<String> {
        self.output.by_ref().lines().map_while(Result::ok).take(things).collect()
    }

    /// Kills it, without warning; what it had said until then.
    pub fn kill(mut self) -> Vec<String> {
        let _ = self.process.kill();
        self.rest().1
    }

    /// Asks it to end, and waits until it has; what it had said until then.
    pub fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        self.rest()
    }

    /// Until it ends by itself.
    pub fn wait(mut self) {
        self.rest();
    }

    fn rest(&mut self) -> (ExitStatus, Vec<String>) {
        let mut rest = String::new();
        let _ = self.output.read_to_string(&mut rest);
        let status = self.process.wait().expect("it is ours");
        // The last line may be half of one.
        let whole = rest.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        (status, whole.map(str::to_owned).collect())
    }
}

pub fn say(what: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(format!("{what}\n").as_bytes());
    let _ = output.flush();
}

/// What a child does: role, engine, place and name of the queue, a number.
pub async fn run(arguments: Vec<String>) {
    let [role, engine, place, name, number] = <[String; 5]>::try_from(arguments).expect("it is told what to do");
    let queue = open(&engine, &place, &name);
    match role.as_str() {
        "work" => work(&queue).await,
        "hang" => hang(&queue).await,
        "push" => push(&queue, &number).await,
        "die" => die(&queue, number.parse().expect("it is a number")).await,
        "drain" => drain(&queue, Duration::from_millis(number.parse().expect("it is a number"))).await,
        "clock" => clock::retries(&queue, number.parse().expect("it is a number")).await,
        role => panic!("{role}?"),
    }
}

/// Works until it is killed, and says of each job that it has, before that is settled.
async fn work(queue: &Queue) {
    let service = service_fn(|delivery: Delivery| {
        say(delivery.id.as_str());
        ready(Ok::<_, BoxError>(Outcome::Ack))
    });
    Worker::new(queue, service).concurrency(CONCURRENCY).lease(LEASE).max_crashes(u32::MAX).run().await;
}

/// Takes jobs, says so, and does nothing.
async fn hang(queue: &Queue) {
    let service = service_fn(|delivery: Delivery| {
        say(delivery.id.as_str());
        pending::<Result<Outcome, BoxError>>()
    });
    Worker::new(queue, service).concurrency(CONCURRENCY).lease(LEASE).run().await;
}

/// Pushes for ever, and says the id of each push that was acknowledged.
async fn push(queue: &Queue, nth: &str) {
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (queue, nth) = (queue.clone(), nth.to_owned());
            tokio::spawn(async move {
                for at in 0.. {
                    let id = format!("{nth}-{task}-{at}");
                    queue.push(job(&*id)).await.expect("there is room");
                    say(&id);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
}

/// Dies of whatever it is given, and says so before.
async fn die(queue: &Queue, max_crashes: u32) {
    let service = service_fn(|delivery: Delivery| {
        say(delivery.id.as_str());
        if delivery.id.as_str() == "poison" {
            let _ = kill_process(rustix::process::getpid(), Signal::KILL);
        }
        ready(Ok::<_, BoxError>(Outcome::Ack))
    });
    let empty = until_empty(queue, Duration::from_secs(60));
    Worker::new(queue, service).lease(LEASE / 2).max_crashes(max_crashes).run_until(empty).await;
    say(NOTHING);
}

/// Works on jobs that take so long until it is told to end, and then ends as it should.
async fn drain(queue: &Queue, each: Duration) {
    let mut told = signal(SignalKind::terminate()).expect("it can be listened to");
    let service = service_fn(move |delivery: Delivery| async move {
        say(&format!("begun {}", delivery.id));
        sleep(each).await;
        say(&format!("ended {}", delivery.id));
        Ok::<_, BoxError>(Outcome::Ack)
    });
    let told = async { _ = told.recv().await };
    let drained = Worker::new(queue, service).concurrency(CONCURRENCY).run_until(told).await;
    say(&format!("released {}", drained.released));
}
