//! What tokio tells of itself only with `--cfg tokio_unstable`.
#![allow(unexpected_cfgs, reason = "a switch of tokio's, not of ours")]

#[cfg(tokio_unstable)]
pub(super) use told::Unstable;
#[cfg(not(tokio_unstable))]
pub(super) use untold::Unstable;

#[cfg(tokio_unstable)]
mod told {
    use std::ops::Range;
    use std::time::Duration;

    use tokio::runtime::RuntimeMetrics;

    use super::super::watch::WORKER;
    use crate::metrics::{Buckets, Gauge, Registry, Timer};

    pub(in super::super) struct Unstable {
        blocking_threads: Gauge,
        blocking_queue_depth: Gauge,
        mean_poll_times: Vec<Gauge>,
        histograms: Vec<Own>,
    }

    /// A histogram that the runtime keeps, of all workers together.
    struct Own {
        timer: Timer,
        /// A value of each bucket, and how many there were when it was last looked at.
        buckets: Vec<(Duration, u64)>,
        count: fn(&RuntimeMetrics, usize, usize) -> u64,
    }

    impl Own {
        fn new(
            registry: &Registry,
            (name, description): (&str, &'static str),
            ranges: impl Iterator<Item = Range<Duration>>,
            count: fn(&RuntimeMetrics, usize, usize) -> u64,
        ) -> Self {
            let ranges: Vec<_> = ranges.collect();
            // The last has no upper end.
            let ended = &ranges[..ranges.len().saturating_sub(1)];
            let family = registry.timer(name).description(description);
            // Those of more buckets than a family may have go into the registry's own.
            let family = match Buckets::durations(ended.iter().map(|range| range.end)) {
                Ok(buckets) => family.buckets(buckets),
                Err(_) => family,
            };
            // Only the bucket is known: the middle of it stands for its values, so that the sum is nearly theirs.
            let middle = |range: &Range<Duration>| (range.start + range.end) / 2;
            let last = ranges.last().map(|range| range.start + Duration::from_nanos(1));
            let values = ended.iter().map(middle).chain(last);
            Self { timer: family.with(()), buckets: values.map(|value| (value, 0)).collect(), count }
        }

        fn tell(&mut self, metrics: &RuntimeMetrics) {
            for (bucket, (value, before)) in self.buckets.iter_mut().enumerate() {
                let now = (0..metrics.num_workers()).map(|worker| (self.count)(metrics, worker, bucket)).sum();
                let more = u64::saturating_sub(now, *before);
                if more > 0 {
                    self.timer.record_many(*value, more);
                    *before = now;
                }
            }
        }
    }

    /// Those that the runtime was built with.
    fn histograms(registry: &Registry, metrics: &RuntimeMetrics) -> Vec<Own> {
        let mut all = Vec::new();
        if metrics.poll_time_histogram_enabled() {
            let buckets = 0..metrics.poll_time_histogram_num_buckets();
            all.push(Own::new(
                registry,
                ("buttress.runtime.poll_time", "How long polls of tasks took, as the runtime counts it"),
                buckets.map(|bucket| metrics.poll_time_histogram_bucket_range(bucket)),
                RuntimeMetrics::poll_time_histogram_bucket_count,
            ));
        }
        #[cfg(feature = "schedule-latency")]
        if metrics.schedule_latency_histogram_enabled() {
            let buckets = 0..metrics.schedule_latency_histogram_num_buckets();
            all.push(Own::new(
                registry,
                (
                    "buttress.runtime.schedule_latency",
                    "How long tasks that were woken waited, as the runtime counts it",
                ),
                buckets.map(|bucket| metrics.schedule_latency_histogram_bucket_range(bucket)),
                RuntimeMetrics::schedule_latency_histogram_bucket_count,
            ));
        }
        all
    }

    impl Unstable {
        pub(in super::super) fn new(registry: &Registry, metrics: &RuntimeMetrics) -> Self {
            let workers = metrics.num_workers();
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
                histograms: histograms(registry, metrics),
            }
        }

        pub(in super::super) fn set(&mut self, metrics: &RuntimeMetrics) {
            self.histograms.iter_mut().for_each(|histogram| histogram.tell(metrics));
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
        pub(in super::super) fn new(_registry: &Registry, _metrics: &RuntimeMetrics) -> Self {
            Self
        }

        pub(in super::super) fn set(&mut self, _metrics: &RuntimeMetrics) {}

        pub(in super::super) fn reset(&self) {}
    }
}
