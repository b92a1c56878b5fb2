//! The command line.

use std::time::Duration;

pub(crate) const HELP: &str = "\
Three services that call each other, seen by buttress: storefront (axum), inventory (tonic), payments (hyper).

Usage: cargo run -p shop [-- OPTIONS]

Options:
  --for DURATION  Drive load for so long (10s, 500ms, 1m), print a summary and end; the last line is JSON.
                  Without it the shop stays open under gentle load until Ctrl-C.
  --seed NUMBER   Make the load repeatable [default: 1]
  --help          Print this

Environment:
  PORT            Port of the storefront; inventory and payments take the two after it [default: 3000].
                  0 takes free ports, as --for does.
  BUTTRESS_*, OTEL_*  Settings of the telemetry, such as OTEL_TRACES_EXPORTER=console.";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    /// `None` is until Ctrl-C.
    Run {
        run_for: Option<Duration>,
        seed: u64,
    },
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut run_for = None;
    let mut seed = 1;
    while let Some(arg) = args.next() {
        let (name, attached) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let mut value = |accepted: &str| {
            attached.clone().or_else(|| args.next()).ok_or_else(|| format!("{name} wants a value: {accepted}"))
        };
        match name {
            "--help" | "-h" => return Ok(Command::Help),
            "--for" => {
                let text = value(DURATIONS)?;
                let parsed = duration(&text);
                run_for = Some(parsed.ok_or_else(|| format!("--for is \"{text}\"; accepted is {DURATIONS}"))?);
            }
            "--seed" => {
                let text = value(SEEDS)?;
                seed = text.parse().map_err(|_| format!("--seed is \"{text}\"; accepted is {SEEDS}"))?;
            }
            _ => return Err(format!("\"{arg}\" is unknown; accepted are --for DURATION, --seed NUMBER and --help")),
        }
    }
    Ok(Command::Run { run_for, seed })
}

pub(crate) const DURATIONS: &str = "a whole number with its unit, 100ms to 24h, such as 10s, 500ms or 1m";
const SEEDS: &str = "a whole number from 0 to 18446744073709551615";

/// A duration in the words of the command line and of the pages.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
    (Duration::from_millis(100)..=Duration::from_secs(24 * 3600)).contains(&duration).then_some(duration)
}

/// The storefront's port: the value of `PORT`, or 3000.
pub(crate) fn port(variable: Option<&str>) -> Result<u16, String> {
    let Some(text) = variable else { return Ok(3000) };
    let port = text.parse().ok().filter(|port| *port <= u16::MAX - 2);
    port.ok_or_else(|| format!("PORT is \"{text}\"; accepted is a number from 0 to {}", u16::MAX - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("1m"), Some(Duration::from_secs(60)));
        for wrong in
            ["", "10", "s", "-1s", "1.5s", "10 s", "10d", "0s", "25h", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn both_spellings_of_a_value_are_read() {
        let run = Ok(Command::Run { run_for: Some(Duration::from_secs(2)), seed: 7 });
        assert_eq!(parse(["--for", "2s", "--seed=7"].map(str::to_owned).into_iter()), run);
    }
}
