//! What the system has and uses.

use std::path::Path;

use super::process::{level, read};
use super::procfs::{self, CPU_MODES, Io};
use crate::metrics::{Counter, Family, Registry, TimeCounter, UpDownCounter};

pub(super) struct System {
    cpu_time: Family<TimeCounter>,
    memory: Family<UpDownCounter>,
    memory_limit: Family<UpDownCounter>,
    memory_available: Family<UpDownCounter>,
    disk: Family<Counter>,
    network: Family<Counter>,
}

impl System {
    pub(super) fn new(registry: &Registry) -> Self {
        let level = |name, text: &'static str| registry.up_down_counter(name).unit("By").description(text);
        let counter = |name, text: &'static str| registry.counter(name).unit("By").description(text);
        Self {
            cpu_time: registry.time_counter("system.cpu.time").description("Time of all processors together"),
            memory: level("system.memory.usage", "Memory by what it is used for"),
            memory_limit: level("system.memory.limit", "Memory there is"),
            memory_available: level("system.linux.memory.available", "Memory that programs can get without swapping"),
            disk: counter("system.disk.io", "Bytes from and to disks"),
            network: counter("system.network.io", "Bytes from and to the network"),
        }
    }

    pub(super) fn tick(&self) {
        if let Some(times) = read("/proc/stat", procfs::cpu_modes) {
            for (mode, time) in CPU_MODES.into_iter().zip(times) {
                self.cpu_time.with([("cpu.mode", mode)]).advance_to(time);
            }
        }
        read("/proc/meminfo", |text| self.tick_memory(text));
        // Virtual devices and those that are stacked on others have no device of their own below them.
        let is_disk = |name: &str| !name.contains('/') && Path::new("/sys/block").join(name).join("device").exists();
        count(
            &self.disk,
            "disk.io.direction",
            ["read", "write"],
            read("/proc/diskstats", |text| procfs::disks(text, is_disk)),
        );
        let network = read("/proc/net/dev", procfs::network);
        count(&self.network, "network.io.direction", ["receive", "transmit"], network);
    }

    fn tick_memory(&self, text: &str) -> Option<()> {
        let [total, free, buffers] = [named(text, "MemTotal")?, named(text, "MemFree")?, named(text, "Buffers")?];
        // Caches of the kernel that it gives back count as `free` does it.
        let cached = named(text, "Cached")?.saturating_add(named(text, "SReclaimable").unwrap_or(0));
        let used = total.saturating_sub(free).saturating_sub(buffers).saturating_sub(cached);
        for (state, bytes) in [("used", used), ("free", free), ("buffers", buffers), ("cached", cached)] {
            let series = self.memory.with([("system.memory.state", state)]);
            series.add(i64::try_from(bytes).ok()? - series.value());
        }
        level(&self.memory_limit, Some(total));
        level(&self.memory_available, named(text, "MemAvailable"));
        Some(())
    }
}

fn named(text: &str, name: &str) -> Option<u64> {
    procfs::named(text, name)
}

fn count(family: &Family<Counter>, label: &str, [from, to]: [&str; 2], io: Option<Io>) {
    if let Some(io) = io {
        family.with([(label, from)]).advance_to(io.from);
        family.with([(label, to)]).advance_to(io.to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_by_its_state_as_free_does_it() {
        let registry = Registry::new();
        let system = System::new(&registry);
        let text = "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 620 kB\nBuffers: 100 kB\nCached: 200 kB\n\
                    SReclaimable: 50 kB\n";
        assert_eq!(system.tick_memory(text), Some(()));
        let states = ["used", "free", "buffers", "cached"];
        let told = states.map(|state| system.memory.with([("system.memory.state", state)]).value() / 1024);
        assert_eq!(told, [250, 400, 100, 250]);
        let [limit, available] = [&system.memory_limit, &system.memory_available].map(|level| level.with(()).value());
        assert_eq!((limit / 1024, available / 1024), (1000, 620));
    }
}
