//! What the operating system tells of this very process.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

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
    assert!(after["process.memory.usage"] <= during["process.memory.usage"] - f64::from(32 << 20));
    for family in registry.snapshot().families.iter().filter(|family| family.kind == Kind::Counter) {
        for name in during.keys().filter(|name| name.starts_with(&*family.name)) {
            assert!(after[name] >= during[name], "{name} went back");
        }
    }
}

/// The number at a place of a line of `/proc`, counted from the first behind what the line begins with.
fn at(file: &str, line: &str, place: usize) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|text| text.trim_start().strip_prefix(line))?;
    rest.split_ascii_whitespace().nth(place)?.parse().ok()
}

/// Fields 14 and 15 of `/proc/self/stat`, in hundredths of a second: user and system.
fn cpu() -> [f64; 2] {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    [11, 12].map(|place| fields.split_ascii_whitespace().nth(place).unwrap().parse().unwrap())
}

/// Computes until the process has used that much more of its own than of the system's.
fn compute(hundredths: f64) {
    let [user, system] = cpu();
    let least = user.max(system) + hundredths;
    while cpu()[0] < least {
        (0..100_000_u64).for_each(|number| {
            std::hint::black_box(number * number);
        });
    }
}

/// Each of these is told as something between what the system says before and after.
fn are_between<const N: usize>(told: [&str; N], read: impl Fn() -> Option<[f64; N]>) {
    let registry = watched();
    let before = read();
    registry.tick();
    let (Some(before), Some(after)) = (before, read()) else {
        return;
    };
    let numbers = numbers(&registry);
    for (nth, name) in told.into_iter().enumerate() {
        let (least, most) = (before[nth] - 1e-6, after[nth] + 1e-6);
        assert!((least..=most).contains(&numbers[name]), "{name}: {} in {least}..={most}", numbers[name]);
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn processor_time_is_told_by_its_mode() {
    compute(5.0);
    are_between(["process.cpu.time user", "process.cpu.time system"], || {
        Some(cpu().map(|hundredths| hundredths / 100.0))
    });
    let modes = ["user", "nice", "system", "idle"].map(|mode| format!("system.cpu.time {mode}"));
    are_between(modes.each_ref().map(String::as_str), || {
        let time = |place| Some(at("/proc/stat", "cpu ", place)? / 100.0);
        Some([time(0)?, time(1)?, time(2)?, time(3)?])
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn bytes_are_told_by_their_direction() {
    let file = std::env::temp_dir().join(format!("buttress-process-{}", std::process::id()));
    std::fs::write(&file, vec![1; 1 << 20]).unwrap();
    are_between(["process.disk.io read", "process.disk.io write"], || {
        let bytes = |name| at("/proc/self/io", name, 0);
        Some([bytes("read_bytes:")?, bytes("write_bytes:")?])
    });
    std::fs::remove_file(&file).unwrap();
    are_between(["system.network.io receive", "system.network.io transmit"], || {
        let text = std::fs::read_to_string("/proc/net/dev").ok()?;
        let others = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
        let bytes = |(_, values): (&str, &str)| {
            let values: Vec<f64> = values.split_ascii_whitespace().map(|value| value.parse().unwrap()).collect();
            [values[0], values[8]]
        };
        others.map(bytes).reduce(|sum, one| [sum[0] + one[0], sum[1] + one[1]])
    });
    let is_disk = |name: &str| std::path::Path::new("/sys/block").join(name).join("device").exists();
    are_between(["system.disk.io read", "system.disk.io write"], || {
        let text = std::fs::read_to_string("/proc/diskstats").ok()?;
        let fields = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let bytes = |fields: Vec<&str>| [5, 9].map(|field| 512.0 * fields[field].parse::<f64>().unwrap());
        let disks = fields.filter(|fields| is_disk(fields[2])).map(bytes);
        disks.reduce(|sum, one| [sum[0] + one[0], sum[1] + one[1]])
    });
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn the_uptime_is_that_of_the_process() {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let started: f64 = fields.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    are_between(["process.uptime"], || Some([at("/proc/uptime", "", 0)? - started / 100.0]));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn threads_are_those_of_the_process_and_their_switches_are_counted_once() {
    let registry = watched();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (answer, answered) = std::sync::mpsc::channel();
    let answering = std::thread::spawn(move || asked.into_iter().for_each(|()| answer.send(()).unwrap()));
    for _ in 0..5000 {
        ask.send(()).unwrap();
        answered.recv().unwrap();
    }
    let own = at("/proc/thread-self/status", "voluntary_ctxt_switches:", 0).unwrap();
    registry.tick();
    let first = numbers(&registry);
    assert!(first["process.thread.count"] >= 2.0);
    assert!(own > 100.0 && first["process.context_switches voluntary"] >= own);
    registry.tick();
    let more = numbers(&registry)["process.context_switches voluntary"] - first["process.context_switches voluntary"];
    assert!(more < own, "{more} after {own}");
    drop(ask);
    answering.join().unwrap();
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn utilization_is_the_part_of_all_processors_from_the_second_tick_on() {
    let registry = watched();
    let start = tokio::time::Instant::now();
    registry.tick_at(start);
    let before = numbers(&registry);
    assert!(!before.contains_key("process.cpu.utilization user"));
    compute(5.0);
    registry.tick_at(start + Duration::from_secs(10));
    let after = numbers(&registry);
    let processors = std::thread::available_parallelism().unwrap().get() as f64;
    for mode in ["user", "system"] {
        let time = format!("process.cpu.time {mode}");
        let part = (after[&time] - before[&time]) / (10.0 * processors);
        assert!((after[&format!("process.cpu.utilization {mode}")] - part).abs() < 1e-9, "{mode}");
    }
    assert!(after["process.cpu.utilization user"] > 0.0);
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
