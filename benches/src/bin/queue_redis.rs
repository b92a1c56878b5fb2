//! The queue on Redis: jobs a second beside bare `bullmq-official`, and outages.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --no-default-features --features redis --bin queue_redis [ROUNDS]`

#[path = "queue/redis.rs"]
mod redis;

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let server = redis::Server::start();
    for round in 0..5 {
        let (pushed, processed) = redis::bare(&server.url(), round).await;
        println!("redis.bare     push {pushed:>7.0}/s  process {processed:>7.0}/s");
        let (pushed, processed) = redis::ours(&server.url(), round).await;
        println!("redis.process  push {pushed:>7.0}/s  process {processed:>7.0}/s");
    }
    drop(server);
    let outages = redis::outage(rounds).await;
    let push = outages.iter().map(|(push, _)| push).max();
    let back = outages.iter().map(|(_, back)| back).max();
    println!("redis.outage   {rounds} rounds: a push is decided within {push:?}, work goes on within {back:?}");
}
