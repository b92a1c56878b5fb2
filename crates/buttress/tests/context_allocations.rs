//! What the context costs in heap allocations: row P8.
#![allow(unsafe_code, reason = "counting allocations takes a global allocator, and that trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, pending};
use std::hint::black_box;
use std::pin::pin;
use std::task::Waker;

use buttress::context::{self, Baggage, Context, InContext, TraceContext, TraceState};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

// A name that is given as text would be copied.
const TRACEPARENT_NAME: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE_NAME: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE_NAME: HeaderName = HeaderName::from_static("baggage");
const TRACEPARENT: &str = "00-0123456789abcdeffedcba9876543210-89abcdef01234567-03";
const TRACESTATE: &str = "ours=00f067aa0ba902b7,tenant@vendor=t61rcWkgMzE,foo= 1 2";
const BAGGAGE: &str = "tenant=acme;ttl=60, note=caf%C3%A9,filter=a=b";

/// The allocator of the system, and how much this thread has asked of it.
struct Counting;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    times: usize,
    bytes: usize,
}

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { times: 0, bytes: 0 }) };
}

impl Counting {
    fn count(bytes: usize) {
        // A cell without a destructor: it can be reached as long as its thread runs.
        ASKED.with(|asked| {
            let Asked { times, bytes: before } = asked.get();
            asked.set(Asked { times: times + 1, bytes: before + bytes });
        });
    }
}

// SAFETY: every call goes to the system's allocator with the arguments that came; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: the caller keeps the contract of `realloc`, and the block came from the system's allocator.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the block came from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn asked(work: impl FnOnce()) -> Asked {
    let before = ASKED.get();
    work();
    let after = ASKED.get();
    Asked { times: after.times - before.times, bytes: after.bytes - before.bytes }
}

fn allocations(work: impl FnOnce()) -> usize {
    asked(work).times
}

fn headers(value: impl Fn(&'static str) -> HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([
        (TRACEPARENT_NAME, value(TRACEPARENT)),
        (TRACESTATE_NAME, value(TRACESTATE)),
        (BAGGAGE_NAME, value(BAGGAGE)),
    ])
}

/// A value as a server gives it: a part of the buffer that holds the whole head.
fn shared(text: &'static str) -> HeaderValue {
    let buffer = Bytes::from(format!("name: {text}\r\n"));
    let _head = buffer.clone();
    HeaderValue::from_maybe_shared(buffer.slice(6..6 + text.len())).expect("the constants are valid")
}

/// Reads all three headers and puts them into the head of another request.
fn pass_on(from: &HeaderMap, to: &mut HeaderMap) {
    let context = TraceContext::from_headers(from).expect("well formed").expect("there is one");
    let state = TraceState::from_headers(from).expect("well formed");
    let baggage = Baggage::from_headers(from);
    black_box(context.encode());
    to.insert(TRACESTATE_NAME, state.header().expect("not empty").clone());
    to.insert(BAGGAGE_NAME, baggage.header().expect("not empty").clone());
}

/// A context that holds everything, its allocations done.
fn laden() -> Context {
    let headers = headers(HeaderValue::from_static);
    Context::from_trace(TraceContext::from_headers(&headers).expect("well formed").expect("there is one"))
        .with_tracestate(TraceState::from_headers(&headers).expect("well formed"))
        .with_baggage(Baggage::from_headers(&headers))
}

#[test]
fn the_counter_counts() {
    let seen = asked(|| drop(black_box(Vec::<u8>::with_capacity(100))));
    assert_eq!(seen, Asked { times: 1, bytes: 100 });
}

#[test]
fn passing_static_headers_on_allocates_nothing() {
    let came = headers(HeaderValue::from_static);
    let mut sent = HeaderMap::with_capacity(8);
    assert_eq!(allocations(|| pass_on(&came, &mut sent)), 0);
    assert_eq!((&sent["tracestate"], &sent["baggage"]), (&came["tracestate"], &came["baggage"]));
}

#[test]
fn passing_headers_of_a_shared_buffer_on_allocates_nothing() {
    let came = headers(shared);
    let mut sent = HeaderMap::with_capacity(8);
    assert_eq!(allocations(|| pass_on(&came, &mut sent)), 0);
    assert_eq!((&sent["tracestate"], &sent["baggage"]), (&came["tracestate"], &came["baggage"]));
}

#[test]
fn what_is_passed_on_is_the_same_memory() {
    let came = headers(shared);
    let mut sent = HeaderMap::with_capacity(8);
    pass_on(&came, &mut sent);
    assert_eq!(came["tracestate"].as_bytes().as_ptr(), sent["tracestate"].as_bytes().as_ptr());
    assert_eq!(came["baggage"].as_bytes().as_ptr(), sent["baggage"].as_bytes().as_ptr());
}

#[test]
fn headers_that_are_not_there_allocate_nothing() {
    let none = HeaderMap::new();
    let seen = allocations(|| {
        assert_eq!(TraceContext::from_headers(&none), Ok(None));
        assert_eq!(TraceState::from_headers(&none), Ok(TraceState::EMPTY));
        assert_eq!(Baggage::from_headers(&none), Baggage::EMPTY);
    });
    assert_eq!(seen, 0);
}

#[test]
fn reading_members_allocates_nothing() {
    let context = laden();
    let seen = allocations(|| {
        assert_eq!(context.tracestate().get("tenant@vendor"), Some("t61rcWkgMzE"));
        assert_eq!(context.tracestate().iter().count(), 3);
        assert_eq!(context.baggage().get("filter").as_deref(), Some("a=b"));
        assert_eq!(context.baggage().iter().count(), 3);
    });
    assert_eq!(seen, 0);
}

#[test]
fn the_traceparent_header_is_one_allocation() {
    let context = TraceContext::random();
    assert_eq!(allocations(|| drop(black_box(context.to_header()))), 1);
}

#[test]
fn a_state_with_a_changed_member_is_written_once() {
    let mut state = laden().tracestate().clone();
    // The member, and the joined members.
    assert_eq!(allocations(|| state.insert("ours", "b7ad6b7169203331").unwrap()), 2);
}

// Limits hold before anything is allocated

#[test]
fn a_refused_trace_state_allocates_nothing() {
    let long = "k".repeat(1 << 20);
    let many = "k=v,".repeat(1 << 18);
    let other: Vec<String> = (0..10_000).map(|at| format!("k{at}=v")).collect();
    let other = other.join(",");
    let seen = allocations(|| {
        assert!(TraceState::parse([long.as_bytes()]).is_err());
        assert!(TraceState::parse([many.as_bytes(), b"="]).is_err());
        assert!(TraceState::parse([other.as_bytes()]).is_err());
    });
    assert_eq!(seen, 0);
}

#[test]
fn a_refused_traceparent_allocates_nothing() {
    let long = "0".repeat(1 << 20);
    assert_eq!(allocations(|| assert!(TraceContext::parse(long.as_bytes()).is_err())), 0);
}

#[test]
fn a_baggage_member_that_cannot_fit_allocates_nothing() {
    let long = format!("k={}", "\"".repeat(1 << 20));
    let commas = ",".repeat(1 << 20);
    let seen = allocations(|| {
        assert!(Baggage::parse([long.as_bytes()]).is_empty());
        assert!(Baggage::parse([commas.as_bytes()]).is_empty());
    });
    assert_eq!(seen, 0);
}

#[test]
fn a_flood_of_baggage_allocates_a_few_times_its_limit() {
    let member = format!("k={},", "\"".repeat(2000));
    let flood = member.repeat(1000);
    let seen = asked(|| assert!(!Baggage::parse([flood.as_bytes(), flood.as_bytes()]).is_empty()));
    assert!(seen.bytes <= 8 * Baggage::MAX_LENGTH, "{seen:?}");
}

#[test]
fn an_inserted_value_that_cannot_fit_allocates_nothing() {
    let long = "\"".repeat(1 << 20);
    let mut baggage = laden().baggage().clone();
    assert_eq!(allocations(|| assert!(baggage.insert("k", &long).is_err())), 0);
}

// Carrying

#[test]
fn a_context_is_made_cloned_and_given_children_without_allocating() {
    let parent = laden();
    black_box(Context::root());
    let seen = allocations(|| {
        black_box(Context::root());
        black_box(parent.clone());
        black_box(parent.child());
    });
    assert_eq!(seen, 0);
}

#[test]
fn entering_and_asking_allocate_nothing() {
    let context = laden();
    let seen = allocations(|| {
        context.enter(|| {
            black_box(context::current());
            black_box(context::active());
            black_box(context::log_fields());
            context::with_current(|current| assert!(current.is_some()));
        });
    });
    assert_eq!(seen, 0);
}

#[test]
fn making_polling_and_dropping_a_scope_allocate_nothing() {
    let context = laden();
    let mut cx = std::task::Context::from_waker(Waker::noop());
    let seen = allocations(|| {
        let mut scope = pin!(context.clone().scope(pending::<()>()));
        for _ in 0..3 {
            assert!(scope.as_mut().poll(&mut cx).is_pending());
        }
        let bound = context.enter(|| async { context::current().is_some() }.in_context());
        assert!(pin!(bound).poll(&mut cx).is_ready());
    });
    assert_eq!(seen, 0);
}
