//! What tokio tells of itself only with `--cfg tokio_unstable`.
#![allow(unexpected_cfgs, reason = "a switch of tokio's, not of ours")]

#[cfg(tokio_unstable)]
pub(super) use told::Unstable;
#[cfg(not(tokio_unstable))]
pub(super) use untold::Unstable;

#[cfg(tokio_unstable)]
mod told {
    use tokio::runtime::RuntimeMetrics;

    use super::super::watch::WORKER;
    use crate::metrics::{Gauge, Registry};

    pub(in super::super) struct Unstable {
        blocking_threads: Gauge,
        blocking_queue_depth: Gauge,
        mean_poll_times: Vec<Gauge>,
    }

    impl Unstable {
        pub(in super::super) fn new(registry: &Registry, workers: usize) -> Self {
            let gauge = |name: &str, unit: &'static str, description: &'static str| {
                registry.gauge(name).unit(unit).description(description)
            };
            let poll_time =
                gauge("buttress.runtime.worker.mean_poll_time", "s", "Mean time of a worker's latest polls");
            Self {
                blocking_threads: gauge("buttress.runtime.blocking_threads", "{thread}", "Threads that may block")
                    .with(()),
                blocking_queue_depth: gauge(
                    "buttress.runtime.blocking_queue_depth",
                    "{task}",
                    "Tasks that wait for a thread that may block",
                )
                .with(()),
                mean_poll_times: (0..workers).map(|worker| poll_time.with([(WORKER, worker as i64)])).collect(),
            }
        }

        pub(in super::super) fn set(&self, metrics: &RuntimeMetrics) {
            self.blocking_threads.set(metrics.num_blocking_threads() as f64);
            self.blocking_queue_depth.set(metrics.blocking_queue_depth() as f64);
            for (worker, mean) in self.mean_poll_times.iter().enumerate() {
                mean.set(metrics.worker_mean_poll_time(worker).as_secs_f64());
            }
        }

        pub(in super::super) fn reset(&self) {
            let gauges = [&self.blocking_threads, &self.blocking_queue_depth];
            gauges.into_iter().chain(&self.mean_poll_times).for_each(|gauge| gauge.set(0.0));
        }
    }
}

#[cfg(not(tokio_unstable))]
mod untold {
    use tokio::runtime::RuntimeMetrics;

    use crate::metrics::Registry;

    pub(in super::super) struct Unstable;

    impl Unstable {
        pub(in super::super) fn new(_registry: &Registry, _workers: usize) -> Self {
            Self
        }

        pub(in super::super) fn set(&self, _metrics: &RuntimeMetrics) {}

        pub(in super::super) fn reset(&self) {}
    }
}
