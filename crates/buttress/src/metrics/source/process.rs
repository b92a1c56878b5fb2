//! What the process uses.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::procfs;
use super::system::System;
use crate::clock::{self, Instant};
use crate::metrics::{Counter, Family, Gauge, Registry, Source, TimeCounter, UpDownCounter};

/// Threads whose context switches are looked at: each takes a file to read.
const MOST_THREADS: usize = 512;

/// CPU, memory and I/O of the process, of its control group and of its system.
///
/// It reads `/proc` and `/sys/fs/cgroup` at each [tick](Registry::tick), never at a scrape: some fifteen small files.
/// What cannot be read has no series. On other systems than Linux that is everything but `process.uptime`, which then
/// counts from when the source was made.
///
/// | metric | labels |
/// |---|---|
/// | `process.cpu.time`, `process.cpu.utilization` (part of all processors, since the tick before) | `cpu.mode` |
/// | `process.memory.usage`, `process.memory.virtual` | |
/// | `process.disk.io` | `disk.io.direction` |
/// | `process.paging.faults` | `system.paging.fault.type` |
/// | `process.context_switches` (a thread that ends takes with it what it did since the tick before) | `process.context_switch.type` |
/// | `process.thread.count`, `process.unix.file_descriptor.count`, `process.uptime` | |
/// | `buttress.process.file_descriptor.limit` | |
/// | `system.cpu.time` | `cpu.mode` |
/// | `system.memory.usage`, `system.memory.limit`, `system.linux.memory.available` | `system.memory.state`, for usage |
/// | `system.disk.io`, of all disks | `disk.io.direction` |
/// | `system.network.io`, of all interfaces but the loopback | `network.io.direction` |
/// | `container.cpu.time`, `container.memory.usage`, of the control group | `cpu.mode`, for time |
/// | `buttress.cgroup.memory.limit`, `buttress.cgroup.cpu.limit`, where there is a limit | |
/// | `buttress.cgroup.cpu.throttled_time` | |
///
/// Control groups are those of version 2. A limit is the least of the group's and of those above it.
///
/// ```
/// use buttress::metrics::Registry;
/// use buttress::metrics::source::ProcessSource;
///
/// let registry = Registry::new();
/// registry.add_source(ProcessSource::new(&registry));
/// registry.tick();
/// assert!(registry.snapshot().families.iter().any(|family| &*family.name == "process.uptime"));
/// ```
pub struct ProcessSource {
    instruments: Instruments,
    threads: HashMap<u64, Switches>,
    cpu_before: Option<(Instant, [Duration; 2])>,
    created: Instant,
    system: System,
    cgroup: Cgroup,
}

/// Families and not series, so that what cannot be read has no series at all.
struct Instruments {
    cpu_time: Family<TimeCounter>,
    cpu_utilization: Family<Gauge>,
    memory: Family<UpDownCounter>,
    virtual_memory: Family<UpDownCounter>,
    disk: Family<Counter>,
    faults: Family<Counter>,
    switches: Family<Counter>,
    threads: Family<UpDownCounter>,
    descriptors: Family<UpDownCounter>,
    descriptor_limit: Family<UpDownCounter>,
    uptime: Family<Gauge>,
}

/// Context switches of one thread so far.
#[derive(Clone, Copy, Default)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

impl ProcessSource {
    /// Of this process, for this registry.
    pub fn new(registry: &Registry) -> Self {
        Self {
            instruments: Instruments::new(registry),
            threads: HashMap::new(),
            cpu_before: None,
            created: clock::now(),
            system: System::new(registry),
            cgroup: Cgroup::new(registry),
        }
    }

    fn tick_stat(&mut self, now: Instant) {
        let Some(stat) = read("/proc/self/stat", procfs::stat) else {
            self.instruments.uptime.with(()).set(now.saturating_duration_since(self.created).as_secs_f64());
            return;
        };
        self.tick_cpu([stat.user, stat.system], now);
        self.instruments.faults.with([("system.paging.fault.type", "minor")]).advance_to(stat.minor_faults);
        self.instruments.faults.with([("system.paging.fault.type", "major")]).advance_to(stat.major_faults);
        if let Some(system) = read("/proc/uptime", procfs::uptime) {
            self.instruments.uptime.with(()).set(system.saturating_sub(stat.started).as_secs_f64());
        }
    }

    fn tick_cpu(&mut self, cpu: [Duration; 2], now: Instant) {
        for (mode, time) in ["user", "system"].into_iter().zip(cpu) {
            self.instruments.cpu_time.with([("cpu.mode", mode)]).advance_to(time);
        }
        let Some((then, before)) = self.cpu_before.replace((now, cpu)) else {
            return;
        };
        let processors = std::thread::available_parallelism().map_or(1, |processors| processors.get());
        let whole = now.saturating_duration_since(then).as_secs_f64() * processors as f64;
        for (mode, (time, before)) in ["user", "system"].into_iter().zip(cpu.into_iter().zip(before)) {
            if whole > 0.0 {
                let part = time.saturating_sub(before).as_secs_f64() / whole;
                self.instruments.cpu_utilization.with([("cpu.mode", mode)]).set(part);
            }
        }
    }

    fn tick_status(&self) {
        // In place of `/proc/self/statm`, whose unit is the size of a page.
        let Some(status) = read("/proc/self/status", |text| Some(text.to_owned())) else {
            return;
        };
        level(&self.instruments.memory, procfs::named(&status, "VmRSS"));
        level(&self.instruments.virtual_memory, procfs::named(&status, "VmSize"));
        level(&self.instruments.threads, procfs::named(&status, "Threads"));
    }

    fn tick_io(&self) {
        let io = |text: &str| Some([procfs::named(text, "read_bytes")?, procfs::named(text, "write_bytes")?]);
        for (direction, bytes) in ["read", "write"].into_iter().zip(read("/proc/self/io", io).into_iter().flatten()) {
            self.instruments.disk.with([("disk.io.direction", direction)]).advance_to(bytes);
        }
        level(&self.instruments.descriptors, open_descriptors());
        level(&self.instruments.descriptor_limit, read("/proc/self/limits", procfs::open_files_limit));
    }

    /// Linux tells them for each thread only.
    fn tick_switches(&mut self) {
        let Ok(threads) = fs::read_dir("/proc/self/task") else {
            return;
        };
        let (mut now, mut more) = (HashMap::new(), Switches::default());
        for thread in threads.flatten().take(MOST_THREADS) {
            let id = thread.file_name().to_str().and_then(|name| name.parse().ok());
            let (Some(id), Some(switches)) = (id, read(thread.path().join("status"), switches)) else {
                continue;
            };
            let before = self.threads.get(&id).copied().unwrap_or_default();
            more.voluntary += switches.voluntary.saturating_sub(before.voluntary);
            more.involuntary += switches.involuntary.saturating_sub(before.involuntary);
            now.insert(id, switches);
        }
        self.threads = now;
        for (kind, count) in [("voluntary", more.voluntary), ("involuntary", more.involuntary)] {
            self.instruments.switches.with([("process.context_switch.type", kind)]).add(count);
        }
    }
}

impl Source for ProcessSource {
    fn tick(&mut self, now: Instant) {
        self.tick_stat(now);
        self.tick_status();
        self.tick_io();
        self.tick_switches();
        self.system.tick();
        self.cgroup.tick();
    }
}

impl fmt::Debug for ProcessSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSource").finish_non_exhaustive()
    }
}

impl Instruments {
    fn new(registry: &Registry) -> Self {
        let level =
            |name, unit: &'static str, text: &'static str| registry.up_down_counter(name).unit(unit).description(text);
        let counter =
            |name, unit: &'static str, text: &'static str| registry.counter(name).unit(unit).description(text);
        let gauge = |name, unit: &'static str, text: &'static str| registry.gauge(name).unit(unit).description(text);
        Self {
            cpu_time: registry.time_counter("process.cpu.time").description("Processor time that the process used"),
            cpu_utilization: gauge("process.cpu.utilization", "1", "The part of all processors that the process used"),
            memory: level("process.memory.usage", "By", "Physical memory in use"),
            virtual_memory: level("process.memory.virtual", "By", "Virtual memory"),
            disk: counter("process.disk.io", "By", "Bytes from and to disks"),
            faults: counter("process.paging.faults", "{fault}", "Page faults"),
            switches: counter("process.context_switches", "{context_switch}", "Context switches"),
            threads: level("process.thread.count", "{thread}", "Threads"),
            descriptors: level("process.unix.file_descriptor.count", "{file_descriptor}", "Open file descriptors"),
            descriptor_limit: level(
                "buttress.process.file_descriptor.limit",
                "{file_descriptor}",
                "How many file descriptors may be open",
            ),
            uptime: gauge("process.uptime", "s", "How long the process runs"),
        }
    }
}

/// What a parser makes of a file; `None` as well when there is no such file.
pub(super) fn read<T>(path: impl AsRef<Path>, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    // The names in these files may be any bytes.
    parse(&String::from_utf8_lossy(&fs::read(path).ok()?))
}

/// Sets what OpenTelemetry calls a sum that rises and falls.
pub(super) fn level(family: &Family<UpDownCounter>, value: Option<u64>) {
    let Some(value) = value.and_then(|value| i64::try_from(value).ok()) else {
        return;
    };
    let series = family.with(());
    series.add(value - series.value());
}

fn switches(status: &str) -> Option<Switches> {
    Some(Switches {
        voluntary: procfs::named(status, "voluntary_ctxt_switches")?,
        involuntary: procfs::named(status, "nonvoluntary_ctxt_switches")?,
    })
}

fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the folder's size is their number; before that it is 0, and they have to be counted.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // One of them is the folder itself while it is read.
        0 => fs::read_dir("/proc/self/fd").ok().map(|open| (open.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_that_a_thread_wanted_are_told_from_those_that_it_did_not() {
        let status = "Threads:\t9\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        let Switches { voluntary, involuntary } = switches(status).expect("both are told");
        assert_eq!((voluntary, involuntary), (150, 7));
        assert!(switches("nonvoluntary_ctxt_switches:\t7\n").is_none());
    }
}
