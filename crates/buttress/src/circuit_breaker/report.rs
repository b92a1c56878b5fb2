//! Circuits among the metrics. What they count is read when somebody looks, so that calls pay nothing for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Chosen, Circuit, CircuitCounts, CircuitSnapshot, Circuits, FallbackLayer, Reason, State};
use crate::clock::Instant;
use crate::metrics::{Counter, Family, Gauge, Registry};

impl Circuit {
    /// Reports this circuit into a registry from now on: `buttress.circuit_breaker.*`, see the
    /// [module](crate::circuit_breaker#seen).
    pub fn report(&self, registry: &Registry) {
        let (families, circuit) = (Families::new(registry), self.clone());
        registry.add_live_source(move |now| families.put(&circuit, now));
    }
}

impl Circuits {
    /// Reports each of these circuits, also those to come, into a registry.
    pub fn report(&self, registry: &Registry) {
        let (families, circuits) = (Families::new(registry), self.clone());
        registry.add_live_source(move |now| {
            for circuit in circuits.all() {
                families.put(&circuit, now);
            }
        });
    }
}

impl<F> FallbackLayer<F> {
    /// Reports how often it is asked in the place of the service `name`: `buttress.circuit_breaker.fallbacks`.
    pub fn report(&self, registry: &Registry, name: &str) {
        let fallbacks = registry
            .counter("buttress.circuit_breaker.fallbacks")
            .unit("{call}")
            .description("Calls that a fallback was asked to answer")
            .with([(NAME, name)]);
        let used = Arc::clone(&self.used);
        registry.add_live_source(move |_now| fallbacks.advance_to(used.load(Ordering::Relaxed)));
    }
}

impl Chosen<'_> {
    #[cfg(feature = "telemetry")]
    pub(crate) fn report(self, registry: &Registry) {
        match self {
            Self::One(circuit) => circuit.report(registry),
            Self::Many(circuits) => circuits.report(registry),
        }
    }
}

struct Families {
    state: Family<Gauge>,
    in_state: Family<Gauge>,
    time_in_state: Family<Gauge>,
    trips: Family<Counter>,
    calls: Family<Counter>,
}

const NAME: &str = "buttress.circuit_breaker.name";
const KEY: &str = "buttress.circuit_breaker.key";

impl Families {
    fn new(registry: &Registry) -> Self {
        Self {
            state: registry
                .gauge("buttress.circuit_breaker.state")
                .description("0 while calls pass, 1 while they are rejected, 0.5 while a few find out"),
            in_state: registry
                .gauge("buttress.circuit_breaker.in_state")
                .description("1 for the state the circuit is in, 0 for each other"),
            time_in_state: registry
                .gauge("buttress.circuit_breaker.time_in_state")
                .unit("s")
                .description("How long the circuit has been in its state"),
            trips: registry
                .counter("buttress.circuit_breaker.trips")
                .unit("{trip}")
                .description("How often the circuit opened, by why"),
            calls: registry
                .counter("buttress.circuit_breaker.calls")
                .unit("{call}")
                .description("Calls by what came of them; stale ones came too late to count for the state"),
        }
    }

    fn put(&self, circuit: &Circuit, now: Instant) {
        let CircuitSnapshot { state, time_in_state, trips, counts, .. } = circuit.snapshot(now);
        let name: &str = circuit.name();
        // Present in all or in none, as the key of a family is.
        let key: &str = circuit.key().map_or("", |key| key);
        self.state.with([(NAME, name), (KEY, key)]).set(state.as_number());
        self.time_in_state.with([(NAME, name), (KEY, key)]).set(time_in_state.as_secs_f64());
        for each in State::ALL {
            let is_it = if each == state { 1.0 } else { 0.0 };
            let labels = [(NAME, name), (KEY, key), ("buttress.circuit_breaker.state", each.as_str())];
            self.in_state.with(labels).set(is_it);
        }
        // Those to come are there as zeros: a rate over a counter does not see that it begins with one.
        for reason in Reason::TRIPS {
            let labels = [(NAME, name), (KEY, key), ("buttress.circuit_breaker.reason", reason)];
            self.trips.with(labels).advance_to(trips.get(reason).copied().unwrap_or(0));
        }
        for (result, count) in results(&counts) {
            self.calls.with([(NAME, name), (KEY, key), ("buttress.circuit_breaker.result", result)]).advance_to(count);
        }
    }
}

fn results(counts: &CircuitCounts) -> [(&'static str, u64); 9] {
    let CircuitCounts {
        ok,
        failed,
        slow,
        ignored,
        cancelled,
        rejected_inside,
        rejected,
        would_have_rejected,
        stale,
        ..
    } = *counts;
    [
        ("ok", ok),
        ("failed", failed),
        ("slow", slow),
        ("ignored", ignored),
        ("cancelled", cancelled),
        ("rejected_inside", rejected_inside),
        ("rejected", rejected),
        ("would_have_rejected", would_have_rejected),
        ("stale", stale),
    ]
}
