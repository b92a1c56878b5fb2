//! What Linux tells in `/proc` and in control groups: texts to numbers, and nothing else (proc(5), cgroup-v2.rst).
//!
//! Whatever is missing or malformed is `None`, or is left out of a sum.

use std::time::Duration;

/// The unit of times in `/proc`: `USER_HZ`, which is 100 on every architecture that Rust's standard library runs on.
const TICK: Duration = Duration::from_millis(10);

/// The unit of `/proc/diskstats`, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// Of `/proc/self/stat`, for all threads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) user: Duration,
    pub(super) system: Duration,
    /// Since the system has started.
    pub(super) started: Duration,
}

pub(super) fn stat(text: &str) -> Option<Stat> {
    // The second field is the name of the program, which may hold blanks and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
    // As proc(5) counts them: the first behind the name is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        minor_faults: field(10)?,
        major_faults: field(12)?,
        user: ticks(field(14)?),
        system: ticks(field(15)?),
        started: ticks(field(22)?),
    })
}

/// The number behind a name and a colon, as in `/proc/self/status`, `/proc/self/io` and `/proc/meminfo`. What is told in
/// kB comes in bytes.
pub(super) fn named(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut words = value.split_ascii_whitespace();
    let number = words.next()?.parse::<u64>().ok()?;
    if words.next() == Some("kB") { number.checked_mul(1024) } else { Some(number) }
}

/// The first number of `/proc/uptime`: how long the system runs.
pub(super) fn uptime(text: &str) -> Option<Duration> {
    let seconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The soft limit of `/proc/self/limits`; `None` when there is none.
pub(super) fn open_files_limit(text: &str) -> Option<u64> {
    let values = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    values.split_ascii_whitespace().next()?.parse().ok()
}

/// Bytes in one direction and in the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Io {
    /// Read, received.
    pub(super) from: u64,
    /// Written, transmitted.
    pub(super) to: u64,
}

impl Io {
    fn add(&mut self, from: u64, to: u64) {
        self.from = self.from.saturating_add(from);
        self.to = self.to.saturating_add(to);
    }
}

/// The sum of `/proc/net/dev` without the loopback.
pub(super) fn network(text: &str) -> Option<Io> {
    let mut sum = None::<Io>;
    for line in text.lines() {
        let Some((name, values)) = line.split_once(':') else { continue };
        let mut values = values.split_ascii_whitespace().map(|value| value.parse::<u64>().ok());
        // Eight columns each: first of what came in, then of what went out.
        let (received, sent) = (values.next().flatten(), values.nth(7).flatten());
        if let (Some(received), Some(sent), true) = (received, sent, name.trim() != "lo") {
            sum.get_or_insert_default().add(received, sent);
        }
    }
    sum
}

/// The sum of `/proc/diskstats` over the devices that are disks: partitions and what is stacked on disks count twice
/// otherwise.
pub(super) fn disks(text: &str, is_disk: impl Fn(&str) -> bool) -> Option<Io> {
    let mut sum = None::<Io>;
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let [_, _, name, _, _, read, _, _, _, written] = fields[..] else { continue };
        let (Ok(read), Ok(written)) = (read.parse::<u64>(), written.parse::<u64>()) else { continue };
        if is_disk(name) {
            sum.get_or_insert_default().add(read.saturating_mul(SECTOR), written.saturating_mul(SECTOR));
        }
    }
    sum
}

/// The modes of [`cpu_modes`], in OpenTelemetry's words.
pub(super) const CPU_MODES: [&str; 7] = ["user", "nice", "system", "idle", "iowait", "interrupt", "steal"];

/// How long all processors were in each of [`CPU_MODES`], of `/proc/stat`.
pub(super) fn cpu_modes(text: &str) -> Option<[Duration; 7]> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || Some(ticks(fields.next()?.ok()?));
    let [user, nice, system, idle, iowait, hard, soft] =
        [next()?, next()?, next()?, next()?, next()?, next()?, next()?];
    let steal = next().unwrap_or_default();
    Some([user, nice, system, idle, iowait, hard.saturating_add(soft), steal])
}

/// The path of the process in the tree of control groups, of `/proc/self/cgroup`; `None` without version 2.
pub(super) fn cgroup_path(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // A group outside of what this container sees starts with "/..".
    (path.starts_with('/') && !path.contains("..")).then_some(path)
}

/// A limit or an amount of a control group, such as `memory.max`; `None` for "max".
pub(super) fn amount(text: &str) -> Option<u64> {
    text.trim_ascii().parse().ok()
}

/// `cpu.max` as a number of processors; `None` without a limit.
pub(super) fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    (period > 0).then(|| quota as f64 / period as f64)
}

/// A value of a file whose lines are a name, a blank and a number, such as `cpu.stat`.
pub(super) fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim_ascii().parse().ok()
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(TICK.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str =
        "812 (a (b) c) S 1 812 812 0 -1 4194560 9120 77 13 2 1234 567 1 2 20 0 9 0 4321 3133440 382 1844 1 1";

    #[test]
    fn the_name_of_a_program_may_hold_blanks_and_parentheses() {
        let millis = Duration::from_millis;
        let (user, system, started) = (millis(12_340), millis(5670), millis(43_210));
        assert_eq!(stat(STAT), Some(Stat { minor_faults: 9120, major_faults: 13, user, system, started }));
        assert_eq!(stat("812 (short) S 1 2"), None);
    }

    #[test]
    fn named_numbers_in_kilobytes_come_in_bytes() {
        let status = "Name:\tshop\nVmSize:\t    3060 kB\nVmRSS:\t    1708 kB\nThreads:\t9\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(named(status, "VmRSS"), Some(1708 * 1024));
        assert_eq!(named(status, "Threads"), Some(9));
        assert_eq!(named(status, "voluntary_ctxt_switches"), Some(150));
        assert_eq!(named(status, "Vm"), None);
        assert_eq!(named("VmRSS: 18446744073709551615 kB", "VmRSS"), None);
    }

    #[test]
    fn the_network_is_every_interface_but_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 22603953  187380    0    0    0     0          0         0 22603953  187380    0    0    0     0       0          0
  eth0: 379031109   20722    0    0    0     0          0         0  1297853   12654    0    0    0     0       0          0
  eth1:100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0
";
        assert_eq!(network(text), Some(Io { from: 379_031_209, to: 1_298_053 }));
        assert_eq!(network("    lo: 1 2 3 4 5 6 7 8 9 10"), None);
    }

    #[test]
    fn disks_are_counted_in_sectors_of_512_bytes_and_without_their_partitions() {
        let text = " 254       0 vda 1134581 62786 55763410 2804136 88126 227382 89457480 472148 0 162732 3297033 108683 44 52261240 20648 1741 99
 254       1 vda1 1 1 1000 1 1 1 1000 1 0 1 1
   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0
";
        assert_eq!(disks(text, |name| name == "vda"), Some(Io { from: 55_763_410 * 512, to: 89_457_480 * 512 }));
        assert_eq!(disks(text, |_| false), None);
    }

    #[test]
    fn the_time_of_processors_is_split_as_opentelemetry_does() {
        let text = "cpu  526189 10 115843 1769069 9939 5 839 330 0 0\ncpu0 241761 0 53957 913063 1868 0 134 158 0 0\n";
        let expected = [526_189, 10, 115_843, 1_769_069, 9939, 844, 330].map(|ticks| Duration::from_millis(ticks * 10));
        assert_eq!(cpu_modes(text), Some(expected));
        assert_eq!(cpu_modes("cpu0 1 2 3 4 5 6 7"), None);
    }

    #[test]
    fn control_groups_of_version_two_are_read_and_those_of_version_one_are_not() {
        let mixed = "9:name=systemd:/\n4:memory:/elsewhere\n0::/system.slice/shop.service\n";
        assert_eq!(cgroup_path(mixed), Some("/system.slice/shop.service"));
        assert_eq!(cgroup_path("4:memory:/only/one\n"), None);
        assert_eq!(cgroup_path("0::/../../other"), None);
        assert_eq!((amount("1073741824\n"), amount("max\n")), (Some(1 << 30), None));
        assert_eq!((cpu_max("150000 100000\n"), cpu_max("max 100000\n"), cpu_max("1 0")), (Some(1.5), None, None));
        let stat =
            "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 4\nnr_throttled 2\nthrottled_usec 700\n";
        assert_eq!((keyed(stat, "throttled_usec"), keyed(stat, "user")), (Some(700), None));
    }

    #[test]
    fn limits_and_uptime_are_the_first_of_their_numbers() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            20000                40000                files     \n";
        assert_eq!(open_files_limit(limits), Some(20_000));
        assert_eq!(open_files_limit("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(uptime("12149.35 17690.69\n"), Some(Duration::from_millis(12_149_350)));
        assert_eq!((uptime("-1 0"), uptime("NaN"), uptime("")), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in prop_oneof![
            any::<String>(),
            "[0-9a-z():. \n-]{0,200}",
            "(cpu  ?|eth0:|VmRSS:|Max open files|0::/|1 \\(a\\) S)( [0-9]{1,25}){0,30}( kB)?\n",
        ]) {
            let _ = (stat(&text), named(&text, "VmRSS"), uptime(&text), open_files_limit(&text), network(&text));
            let _ = (disks(&text, |_| true), cpu_modes(&text), cgroup_path(&text), amount(&text), cpu_max(&text));
            let _ = keyed(&text, "a");
        }
    }
}
