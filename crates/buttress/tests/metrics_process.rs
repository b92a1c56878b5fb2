//! What the operating system tells of this very process.
#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::time::Duration;

use buttress::metrics::source::ProcessSource;
use buttress::metrics::{Kind, Point, Registry, Stored};

/// The number of each series, by name and label.
fn numbers(registry: &Registry) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for family in registry.snapshot().families {
        for series in family.series {
            let labels: Vec<String> = series.labels.iter().map(|label| label.value.to_string()).collect();
            let number = match series.point {
                Point::Int(number) => number as f64,
                Point::Float(number) => number,
                other => panic!("{other:?}"),
            };
            numbers.insert([family.name.to_string(), labels.join(" ")].join(" ").trim().to_owned(), number);
        }
    }
    numbers
}

fn watched() -> Registry {
    let registry = Registry::new();
    registry.add_source(ProcessSource::new(&registry));
    registry
}

#[test]
fn nothing_is_read_before_the_first_tick() {
    let registry = watched();
    assert!(registry.snapshot().families.is_empty());
    registry.tick();
    assert!(numbers(&registry)["process.uptime"] >= 0.0);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn the_process_is_told_in_opentelemetrys_names() {
    let registry = watched();
    registry.tick();
    let numbers = numbers(&registry);
    for name in [
        "process.cpu.time user",
        "process.cpu.time system",
        "process.memory.usage",
        "process.memory.virtual",
        "process.thread.count",
        "process.unix.file_descriptor.count",
        "process.context_switches voluntary",
        "process.context_switches involuntary",
        "process.paging.faults minor",
        "process.paging.faults major",
        "process.uptime",
        "system.cpu.time idle",
        "system.memory.usage used",
        "system.memory.limit",
        "system.linux.memory.available",
        "buttress.process.file_descriptor.limit",
    ] {
        assert!(numbers.contains_key(name), "no {name} among {numbers:?}");
    }
    assert!(numbers["process.memory.usage"] > 65536.0);
    // Stacks and libraries are never all in memory.
    assert!(numbers["process.memory.usage"] < numbers["process.memory.virtual"]);
    assert!(numbers["system.linux.memory.available"] <= numbers["system.memory.limit"]);
    assert!(numbers["process.unix.file_descriptor.count"] <= numbers["buttress.process.file_descriptor.limit"]);
    assert!(numbers["process.thread.count"] >= 1.0);
    assert!(numbers["process.unix.file_descriptor.count"] >= 3.0);
    assert!(numbers["process.paging.faults minor"] > 0.0);
    let states: f64 = ["used", "free", "buffers", "cached"]
        .map(|state| numbers[&format!("system.memory.usage {state}")])
        .iter()
        .sum();
    assert_eq!(states, numbers["system.memory.limit"]);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn what_goes_to_disks_and_networks_is_told_where_the_system_tells_of_it() {
    let registry = watched();
    registry.tick();
    let numbers = numbers(&registry);
    let read = |file: &str| std::fs::read_to_string(file).ok();
    let has_disk = |line: &str| {
        let name = line.split_ascii_whitespace().nth(2).unwrap_or_default();
        std::path::Path::new("/sys/block").join(name).join("device").exists()
    };
    let is_network = |line: &str| line.split_once(':').is_some_and(|(name, _)| name.trim() != "lo");
    for (is_told, names) in [
        (read("/proc/self/io").is_some(), ["process.disk.io read", "process.disk.io write"]),
        (
            read("/proc/diskstats").is_some_and(|text| text.lines().any(has_disk)),
            ["system.disk.io read", "system.disk.io write"],
        ),
        (
            read("/proc/net/dev").is_some_and(|text| text.lines().any(is_network)),
            ["system.network.io receive", "system.network.io transmit"],
        ),
    ] {
        assert_eq!(names.map(|name| numbers.contains_key(name)), [is_told; 2], "{names:?}: {numbers:?}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn levels_follow_what_is_there_and_counters_never_go_back() {
    let registry = watched();
    registry.tick();
    let before = numbers(&registry);
    let open: Vec<_> = (0..50).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
    let memory = vec![1_u8; 64 << 20];
    registry.tick();
    let during = numbers(&registry);
    assert!(during["process.unix.file_descriptor.count"] >= before["process.unix.file_descriptor.count"] + 40.0);
    assert!(during["process.memory.usage"] >= before["process.memory.usage"] + f64::from(32 << 20));
    drop((open, std::hint::black_box(memory)));
    registry.tick();
    let after = numbers(&registry);
    assert!(after["process.unix.file_descriptor.count"] < during["process.unix.file_descriptor.count"] - 20.0);
    for family in registry.snapshot().families.iter().filter(|family| family.kind == Kind::Counter) {
        for name in during.keys().filter(|name| name.starts_with(&*family.name)) {
            assert!(after[name] >= during[name], "{name} went back");
        }
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn utilization_is_told_from_the_second_tick_on() {
    let registry = watched();
    let start = tokio::time::Instant::now();
    registry.tick_at(start);
    assert!(!numbers(&registry).contains_key("process.cpu.utilization user"));
    registry.tick_at(start + Duration::from_secs(10));
    assert!((0.0..=1.0).contains(&numbers(&registry)["process.cpu.utilization user"]));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn two_registries_of_one_process_agree() {
    // Sums of the same process agree, whichever registry holds them.
    let (one, other) = (watched(), watched());
    one.tick();
    other.tick();
    let (one, other) = (numbers(&one), numbers(&other));
    assert_eq!(one["system.memory.limit"], other["system.memory.limit"]);
    assert!(one["process.cpu.time user"] <= other["process.cpu.time user"]);
}

#[test]
fn labels_are_few_and_closed() {
    let registry = watched();
    registry.tick();
    registry.tick();
    for family in registry.snapshot().families {
        assert!(family.series.len() <= 7, "{} has {} series", family.name, family.series.len());
        assert!(!family.description.is_empty() && !family.unit.is_empty(), "{}", family.name);
        for label in family.series.iter().flat_map(|series| series.labels.iter()) {
            assert!(matches!(label.value, Stored::Text(_)));
        }
    }
}
