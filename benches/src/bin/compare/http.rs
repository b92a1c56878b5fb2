//! Servers on loopback, each on the same core with its exporter, asked in turn from another core.
//!
//! Throughput: as many requests as the server can answer, over connections that are kept, one request at a time on each. The
//! latency: at a fixed rate that leaves most of the core idle, from when a request was due.

mod collector;
mod exporter;
mod generator;
#[cfg(feature = "peers")]
mod peers;
mod server;

use std::time::Duration;

use buttress_benches::time::median;
use buttress_benches::{print, print_least};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::child::Child;
use collector::Collector;
use generator::Connections;

pub use server::serve;

const ROUNDS: usize = 31;
/// Requests of a round of throughput, and of one of latency.
const MANY: usize = 4_096;
const FEW: usize = 1_000;
/// Between requests whose latency is measured.
const EVERY: Duration = Duration::from_micros(100);

/// What is asked of all servers.
struct Load {
    name: &'static str,
    /// The flags of traces that come in turn.
    flags: &'static [&'static str],
    /// Whether spans are sent as OTLP; otherwise the exporter forgets them.
    sends: bool,
    /// The part of the bare throughput that ours has to reach.
    least: Option<f64>,
}

const TENTH: &[&str] = &["00", "00", "00", "00", "00", "00", "00", "00", "00", "01"];
const LOADS: [Load; 4] = [
    Load { name: "sampled", flags: &["01"], sends: false, least: Some(0.85) },
    Load { name: "10pct", flags: TENTH, sends: false, least: Some(0.90) },
    Load { name: "sampled.otlp", flags: &["01"], sends: true, least: None },
    Load { name: "10pct.otlp", flags: TENTH, sends: true, least: None },
];

/// A server and what was seen of it.
struct Asked {
    subject: &'static str,
    child: Child,
    connections: Connections,
    rounds: Vec<Round>,
}

/// Seconds and requests of a round, and the latency that one of a hundred exceeds.
struct Round {
    wall: f64,
    processor: f64,
    exported: f64,
    p99: f64,
}

pub fn print_ratios(json: bool) {
    let Some(cores) = Cores::of_this_process() else {
        eprintln!("one core is not enough for a server and who asks it");
        return;
    };
    pin(cores.client);
    let collector = Collector::start();
    for load in &LOADS {
        let port = if load.sends { collector.port().to_string() } else { "none".to_owned() };
        let mut servers = Vec::new();
        for (subject, _) in server::subjects() {
            servers.push(Asked::start(subject, &port, cores.server));
        }
        let requests: Vec<Vec<u8>> = load.flags.iter().map(|flags| request(flags)).collect();
        servers.iter_mut().for_each(|server| server.warm_up(&requests));
        for _ in 0..ROUNDS {
            servers.iter_mut().for_each(|server| server.round(&requests));
        }
        show(json, load, &servers);
    }
}

/// The bare one is the first.
fn show(json: bool, load: &Load, servers: &[Asked]) {
    let name = load.name;
    let (bare, stacked) = servers.split_first().expect("there is a bare one");
    for server in servers {
        let throughput = server.median(|round| MANY as f64 / round.processor);
        print(json, &format!("http.{name}.throughput"), server.subject, throughput, "requests/s of processor", None);
        let busy = server.median(|round| round.processor / round.wall);
        print(json, &format!("http.{name}.busy"), server.subject, busy, "of the core", None);
        print(json, &format!("http.{name}.p99"), server.subject, server.median(|round| round.p99) * 1e6, "us", None);
    }
    for server in stacked {
        let ratio = |of: fn(&Round) -> f64| {
            median(server.rounds.iter().zip(&bare.rounds).map(|(mine, bare)| of(mine) / of(bare)).collect())
        };
        let show = |figure: &str, value, limit| {
            print_least(json, &format!("http.{name}.{figure}"), server.subject, value, "of the bare", limit);
        };
        let limit = load.least.filter(|_| server.subject == "buttress");
        show("throughput_ratio", 1.0 / ratio(|round| round.processor), limit);
        show("wall_ratio", 1.0 / ratio(|round| round.wall), None);
        show("p99_ratio", ratio(|round| round.p99), None);
        let exported: f64 = server.rounds.iter().map(|round| round.exported).sum();
        let asked = (ROUNDS * (MANY + FEW)) as f64;
        print(json, &format!("http.{name}.exported"), server.subject, exported / asked, "spans a request", None);
    }
}

fn request(flags: &str) -> Vec<u8> {
    let trace = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
    let head = "GET /items/7?page=2 HTTP/1.1\r\nhost: shop.example:8080\r\nuser-agent: bench/1.0\r\naccept: application/json\r\n";
    format!("{head}traceparent: {trace}\r\n\r\n").into_bytes()
}

impl Asked {
    fn start(subject: &'static str, collector: &str, core: usize) -> Self {
        let mut child = Child::with(&["--http", subject, collector, &core.to_string()]);
        let port = child.told() as u16;
        Self { subject, child, connections: Connections::to(port, &request("00")), rounds: Vec::new() }
    }

    fn warm_up(&mut self, requests: &[Vec<u8>]) {
        self.connections.saturate(requests, 2 * MANY);
        self.child.ask("settle");
    }

    fn round(&mut self, requests: &[Vec<u8>]) {
        let (processor, exported) = (self.child.ask("processor"), self.child.ask("exported"));
        let wall = self.connections.saturate(requests, MANY).as_secs_f64();
        // What was put off belongs to these requests.
        self.child.ask("settle");
        let processor = self.child.ask("processor") - processor;
        let mut latencies = self.connections.latencies(requests, FEW, EVERY);
        self.child.ask("settle");
        let exported = self.child.ask("exported") - exported;
        latencies.sort();
        let p99 = latencies[FEW * 99 / 100].as_secs_f64();
        self.rounds.push(Round { wall, processor, exported, p99 });
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

/// Two cores of this process.
struct Cores {
    server: usize,
    client: usize,
}

impl Cores {
    fn of_this_process() -> Option<Self> {
        let mine = sched_getaffinity(None).expect("the kernel tells");
        let mut set = (0..CpuSet::MAX_CPU).filter(|core| mine.is_set(*core));
        Some(Self { server: set.next()?, client: set.next()? })
    }
}

/// This thread, and those that it starts from now on.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("the core is one of ours");
}
