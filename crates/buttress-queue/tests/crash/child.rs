//! Processes that work, push and are killed: this test program again, with one of its tests, told what to do on its input.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buttress_queue::engine::{Engine, Settlement};
use buttress_queue::{EngineError, Sqlite};

use crate::{entry, open};

/// Jobs that a worker has at once.
pub(crate) const CONCURRENCY: usize = 16;

/// For as long a worker that is to be killed has them.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// What a child says begins so; all else is of the test program.
const SAYS: &str = "> ";

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(crate) struct Child {
    process: std::process::Child,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// Works until there is nothing left, and says each thing that it does.
    pub(crate) fn worker(path: &Path, log: &Path) -> Self {
        Self::start(&["work", &LEASE.as_millis().to_string()], path, Some(log))
    }

    /// The same with a lease that is never over.
    pub(crate) fn patient_worker(path: &Path, log: &Path) -> Self {
        Self::start(&["work", "600000"], path, Some(log))
    }

    /// Takes jobs, says so, and does nothing.
    pub(crate) fn hanging(path: &Path, log: &Path) -> Self {
        Self::start(&["hang", &LEASE.as_millis().to_string()], path, Some(log))
    }

    /// Pushes for ever, and says the id of each push that was acknowledged.
    pub(crate) fn producer(path: &Path, nth: usize) -> Self {
        Self::start(&["push", &nth.to_string()], path, None)
    }

    fn start(role: &[&str; 2], path: &Path, log: Option<&Path>) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::what_a_child_does", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        let log = log.unwrap_or(path).display();
        writeln!(input, "{}\n{}\n{}\n{log}", role[0], role[1], path.display()).unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// What it says, until it has said so many things or ends.
    pub(crate) fn listen(&mut self, things: usize) -> Vec<String> {
        let lines = self.output.by_ref().lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix(SAYS).map(str::to_owned)).take(things).collect()
    }

    /// Kills it, without warning; what it had said until then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut rest = String::new();
        let _ = self.output.read_to_string(&mut rest);
        let whole = rest.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole.filter_map(|line| line.strip_prefix(SAYS).map(str::to_owned)).collect()
    }

    /// Until it has done everything.
    pub(crate) fn wait(mut self) {
        self.listen(usize::MAX);
        assert!(self.process.wait().unwrap().success());
    }
}

fn say(what: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(format!("{SAYS}{what}\n").as_bytes());
    let _ = output.flush();
}

#[tokio::test]
#[ignore = "it is what the others start"]
async fn what_a_child_does() {
    let told: Vec<String> = std::io::stdin().lock().lines().map(Result::unwrap).take(4).collect();
    let [role, number, path, log] = <[String; 4]>::try_from(told).unwrap();
    let queue = open(Path::new(&path));
    match &*role {
        "work" => work(&queue, Path::new(&log), Duration::from_millis(number.parse().unwrap())).await,
        "hang" => hang(&queue, Duration::from_millis(number.parse().unwrap())).await,
        "push" => push(&queue, &number).await,
        role => panic!("{role}?"),
    }
}

async fn work(queue: &Sqlite, log: &Path, lease: Duration) {
    let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    loop {
        let claimed = queue.claim(CONCURRENCY, lease, now()).await.unwrap();
        if claimed.is_empty() {
            if queue.contents(now()).await.unwrap().depths.is_empty() {
                return;
            }
            // What others have in hand may be done without anything becoming ready.
            let _ = tokio::time::timeout(Duration::from_millis(100), queue.ready(now())).await;
            continue;
        }
        say("claimed");
        let mut settled = tokio::task::JoinSet::new();
        for claimed in claimed {
            log.write_all(format!("{}\n", claimed.lease.id).as_bytes()).unwrap();
            say("worked");
            let queue = queue.clone();
            settled.spawn(async move {
                match queue.settle(&claimed.lease, Settlement::Done, now()).await {
                    // On a slow machine: one repeat more, which is what is counted.
                    Ok(()) | Err(EngineError::LeaseLost(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
                say("settled");
            });
        }
        settled.join_all().await;
    }
}

async fn hang(queue: &Sqlite, lease: Duration) {
    for claimed in queue.claim(CONCURRENCY, lease, now()).await.unwrap() {
        say(claimed.lease.id.as_str());
    }
    std::future::pending().await
}

async fn push(queue: &Sqlite, nth: &str) {
    let tasks = (0..8).map(|task| {
        let (queue, nth) = (queue.clone(), nth.to_owned());
        tokio::spawn(async move {
            for at in 0.. {
                let name = format!("{nth}-{task}-{at}");
                queue.push(vec![entry(&name)], now()).await.unwrap();
                say(&name);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
