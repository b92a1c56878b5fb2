//! What the control group of the process uses and may use; version 2.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{level, read};
use super::procfs;
use crate::metrics::{Family, Gauge, Registry, TimeCounter, UpDownCounter};

const ROOT: &str = "/sys/fs/cgroup";

pub(super) struct Cgroup {
    cpu_time: Family<TimeCounter>,
    cpu_limit: Family<Gauge>,
    throttled: Family<TimeCounter>,
    memory: Family<UpDownCounter>,
    memory_limit: Family<UpDownCounter>,
}

impl Cgroup {
    pub(super) fn new(registry: &Registry) -> Self {
        let time = |name, text: &'static str| registry.time_counter(name).description(text);
        let level = |name, text: &'static str| registry.up_down_counter(name).unit("By").description(text);
        Self {
            cpu_time: time("container.cpu.time", "Processor time of the control group"),
            cpu_limit: registry
                .gauge("buttress.cgroup.cpu.limit")
                .unit("{cpu}")
                .description("How many processors the control group may use"),
            throttled: time(
                "buttress.cgroup.cpu.throttled_time",
                "How long the control group had to wait for its share",
            ),
            memory: level("container.memory.usage", "Memory of the control group"),
            memory_limit: level("buttress.cgroup.memory.limit", "How much memory the control group may use"),
        }
    }

    pub(super) fn tick(&self) {
        let within =
            |text: &str| procfs::cgroup_path(text).map(|path| Path::new(ROOT).join(path.trim_start_matches('/')));
        if let Some(group) = read("/proc/self/cgroup", within) {
            self.tick_group(Path::new(ROOT), &group);
        }
    }

    fn tick_group(&self, root: &Path, group: &Path) {
        read(group.join("cpu.stat"), |text| {
            let time = |name| procfs::keyed(text, name).map(Duration::from_micros);
            self.cpu_time.with([("cpu.mode", "user")]).advance_to(time("user_usec")?);
            self.cpu_time.with([("cpu.mode", "system")]).advance_to(time("system_usec")?);
            // Not there in a group without the cpu controller.
            self.throttled.with(()).advance_to(time("throttled_usec")?);
            Some(())
        });
        level(&self.memory, read(group.join("memory.current"), procfs::amount));

        let groups = || group.ancestors().take_while(|group| group.starts_with(root)).map(PathBuf::from);
        let limits = groups().filter_map(|group| read(group.join("memory.max"), procfs::amount));
        level(&self.memory_limit, limits.min());
        let limits = groups().filter_map(|group| read(group.join("cpu.max"), procfs::cpu_max));
        if let Some(limit) = limits.min_by(f64::total_cmp) {
            self.cpu_limit.with(()).set(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_limit_is_the_least_of_the_group_and_of_those_above_it() {
        let root = std::env::temp_dir().join(format!("buttress-cgroup-{}", std::process::id()));
        let group = root.join("slice/service");
        fs::create_dir_all(&group).unwrap();
        let write = |file: &str, text: &str| fs::write(root.join(file), text).unwrap();
        write("slice/memory.max", "1000\n");
        write("slice/service/memory.max", "max\n");
        write("slice/service/memory.current", "600\n");
        write("slice/cpu.max", "max 100000\n");
        write("slice/service/cpu.max", "50000 100000\n");
        write("slice/service/cpu.stat", "usage_usec 5\nuser_usec 3000000\nsystem_usec 2\nthrottled_usec 4000000\n");

        let registry = Registry::new();
        let cgroup = Cgroup::new(&registry);
        cgroup.tick_group(&root, &group);
        assert_eq!(cgroup.memory_limit.with(()).value(), 1000);
        assert_eq!(cgroup.memory.with(()).value(), 600);
        assert_eq!(cgroup.cpu_limit.with(()).value(), 0.5);
        assert_eq!(cgroup.cpu_time.with([("cpu.mode", "user")]).value(), Duration::from_secs(3));
        assert_eq!(cgroup.cpu_time.with([("cpu.mode", "system")]).value(), Duration::from_micros(2));
        assert_eq!(cgroup.throttled.with(()).value(), Duration::from_secs(4));

        // One above it that allows more changes nothing, and one that allows less counts.
        write("memory.max", "2000\n");
        write("cpu.max", "90000 100000\n");
        write("slice/cpu.max", "20000 100000\n");
        cgroup.tick_group(&root, &group);
        assert_eq!((cgroup.memory_limit.with(()).value(), cgroup.cpu_limit.with(()).value()), (1000, 0.2));

        fs::remove_dir_all(&root).unwrap();
        let nothing = Registry::new();
        Cgroup::new(&nothing).tick_group(&root, &group);
        assert!(nothing.snapshot().families.is_empty());
    }
}
