//! What every subject records: 4096 durations, in random order, over 64 sets of three labels.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use buttress_benches::subject::{Body, Subject};

pub const METHODS: [&str; 2] = ["GET", "POST"];
pub const STATUSES: [u16; 2] = [200, 404];
pub const ROUTES: usize = 16;
pub const SETS: usize = METHODS.len() * ROUTES * STATUSES.len();
/// Different durations; a power of two.
pub const TIMES: usize = 32;

/// The bounds of the convention, in seconds.
pub const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

pub static WORKLOAD: LazyLock<Workload> = LazyLock::new(Workload::new);

pub struct Workload {
    pub routes: Vec<Arc<str>>,
    pub times: Vec<Duration>,
    events: Vec<Event>,
}

/// One duration to record, as numbers.
#[derive(Clone, Copy)]
pub struct Event {
    method: u8,
    route: u8,
    status: u8,
    time: u8,
}

/// One whose record is a closure.
pub struct Plain<F, S = fn()> {
    pub name: &'static str,
    pub record: F,
    pub settle: S,
}

/// A record as an HTTP layer has it.
pub struct Record<'a> {
    pub method: &'static str,
    pub route: &'a str,
    pub status: u16,
    pub took: Duration,
    /// The number of the set of labels.
    pub set: usize,
}

impl<F: Fn(Record<'_>) + Sync, S: Fn() + Sync> Subject for Plain<F, S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn enter(&self, body: &mut Body<'_>) {
        let events = WORKLOAD.rotated();
        body(&mut |times| {
            for event in events.iter().cycle().take(times) {
                (self.record)(black_box(event.record()));
            }
        });
    }

    fn settle(&self) {
        (self.settle)();
    }
}

/// What the loop itself costs, to be taken off.
pub fn idle() -> Box<dyn Subject> {
    Box::new(Plain {
        name: "loop",
        record: |record: Record<'_>| {
            black_box(record);
        },
        settle: || {},
    })
}

impl Workload {
    fn new() -> Self {
        let mut random = Random(7);
        let event = |random: &mut Random| Event {
            method: (random.next() % METHODS.len() as u64) as u8,
            route: (random.next() % ROUTES as u64) as u8,
            status: (random.next() % STATUSES.len() as u64) as u8,
            time: (random.next() % TIMES as u64) as u8,
        };
        Self {
            routes: (0..ROUTES).map(|nth| format!("/api/v1/things{nth}/{{id}}").into()).collect(),
            times: (0..TIMES).map(|_| Duration::from_micros(random.lognormal())).collect(),
            events: (0..4096).map(|_| event(&mut random)).collect(),
        }
    }

    /// All events, beginning elsewhere each time, so that threads do not walk in step.
    pub fn rotated(&self) -> Vec<Event> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let mut events = self.events.clone();
        events.rotate_left(TURN.fetch_add(1237, Relaxed) % self.events.len());
        events
    }
}

impl Event {
    pub fn record(self) -> Record<'static> {
        let workload = &*WORKLOAD;
        Record {
            method: METHODS[usize::from(self.method)],
            route: &workload.routes[usize::from(self.route)],
            status: STATUSES[usize::from(self.status)],
            took: self.took(),
            set: self.request() * STATUSES.len() + usize::from(self.status),
        }
    }

    /// The number of method and route.
    pub fn request(self) -> usize {
        usize::from(self.route) * METHODS.len() + usize::from(self.method)
    }

    pub fn took(self) -> Duration {
        WORKLOAD.times[usize::from(self.time)]
    }

    pub fn status(self) -> usize {
        self.status.into()
    }
}

/// Method, route and status of each set, by its number.
pub fn sets() -> impl Iterator<Item = (&'static str, &'static str, u16)> {
    (0..SETS).map(|set| {
        let (request, status) = (set / STATUSES.len(), set % STATUSES.len());
        let route: &'static str = &WORKLOAD.routes[request / METHODS.len()];
        (METHODS[request % METHODS.len()], route, STATUSES[status])
    })
}

/// For peers whose labels are text: the cheapest way there is.
pub fn status_text(status: u16) -> &'static str {
    if status == STATUSES[0] { "200" } else { "404" }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Microseconds of a service with a median of 20 ms and some long requests.
    pub fn lognormal(&mut self) -> u64 {
        let (one, other) = (self.unit(), self.unit());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        (20_000.0 * normal.exp()) as u64
    }

    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}
