//! What `#[observe]` allocates, and that it does nothing before a telemetry is installed. One test: the order matters.
#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use allocation_counter::measure;
use buttress::context::{self, Context};
use buttress::trace::{Operation, Sampler, Spans};
use buttress::{Telemetry, observe};

thread_local! {
    static LOOKED_AT: Cell<u32> = const { Cell::new(0) };
}

fn look(id: u64) -> u64 {
    LOOKED_AT.set(LOOKED_AT.get() + 1);
    id
}

#[observe(name = "charge", fields(id = look(id)), slow = "1h", slo = "2h", domain = payment)]
fn charge(id: u64) -> Result<u64, std::io::Error> {
    Ok(id + u64::from(context::current().is_some()))
}

#[observe(name = "refund", fields(id = look(id)))]
async fn refund(id: u64) -> Result<u64, std::io::Error> {
    Ok(id + u64::from(context::current().is_some()))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for nothing"),
    }
}

/// What both return together, and what that allocated.
fn called() -> (u64, u64) {
    let mut returned = 0;
    let counted = measure(|| returned = charge(1).unwrap() + now(refund(1)).unwrap());
    (returned, counted.count_total)
}

fn unsampled() -> Context {
    let off = Operation::new("off", &Spans::new()).sampler(Sampler::always_off()).begin();
    off.context().cloned().unwrap()
}

#[test]
fn nothing_is_allocated_before_there_is_a_telemetry_and_where_a_call_is_not_sampled() {
    assert_eq!(called(), (2, 0), "neither context nor allocation before there is a telemetry");

    let telemetry = Telemetry::from_env("test").unwrap();
    telemetry.install().unwrap();
    let unsampled = unsampled();
    assert_eq!(unsampled.enter(called).0, 4, "the first calls find their series");
    assert_eq!(unsampled.enter(called), (4, 0));
    assert_eq!((LOOKED_AT.get(), telemetry.spans().stats().recorded), (0, 0), "no field is looked at for nobody");

    called();
    assert_eq!((LOOKED_AT.get(), telemetry.spans().stats().recorded), (2, 2));
    let (_, sampled) = called();
    println!("two sampled calls: {sampled} allocations");
    // Each: the recording, the annotations, the attributes.
    assert!(sampled <= 2 * 4, "{sampled}");
    let count =
        |name: &str| telemetry.metrics().up_down_counter("buttress.operation.active").with([("operation.name", name)]);
    assert_eq!((count("charge").value(), count("refund").value()), (0, 0));
}
