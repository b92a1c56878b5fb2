//! What circuit breakers and retries do to a backend in trouble: ours beside those that Rust services use today.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin simulate [-- --json] [--seed N] [--scenario S1]
//! [--peers all|none|NAME]`
//!
//! Without the peers it is built with `--no-default-features --features simulate`, and is asked for with `--peers none`.
//!
//! Fails when ours misses a limit with the default seed.

#![cfg_attr(not(feature = "peers"), allow(dead_code, reason = "some of it only peers need"))]

mod ours;
#[cfg(feature = "peers")]
mod peers;
#[cfg(not(feature = "peers"))]
mod peers {
    pub fn subjects() -> [crate::subject::Subject; 0] {
        []
    }
}
mod row;
mod scenarios;
mod subject;

use std::future::Future;
use std::pin::Pin;

use row::Row;
use subject::{Clock, Subject};

const DEFAULT_SEED: u64 = 42;

/// When a job runs, so that none disturbs the wall clock of another.
#[derive(Clone, Copy, PartialEq)]
pub enum Stage {
    /// In virtual time, one after the other.
    Virtual,
    /// In wall time, mostly waiting: all at once.
    Wall,
    /// In wall time, with the processors busy, after all else.
    Busy,
}

/// A scenario with a subject.
struct Job {
    stage: Stage,
    work: Pin<Box<dyn Future<Output = Vec<Row>> + Send>>,
}

struct Asked {
    json: bool,
    seed: u64,
    scenario: Option<String>,
    peers: String,
}

fn main() -> Result<(), String> {
    let asked = Asked::parse(std::env::args().skip(1))?;
    let mut subjects = vec![subject::bare()];
    subjects.extend(ours::subjects());
    let before = subjects.len();
    subjects.extend(peers::subjects().into_iter().filter(|subject| asked.is_peer(subject.name)));
    if subjects.len() == before && asked.peers != "none" {
        return Err(format!(
            "no peer {}; there are {}",
            asked.peers,
            peers::subjects().map(|peer| peer.name).join(", ")
        ));
    }
    let jobs: Vec<Job> = subjects.into_iter().flat_map(|subject| jobs(subject, &asked)).collect();

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build();
    let mut rows = runtime.map_err(|error| error.to_string())?.block_on(run(jobs));
    // Stable: subjects stay in their order within a figure.
    rows.sort_by_key(|row| row::place(row.name));
    row::print(&rows, asked.json);
    let missed: Vec<_> = rows.iter().filter(|row| row.misses()).map(|row| row.name).collect();
    // The limits are for one seed: the numbers that they bound depend on how many requests come.
    if missed.is_empty() || asked.seed != DEFAULT_SEED {
        return Ok(());
    }
    Err(format!("limits missed: {}", missed.join(", ")))
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self { json: false, seed: DEFAULT_SEED, scenario: None, peers: "all".to_owned() };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--json" => asked.json = true,
                "--seed" => asked.seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?,
                "--scenario" => {
                    let name = value()?.to_uppercase();
                    let is_one = matches!(name.as_str(), "S1" | "S2" | "S3" | "S4" | "S5" | "S6" | "S7");
                    asked.scenario = Some(is_one.then_some(name).ok_or("--scenario takes S1 to S7")?);
                }
                "--peers" => asked.peers = value()?,
                _ => return Err(format!("{flag}? --json, --seed N, --scenario S1 to S7, --peers all|none|NAME")),
            }
        }
        Ok(asked)
    }

    fn is_scenario(&self, name: &str) -> bool {
        self.scenario.as_deref().is_none_or(|asked| asked == name)
    }

    /// `tower-resilience` is all of its rows.
    fn is_peer(&self, name: &str) -> bool {
        match self.peers.as_str() {
            "all" => true,
            "none" => false,
            asked => name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
        }
    }
}

/// All that a subject takes part in.
fn jobs(subject: Subject, asked: &Asked) -> Vec<Job> {
    let seed = asked.seed;
    let mut jobs = Vec::new();
    let (stage, busy) = match subject.clock {
        Clock::Virtual => (Stage::Virtual, Stage::Virtual),
        Clock::Wall => (Stage::Wall, Stage::Busy),
    };
    let mut add = |scenario: &str, stage: Stage, work: Pin<Box<dyn Future<Output = Vec<Row>> + Send>>| {
        if asked.is_scenario(scenario) {
            jobs.push(Job { stage, work });
        }
    };
    if subject.breaker.is_some() {
        add("S1", stage, Box::pin(scenarios::errors(subject, seed)));
        add("S1", busy, Box::pin(scenarios::after_long_health(subject, seed)));
        add("S2", stage, Box::pin(scenarios::hang_inside(subject, seed)));
        add("S2", stage, Box::pin(scenarios::hang_outside(subject, seed)));
        add("S3", stage, Box::pin(scenarios::overload(subject, seed)));
        add("S3", stage, Box::pin(scenarios::independent(subject, seed)));
        add("S5", stage, Box::pin(scenarios::herd(subject, seed)));
        add("S5", stage, Box::pin(scenarios::warming(subject, seed)));
        add("S6", busy, Box::pin(scenarios::cancellations(subject, seed)));
    }
    if subject.retry.is_some() {
        add("S4", stage, Box::pin(scenarios::brown_out(subject, seed)));
        add("S7", stage, Box::pin(scenarios::tiers(subject, seed)));
    }
    jobs
}

async fn run(jobs: Vec<Job>) -> Vec<Row> {
    let mut jobs: Vec<(usize, Job)> = jobs.into_iter().enumerate().collect();
    let mut done = Vec::new();
    for stage in [Stage::Virtual, Stage::Wall, Stage::Busy] {
        let mut running = Vec::new();
        for (number, job) in jobs.extract_if(.., |(_, job)| job.stage == stage) {
            let mut running_job = tokio::spawn(job.work);
            if stage == Stage::Virtual {
                done.push((number, (&mut running_job).await.expect("scenarios do not panic")));
            } else {
                running.push((number, running_job));
            }
        }
        for (number, job) in running {
            done.push((number, job.await.expect("scenarios do not panic")));
        }
    }
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, rows)| rows).collect()
}
