//! Retries among the metrics. What they count is read when somebody looks, so that requests pay nothing for it.

use super::{Reason, RetryLayer};
use crate::metrics::Registry;

const CLIENT: &str = "buttress.retry.client";

impl RetryLayer {
    /// Reports what this layer, its clones and its budget do into a registry from now on: `buttress.retry.*`.
    pub fn report(&self, registry: &Registry) {
        let repeats = registry
            .counter("buttress.retry.repeats")
            .unit("{request}")
            .description("Requests that were sent again, by what made them fail");
        let client: &str = &self.0.name;
        let repeats = Reason::ALL.map(|reason| {
            let labels = [(CLIENT, client), ("buttress.retry.reason", reason.as_str())];
            (reason, repeats.with(labels))
        });
        let waited = registry
            .time_counter("buttress.retry.waited")
            .description("Time that was waited between attempts")
            .with([(CLIENT, client)]);
        let counter = |name, unit, description| {
            registry.counter(name).unit(unit).description(description).with([(CLIENT, client)])
        };
        let exhausted = counter(
            "buttress.retry.exhausted",
            "{request}",
            "Requests that failed after as many attempts as they may have",
        );
        let hedges =
            counter("buttress.retry.hedges", "{request}", "Requests that were sent twice because they took long");
        let won = counter("buttress.retry.hedges_won", "{request}", "Hedges that were faster than the first");
        let withdrawn = counter("buttress.retry.budget.withdrawn", "{request}", "Repeats that the budget paid for");
        let denied = counter("buttress.retry.budget.denied", "{request}", "Repeats that the budget did not pay for");
        let balance = registry
            .gauge("buttress.retry.budget.balance")
            .unit("{request}")
            .description("Repeats that the budget could pay for now")
            .with([(CLIENT, client)]);
        let layer = self.clone();
        registry.add_live_source(move |_now| {
            let stats = layer.stats();
            for (reason, counter) in &repeats {
                counter.advance_to(stats.repeats(*reason));
            }
            waited.advance_to(stats.waited);
            exhausted.advance_to(stats.exhausted);
            hedges.advance_to(stats.hedges);
            won.advance_to(stats.hedges_won);
            withdrawn.advance_to(stats.budget.withdrawn);
            denied.advance_to(stats.budget.denied);
            balance.set(stats.budget.balance);
        });
    }
}
