//! Every figure that the queue has to keep, each with its limit.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin queue [-- PART] [--rounds OUTAGES] [--json]`
//!
//! What needs a Redis starts `redis-server` from `PATH`; what needs a disk that is full mounts a tmpfs, where it may.

mod bed;
mod child;
mod clock;
mod crash;
mod destinations;
mod disk;
mod order;
mod redis;
mod slots;
mod speed;
mod terminate;

/// What can be measured alone, by name.
const PARTS: [&str; 9] = ["speed", "redis", "order", "slots", "destinations", "clock", "crash", "terminate", "disk"];

struct Asked {
    json: bool,
    part: Option<String>,
    rounds: usize,
}

/// What is asked for; says what can be when it is something else.
fn asked(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { json: false, part: None, rounds: 20 };
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => asked.json = true,
            "--rounds" => {
                let rounds = arguments.next().and_then(|rounds| rounds.parse().ok());
                asked.rounds = rounds.filter(|&rounds| rounds > 0).ok_or("--rounds takes a number of outages")?;
            }
            part if PARTS.contains(&part) => asked.part = Some(argument),
            other => return Err(format!("{other:?} is no part: there are {}", PARTS.join(", "))),
        }
    }
    Ok(asked)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("child").is_some() {
        return child::run(arguments.collect()).await;
    }
    let Asked { json, part, rounds } = match asked(arguments) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2);
        }
    };
    for name in PARTS {
        if part.as_deref().is_some_and(|part| part != name) {
            continue;
        }
        match name {
            "speed" => speed::measure(json).await,
            "redis" => redis::measure(json, rounds).await,
            "order" => order::measure(json).await,
            "slots" => slots::measure(json).await,
            "destinations" => destinations::measure(json).await,
            "clock" => clock::measure(json).await,
            "crash" => crash::measure(json).await,
            "terminate" => terminate::measure(json).await,
            _ => disk::measure(json).await,
        }
    }
}
