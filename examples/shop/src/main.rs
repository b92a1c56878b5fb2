//! A shop of three services that call each other, seen by buttress.

mod args;
mod charges;
mod circuits;
mod debug;
mod events;
mod fault;
mod inventory;
mod load;
mod payments;
mod report;
mod shop;
mod storefront;
mod traces;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use args::Command;
use circuits::Heard;
use load::{Pace, Tally};
use report::Counts;
use shop::Shop;

#[tokio::main]
async fn main() -> ExitCode {
    let (run_for, seed) = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Run { run_for, seed }) => (run_for, seed),
        Err(wrong) => return misused(&wrong),
    };
    #[allow(clippy::disallowed_methods, reason = "the port is the example's own, no setting of the telemetry")]
    let port = match (run_for, args::port(std::env::var("PORT").ok().as_deref())) {
        // So that it runs anywhere, and twice at once.
        (Some(_), _) => 0,
        (None, Ok(port)) => port,
        (None, Err(wrong)) => return misused(&wrong),
    };
    let done = match open(port).await {
        Ok(shop) => match run_for {
            Some(run_for) => run(shop, run_for, seed).await,
            None => stay_open(shop, seed).await,
        },
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn misused(wrong: &str) -> ExitCode {
    eprintln!("shop: {wrong}\nSee --help.");
    ExitCode::from(2)
}

async fn open(port: u16) -> Result<Shop, Box<dyn Error>> {
    Shop::open(shop::listen(port).await?)
}

/// Gentle load until Ctrl-C.
async fn stay_open(shop: Shop, seed: u64) -> Result<(), Box<dyn Error>> {
    println!("{}", report::welcome(shop.address));
    let heard = Heard::listen(shop.signals(), Instant::now());
    let (stop, stopped) = watch::channel(false);
    let load = tokio::spawn(load::drive(shop.address, Pace::GENTLE, seed, stopped));
    // A terminal asks by ctrl-c, a supervisor by SIGTERM. Any of the three would do to wait.
    let [(_, telemetry), ..] = &shop.telemetries;
    telemetry.shutdown_on_signal()?.requested().await;
    println!("\nClosing.");
    stop.send_replace(true);
    let tally = load.await?;
    let counts = close(shop, heard, tally).await;
    println!("{}", serde_json::to_string(&counts)?);
    Ok(())
}

/// Closes the shop, and counts what there was.
async fn close(shop: Shop, heard: Heard, tally: Tally) -> Counts {
    let (traces, circuits, telemetries) = (shop.traces.clone(), shop.circuits.clone(), shop.telemetries.clone());
    let events = shop.events.clone();
    shop.close().await;
    let transitions = heard.transitions().await;
    let collected = traces.lock();
    Counts::of(tally, &collected, &telemetries, &circuits, transitions).with_events(events.told())
}

/// Busy load and changing faults for so long, then a summary.
async fn run(shop: Shop, run_for: Duration, seed: u64) -> Result<(), Box<dyn Error>> {
    println!("The shop is open on http://{} for {run_for:?}.\n", shop.address);
    let began = Instant::now();
    let heard = Heard::listen(shop.signals(), began);
    let (stop, stopped) = watch::channel(false);
    let load = tokio::spawn(load::drive(shop.address, Pace::BUSY, seed, stopped));
    load::weather(shop.faults.clone(), run_for, |service, fault| {
        println!("{:>6.1} s  {service}: {fault}", began.elapsed().as_secs_f64());
    })
    .await;
    stop.send_replace(true);
    let tally = load.await?;
    let took = began.elapsed();
    settle(&shop, tally.requests - tally.lost).await;
    let traces = shop.traces.clone();
    let counts = close(shop, heard, tally).await;
    println!("\n{}", report::text(tally, &counts, &traces.lock(), took));
    println!("{}", serde_json::to_string(&counts)?);
    Ok(())
}

/// Waits, but not for long, until the storefront has heard of everybody who has hung up: their requests may still lie in
/// its sockets, and a server that stops does not look there.
async fn settle(shop: &Shop, sent: u64) {
    // The spans' own thread delivers them every 200 ms; there is no event to wait on.
    for _ in 0..50 {
        if shop.traces.lock().outcomes.sum() >= sent {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
