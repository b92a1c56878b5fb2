//! What breaker and retry have to reach in the scenarios, beside which `benches` puts the peers.
#![cfg(all(feature = "simulate", feature = "circuit-breaker", feature = "retry"))]

use std::time::Duration;

use buttress::backoff::Backoff;
use buttress::circuit_breaker::{CircuitBreaker, CircuitBreakerLayer, CircuitConfig, Ramp, Share, Throttle, Window};
use buttress::retry::{AttemptTimeoutLayer, RetryLayer, TierLayer};
use buttress::simulate::scenario::{self, Cancellations, Scenario, after_health};
use buttress::simulate::{Report, SimulatedBackend, in_virtual_time};
use tower::timeout::TimeoutLayer;
use tower::{Layer, ServiceBuilder};

const SEEDS: [u64; 3] = [42, 1, 2];
const SECOND: Duration = Duration::from_secs(1);
const HANGS: Duration = Duration::from_millis(250);

/// What the scenarios are for: the defaults, but open for a second and closed at once.
fn config() -> CircuitConfig {
    CircuitConfig::default().open_for(Backoff::constant(SECOND)).ramp(None)
}

fn breaker(config: CircuitConfig) -> CircuitBreakerLayer {
    CircuitBreakerLayer::with_config("backend", config)
}

fn around(config: CircuitConfig) -> impl Fn(SimulatedBackend) -> CircuitBreaker<SimulatedBackend> {
    move |backend| breaker(config.clone()).layer(backend)
}

/// Runs a scenario with each seed; how its figure of this name came out.
fn figures(scenario: fn(u64) -> Scenario, name: &str, run: impl Fn(&Scenario) -> Report) -> Vec<f64> {
    let read = |seed| {
        let scenario = scenario(seed);
        let report = run(&scenario);
        let figure = scenario.figures(&report).find(|(figure, _)| *figure == name);
        figure.expect("it is one of the scenario's").1.unwrap_or(f64::INFINITY)
    };
    SEEDS.map(read).into()
}

#[track_caller]
fn at_most(limit: f64, figures: &[f64]) {
    assert!(figures.iter().all(|figure| *figure <= limit), "{figures:?}, but at most {limit}");
}

#[test]
fn an_outage_costs_a_few_dozen_calls() {
    let sick_calls = figures(scenario::errors, "sick_calls", |it| it.simulation().run(around(config())));
    at_most(75.0, &sick_calls);
}

#[test]
fn an_outage_costs_as_few_calls_after_a_long_time_of_health() {
    let calls = in_virtual_time(42, after_health(100_000, |backend| breaker(config()).layer(backend)));
    assert!(calls <= 75, "{calls}");
}

#[test]
fn a_backend_that_hangs_is_seen_with_the_timeout_inside() {
    let layers = || ServiceBuilder::new().layer(breaker(config())).layer(TimeoutLayer::new(HANGS));
    let sick_calls = figures(scenario::hang, "sick_calls", |it| it.simulation().run(|to| layers().service(to)));
    at_most(400.0, &sick_calls);
}

#[test]
fn a_backend_that_hangs_is_seen_with_the_timeout_outside() {
    let layers = || ServiceBuilder::new().layer(TimeoutLayer::new(HANGS)).layer(breaker(config()));
    let sick_calls = figures(scenario::hang, "sick_calls", |it| it.simulation().run(|to| layers().service(to)));
    at_most(450.0, &sick_calls);
}

#[test]
fn a_throttle_sends_little_more_than_a_backend_can_do() {
    let run = |it: &Scenario| it.simulation().run(around(config().throttle(Throttle { k: 1.1 })));
    at_most(0.6, &figures(scenario::overload, "load", run));
    at_most(2.5, &figures(scenario::overload, "recovery_s", run));
    let goodput = figures(scenario::overload, "goodput", run);
    assert!(goodput.iter().all(|goodput| *goodput >= 0.4), "{goodput:?}");
}

#[test]
fn a_brown_out_does_not_become_a_storm_of_retries() {
    let layers = || {
        let attempt = AttemptTimeoutLayer::new(Duration::from_millis(200));
        ServiceBuilder::new().layer(RetryLayer::new()).layer(attempt)
    };
    let run = |it: &Scenario| it.simulation().run(|to| layers().service(to));
    at_most(2.5, &figures(scenario::brown_out, "recovery_s", run));
    assert_eq!(figures(scenario::brown_out, "success_late", run), [1.0; SEEDS.len()]);
    // For the requests that the first seed brings.
    at_most(14_200.0, &figures(scenario::brown_out, "attempts", run)[..1]);
}

#[test]
fn a_herd_gets_no_further_than_the_probes() {
    at_most(3.0, &figures(scenario::herd, "herd", |it| it.simulation().run(around(config()))));
}

#[test]
fn a_backend_that_warms_up_is_not_taken_for_one_that_fails_again() {
    let gently = config().ramp(Ramp { from: Share::percent(10), over: 10 * SECOND });
    at_most(0.0, &figures(scenario::warming, "second_trips", |it| it.simulation().run(around(gently.clone()))));
}

#[test]
fn callers_who_go_away_wedge_no_circuit_and_keep_no_permit() {
    let short = Window::count(10, Duration::from_millis(100)).unwrap();
    let config = config().window(short).minimum_calls(10).open_for(Backoff::constant(Duration::from_millis(50)));
    // Longer than the lease of a probe.
    let schedules = Cancellations::new(1000, Duration::from_secs(15)).seed(42);
    let survey = in_virtual_time(42, schedules.run_async(|backend| breaker(config.clone()).layer(backend)));
    assert_eq!((survey.wedged, survey.leaked), (0, 0));
}

#[test]
fn three_tiers_do_not_multiply_their_attempts() {
    let tier = || ServiceBuilder::new().layer(TierLayer::new()).layer(RetryLayer::new());
    let layers = || tier().layer(tier()).layer(tier());
    let leaf_attempts =
        figures(scenario::leaf_down, "leaf_attempts", |it| it.simulation().run(|to| layers().service(to)));
    at_most(3.3, &leaf_attempts);
}
