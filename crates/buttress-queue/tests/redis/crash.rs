//! Worker processes that are killed in the middle of their work.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use buttress_queue::engine::{Engine, Settlement};
use buttress_tests::servers;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{engine, job, now, pause};

const JOBS: usize = 10_000;
const KILLS: usize = 20;
const CONCURRENCY: usize = 16;
const URL: &str = "BUTTRESS_TEST_REDIS";

#[allow(clippy::disallowed_methods, reason = "it is how a test tells its child where to work")]
fn url() -> Option<OsString> {
    std::env::var_os(URL)
}

/// What the children are: they note each run in Redis, and then say that it is done.
#[tokio::test]
#[ignore = "it is run by the test below, in processes of its own"]
async fn works_until_it_is_killed() {
    let url = url().expect("it is told where").into_string().unwrap();
    let engine = engine(&url, "crash");
    let runs = patient(&url).await;
    let mut slots = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (engine, mut runs) = (engine.clone(), runs.clone());
        slots.spawn(async move {
            loop {
                engine.ready(now()).await;
                for claimed in engine.claim(1, Duration::from_secs(1), now()).await.unwrap_or_default() {
                    let mut note = redis::cmd("HINCRBY");
                    note.arg("runs").arg(claimed.envelope.id.as_str()).arg(1);
                    note.query_async::<i64>(&mut runs).await.unwrap();
                    let _ = engine.settle(&claimed.lease, Settlement::Done, now()).await;
                }
            }
        });
    }
    slots.join_all().await;
}

/// Half a second, which answers may take by default, is not enough for them on a busy machine.
async fn patient(url: &str) -> MultiplexedConnection {
    let patient = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&patient).await.unwrap()
}

fn child(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::works_until_it_is_killed"])
        .env(URL, url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn no_job_is_lost_when_workers_are_killed() {
    let Some(server) = servers::Redis::start().await else { return };
    let url = server.url();
    let engine = engine(&url, "crash");
    for batch in 0..JOBS / 500 {
        let jobs = (0..500).map(|at| job(&format!("{batch}-{at}"))).collect();
        engine.push(jobs, now()).await.unwrap();
    }
    let mut runs = patient(&url).await;
    let mut ran = async || redis::cmd("HLEN").arg("runs").query_async::<usize>(&mut runs).await.unwrap();
    let all = async {
        // The next one is killed whenever so much more has been done.
        for kill in 1..=KILLS {
            let mut child = child(&url);
            while ran().await < kill * JOBS / (KILLS + 2) {
                pause().await;
            }
            child.kill().await.unwrap();
        }
        let _last = child(&url);
        while !engine.contents(now()).await.is_ok_and(|contents| contents.depths.is_empty()) {
            pause().await;
        }
    };
    timeout(Duration::from_secs(300), all).await.expect("all should have been done");
    let runs: HashMap<String, usize> = redis::cmd("HGETALL").arg("runs").query_async(&mut runs).await.unwrap();
    assert_eq!(runs.len(), JOBS, "none is lost");
    let repeats = runs.values().sum::<usize>() - JOBS;
    assert!(repeats <= KILLS * CONCURRENCY, "{repeats} repeats");
}
